"""Groups of variants: by a column, an attribute, or titles that differ by colour, size and count; and sorting."""

from __future__ import annotations

import pytest

from goodrate.ranking.results import Result
from goodrate.ranking.sorting import check_sort, relevant, sorted_results
from goodrate.ranking.title_groups import title_group
from goodrate.ranking.variants import check_group_by, group_of, grouped, one_result
from goodrate.relevance.verdicts import Verdict


def shown(item_id: str, title: str = "", **values: object) -> dict[str, object]:
    plain = {"brand": "", "category": "", "price": None, "rating": None, "parent_id": "", "image": "", "attributes": {}}
    return {"id": item_id, "title": title, **plain, **values}


def result(item_id: str, title: str = "", tier: str | None = None, excluded: bool = False, **values: object) -> Result:
    channels = values.pop("channels", {"lexical": {"rank": 1, "score": 1.0, "share": 1.0}})
    verdict = Verdict("x" if tier else None, (), None, tier) if tier != "unjudged" else None
    return Result(1, shown(item_id, title, **values), 1, 1.0, channels, verdict, excluded)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("titles", "same"),
    [
        (["Velto Orbit USB cable, black, 1.5 m", "Velto Orbit USB Cable - 3m (white)"], True),
        (["Brumm 564 ink, cyan 1 pc(s)", "Brumm 564 ink Light Magenta, pack of 2"], True),
        (["Zorvo women's running shirt blue XL", "ZORVO Women's running shirt, red, M"], True),
        (["Brumm flash drive Turn 16 GB", "Brumm flash drive Turn 32GB"], True),
        (["Gläserset Mona klar, 6 Stück", "Gläserset Mona klar, 12 Stück"], True),
        (["Velto lamp L20 black", "Velto lamp L30 black"], False),  # a model number
        (["Velto bulb E27 40 W", "Velto bulb E27 60 W"], False),  # power is another thing
        (["Velto monitor 2309m Full HD", "Velto monitor 2509m Full HD"], False),  # no metres
        (["Velto Phone 11 case", "Velto Phone 12 case"], False),  # a bare number
        (["Velto DVD+R disc 10 pack", "Velto DVD-R disc 10 pack"], False),
        (["Velto toner cartridge", "Velto toner cartridge"], False),  # too little to go by
        (["red", "red"], False),
    ],
)
def test_titles_that_differ_by_colour_size_and_count_alone(titles: list[str], same: bool) -> None:
    brand = titles[0].split()[0] if titles[0].startswith(("Velto", "Brumm", "Zorvo")) else ""
    first, second = (title_group({"title": title, "brand": brand, "category": ""}, {}, "en") for title in titles)
    assert (first is not None and first == second) == same, (first, second)


def test_other_brands_and_categories_are_other_things_and_own_colours_are_known() -> None:
    lamp = {"title": "Orbit desk lamp E14", "brand": "Velto", "category": "lamps"}
    assert title_group(lamp, {}, "en") != title_group({**lamp, "brand": "Brumm"}, {}, "en")
    assert title_group(lamp, {}, "en") != title_group({**lamp, "category": "toys"}, {}, "en")
    petrol = {**lamp, "title": "Orbit desk lamp E14 Petrol Mist"}
    assert title_group(petrol, {}, "en") != title_group(lamp, {}, "en")
    assert title_group(petrol, {"product_colour": "petrol mist"}, "en") == title_group(lamp, {}, "en")
    assert title_group(petrol, {"installation": "petrol mist"}, "en") == title_group(petrol, {}, "en"), "no talla"


def test_groups_by_column_and_attribute() -> None:
    items = [
        result("p", "parent"),
        result("c1", parent_id="p", brand="Velto", attributes={"form": "round"}),
        result("c2", parent_id="p", brand=" VELTO", attributes={"form": ["Square", "round"]}),
        result("x", attributes={"form": ["round", "square"]}),
    ]

    def ids(name: str) -> list[list[str]]:
        return [[r.item["id"] for r in group] for group in grouped(items, group_of(name, "en"))]

    assert ids("parent_id") == [["p", "c1", "c2"], ["x"]]
    assert ids("brand") == [["p"], ["c1", "c2"], ["x"]], "an empty value is no group"
    assert ids("attributes.form") == [["p"], ["c1"], ["c2", "x"]]


def test_a_group_is_its_first_with_what_differs_in_the_others() -> None:
    common = {"feet": 4, "ean": "1", "colour": "red"}
    first = result("a", "Red stool", attributes=common)
    second = result("b", "Blue stool", price=9.5, image="b.png", attributes={**common, "ean": "2", "colour": "blue"})
    third = result("c", "Old stool", attributes={"feet": 4})
    merged = one_result([first, second, third])
    assert (merged.item["id"], merged.variant_count) == ("a", 2)
    blue, old = merged.variants
    assert (blue.id, blue.title, blue.price, blue.image) == ("b", "Blue stool", 9.5, "b.png")
    assert blue.differing == {"colour": "blue", "ean": "2"} and old.differing == {}
    assert one_result([first]) == first and first.variants == ()


def test_names_are_checked() -> None:
    for good in ("parent_id", "title", "none", "attributes.shoe size"):
        check_group_by(good)
    with pytest.raises(ValueError, match="group_by 'colour': expected parent_id, title, .* or attributes.NAME"):
        check_group_by("colour")
    for good in ("relevance", "price", "-rating", "-attributes.watt"):
        check_sort(good)
    for bad in ("prize", "-relevance", "attributes."):
        with pytest.raises(ValueError, match="expected price, rating or attributes.NAME"):
            check_sort(bad)


def test_sorted_by_a_number_with_the_unknown_last_and_ties_by_relevance() -> None:
    found = [
        result("a", price=5.0, attributes={"watt": 40}),
        result("b", attributes={"watt": "7.5"}),
        result("c", price=3.0, attributes={"watt": "many"}),
        result("d", price=5.0, attributes={"watt": True}),
    ]

    def ids(sort: str) -> str:
        return "".join(r.item["id"] for r in sorted_results(found, sort))

    assert (ids("price"), ids("-price")) == ("cadb", "adcb")
    assert (ids("attributes.watt"), ids("-attributes.watt")) == ("bacd", "abcd")


def test_what_is_worth_sorting() -> None:
    far, near = ({"lexical": {"rank": 1, "score": score, "share": 1.0}} for score in (1.0, 9.0))
    judged = [
        result("g", tier="Good", channels=far), result("b", tier="Bad", channels=near), result("f"),
        result("u", tier="unjudged", channels=near), result("v", tier="unjudged", channels=far),
        result("x", tier="Mid", excluded=True),
    ]  # fmt: skip
    # a verdict decides where there is one; what the judge was not asked about in time goes by its scores
    assert [r.item["id"] for r in relevant(judged)] == ["g", "f", "u"]

    def found(item_id: str, **scores: float) -> Result:
        channels = {name: {"rank": 1, "score": score, "share": 1.0} for name, score in scores.items()}
        return result(item_id, tier="unjudged", channels=channels)

    listed = [
        found("best", lexical=8.0, dense=0.3), found("half", lexical=4.0), found("less", lexical=3.9),
        found("near", lexical=1.0, dense=0.49), found("nearest", dense=0.6), found("code", identifier=0.1),
    ]  # fmt: skip
    assert [r.item["id"] for r in relevant(listed)] == ["best", "half", "near", "nearest", "code"]
