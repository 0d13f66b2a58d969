"""The order of results: what rules do to it, groups, and pages of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.ranking.ordering import Ordering
from goodrate.ranking.results import Result
from goodrate.ranking.rule_file import RankingRules
from goodrate.relevance.verdicts import Verdict


def result(item_id: str, tier: str | None = None, excluded: bool = False, **item: object) -> Result:
    verdict = Verdict("x", (), 0.5, tier) if tier else None
    return Result(1, {"id": item_id, "title": item_id, "attributes": {}, **item}, 1, 1.0, {}, verdict, excluded)


def results(ids: str) -> list[Result]:
    return [result(item_id) for item_id in ids]


def matching(ids: Sequence[str], where: str | None) -> set[str]:
    """A filter is a text of the ids that it lets through."""
    return set(ids) & set(where or ids)


def ordered(rules: str, ids: str, fetched: str = "") -> str:
    ordering = Ordering(RankingRules.parse(rules, "rules"), matching)
    ordering.start(results(ids), results(fetched))
    return "".join(r.item["id"] for r in ordering.page(0, 99, complete=True)[0])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", "abcdef"),
        ("[[boost]]\nname='x'\nids=['e']\nplaces=3", "aebcdf"),
        ("[[boost]]\nname='x'\nids=['e','f']\nplaces=99", "efabcd"),
        ("[[boost]]\nname='x'\nids=['b']\nplaces=-2", "acdbef"),
        ("[[boost]]\nname='x'\nwhere='df'\nfactor=2", "adbfce"),  # from 4 to 2, from 6 to 3
        ("[[boost]]\nname='x'\nids=['b']\nfactor=0.5", "acdbef"),  # from 2 to 4
        ("[[bury]]\nname='x'\nwhere='ac'", "bdefac"),
        ("[[bury]]\nname='x'\nids=['a']\nto='out'", "bcdef"),
        ("[[pin]]\nname='x'\nquery='q'\nids=['e','c']", "ecabdf"),
        ("[[pin]]\nname='x'\nquery='q'\nids=['e','c']\nplaces=[3,1]", "caebdf"),
        ("[[pin]]\nname='x'\nquery='q'\nids=['a']\nplaces=[50]", "bcdefa"),
        # the first rule has a place that two want, and an item that two pin stays with the first
        ("[[pin]]\nname='x'\nquery='q'\nids=['e']\n[[pin]]\nname='y'\nquery='q'\nids=['f','e']", "efabcd"),
        # a pin is stronger than a burial, a burial than a boost
        ("[[pin]]\nname='x'\nquery='q'\nids=['e']\n[[bury]]\nname='y'\nids=['e']\nto='out'", "eabcdf"),
        ("[[boost]]\nname='x'\nids=['e']\nplaces=4\n[[bury]]\nname='y'\nids=['e']", "abcdfe"),
    ],
)
def test_what_rules_do(rules: str, expected: str) -> None:
    assert ordered(rules, "abcdef") == expected


def test_what_a_pinned_item_was_fetched_for_and_rules_are_named() -> None:
    rules = "[[pin]]\nname='top'\nquery='q'\nids=['z','y']\n[[boost]]\nname='up'\nids=['c']\nplaces=1"
    ordering = Ordering(RankingRules.parse(rules, "rules"), matching)
    assert ordering.missing_pins(results("abc")) == ["z", "y"]
    ordering.start(results("abc"), results("z"))  # the filter excludes y
    page, more = ordering.page(0, 9, complete=True)
    assert [(r.rank, r.item["id"], r.rules) for r in page] == [
        (1, "z", ("top",)), (2, "a", ()), (3, "c", ("up",)), (4, "b", ()),
    ]  # fmt: skip
    assert not more


def test_a_boost_lifts_neither_what_is_bad_nor_what_the_query_excludes() -> None:
    rules = RankingRules.parse("[[boost]]\nname='up'\nwhere='abcd'\nplaces=9", "rules")
    ordering = Ordering(rules, matching)
    ordering.start(
        [result("a", "Good"), result("b", "Mid"), result("c", excluded=True), result("d", "Bad"), result("e")]
    )
    page, _ = ordering.page(0, 9, complete=True)
    assert [(r.item["id"], r.rules) for r in page] == [
        ("a", ("up",)), ("b", ("up",)), ("c", ()), ("d", ()), ("e", ()),
    ]  # fmt: skip


def test_groups_stand_where_their_first_stands_and_pins_take_theirs_along() -> None:
    def group(item):
        return item["title"][0] if item["title"][0] != "-" else None

    rules = RankingRules.parse("[[pin]]\nname='x'\nquery='q'\nids=['b2']\nplaces=[2]", "rules")
    for pins, expected in [
        (RankingRules(), [("a1", ["a2"]), ("b1", ["b2", "b3"]), ("-1", []), ("-2", [])]),
        (rules, [("a1", ["a2"]), ("b2", ["b1", "b3"]), ("-1", []), ("-2", [])]),
    ]:
        ordering = Ordering(pins, matching, group)
        ordering.start([result(i) for i in ("a1", "b1", "-1", "b2", "-2", "a2")])
        ordering.add([result("b3")])
        page, _ = ordering.page(0, 9, complete=True)
        assert [(r.item["id"], [variant.id for variant in r.variants]) for r in page] == expected
        assert [r.variant_count for r in page] == [len(others) for _, others in expected]


rule_texts = st.lists(
    st.sampled_from([
        "[[pin]]\nname='{n}'\nquery='q'\nids=['3','40']\nplaces=[2,7]",
        "[[pin]]\nname='{n}'\nquery='q'\nids=['5','x']",
        "[[boost]]\nname='{n}'\nids=['9','12']\nfactor=3",
        "[[boost]]\nname='{n}'\nids=['0','2']\nplaces=-4",
        "[[bury]]\nname='{n}'\nids=['1','30']",
        "[[bury]]\nname='{n}'\nids=['4','31']\nto='out'",
    ]),
    max_size=4, unique=True,
)  # fmt: skip


@given(
    texts=rule_texts, count=st.integers(0, 50), first=st.integers(1, 20), k=st.integers(1, 9), groups=st.integers(0, 7)
)
def test_pages_are_parts_of_one_list(texts: list[str], count: int, first: int, k: int, groups: int) -> None:
    """Whatever page is asked for, with as few results as it needs, it is the same part of the whole list."""
    rules = RankingRules.parse("\n".join(text.format(n=n) for n, text in enumerate(texts)), "rules")
    found = [result(str(n)) for n in range(count)]
    fetched = [result(item) for item in ("40", "x") if item not in {r.item["id"] for r in found[:first]}]

    def page_at(offset: int, size: int) -> tuple[list[str], bool]:
        ordering = Ordering(
            rules, matching, (lambda item: item["id"].isdigit() and int(item["id"]) % groups) if groups else None
        )
        pins = ordering.missing_pins(found[:first])
        ordering.start(found[:first], [r for r in fetched if r.item["id"] in pins])
        given = first
        while given < count and not ordering.has(offset + size + 1):
            ordering.add(found[given : given + 3])
            given += 3
        page, more = ordering.page(offset, size, complete=given >= count)
        assert [r.rank for r in page] == list(range(offset + 1, offset + len(page) + 1))
        return [r.item["id"] for r in page], more

    whole, after = page_at(0, 1000)
    assert not after and len(set(whole)) == len(whole)
    pages, offset, more = [], 0, True
    while more:
        page, more = page_at(offset, k)
        pages += page
        offset += k
    assert pages == whole
