"""Products and the questions about them: what is told, what is unknown, what is hidden, and the five tasks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.examples.product_items import Product, ProductSet, catalog_products, shop_products
from goodrate.examples.product_tasks import (
    ENGLISH,
    HOUSE,
    TASKS,
    TaskSettings,
    extraction_prompt,
    questions_of,
)
from goodrate.recipes.product_data import PictureData, split_products
from goodrate.shop.world import make_world

COLORS = ("blue", "green", "red", "white")


def pixel() -> np.ndarray:
    return np.zeros((8, 8, 3), dtype=np.uint8)


def small_set(**more: object) -> ProductSet:
    text_only = Product("a", 0, {"title": "alpha lamp", "color": "crimson"}, "lamp", {"color": "red"}, ("size",))
    seen = Product("b", 1, {"title": "beta rug"}, "rug", {"color": "blue"}, ("size",), frozenset({"color"}), "blue rug")
    values = {"color": COLORS, "size": ("large", "small")}
    return ProductSet((text_only, seen), [pixel(), pixel()], values, **more)  # type: ignore[arg-type]


def asked(products: ProductSet, task: str, **more: object) -> list:
    settings = TaskSettings.model_validate({"shares": {task: 1.0}, "questions": 60, "without_picture": 0, **more})
    return questions_of(products, settings, seed=3)


def test_every_task_has_several_wordings_and_every_place_in_them_is_filled() -> None:
    world = shop_products(make_world(3, 40), 8, ["color", "size"])
    for wording, words in (("english", ENGLISH), ("house", HOUSE)):
        assert words.keys() == ENGLISH.keys() and all(len(set(lines)) >= 2 for lines in words.values())
        for task in TASKS:
            prompts = [q.prompt for q in asked(world, task, wording=wording, questions=4)]
            assert len(prompts) > 40 and not any("{" in prompt for prompt in prompts)
            assert len({prompt.split()[0] for prompt in prompts}) > 1 or wording == "house"


def test_the_share_of_unknown_answers_is_that_of_the_settings() -> None:
    """120 questions at 25 %: 30 give or take three standard errors of 4.7."""
    answers = Counter(q.answer for q in asked(small_set(), "extract"))
    assert 16 <= answers["unknown"] <= 44
    assert "unknown" not in Counter(q.answer for q in asked(small_set(), "extract", unknown=0.0))


def test_what_only_the_text_tells_is_unknown_to_a_question_without_text() -> None:
    """The first product's colour stands in its text alone, the second's is in the picture."""
    questions = asked(small_set(), "attribute", unknown=0.5)
    of_color = {(q.product, q.form, q.answer) for q in questions if q.attribute == "color"}
    assert {(p, a) for p, f, a in of_color if f == "open"} == {(0, "unknown"), (1, "blue")}
    assert {a for p, f, a in of_color if f == "yes_no"} == {"yes", "no"}
    told = {(q.product, q.answer) for q in asked(small_set(), "extract", unknown=0.0)}
    assert told == {(0, "red"), (1, "blue")}


def test_a_choice_holds_the_right_answer_once_and_yes_and_no_are_both_right_at_times() -> None:
    questions = [q for task in ("category", "attribute") for q in asked(small_set(), task, unknown=0.0)]
    choices = [q for q in questions if q.form == "choice"]
    assert choices and all(q.options.count(q.answer) == 1 and len(set(q.options)) == len(q.options) for q in choices)
    assert all(", ".join(q.options) in q.prompt for q in choices)
    yes_no = Counter(q.answer for q in questions if q.form == "yes_no")
    assert 0.3 < yes_no["no"] / yes_no.total() < 0.7
    for q in questions:
        if q.form == "yes_no" and q.task == "category":
            assert (q.answer == "yes") == ((["lamp", "rug"][q.product]) in q.prompt)


def test_a_hidden_field_is_asked_of_the_picture_or_is_unknown() -> None:
    """Of a catalogue: "crimson" is cut out of the text; the picture may tell the second product's colour alone."""
    first, second = small_set().products
    seen = Product("b", 1, {"title": "beta rug", "color": "blue"}, "rug", {"color": "blue"}, (), frozenset({"color"}))
    products = ProductSet((first, seen), [pixel(), pixel()], {"color": COLORS, "size": ("large",)}, hides=True)
    questions = asked(products, "extract", unknown=0.0)
    found = {(q.product, "crimson" in q.prompt or "blue" in q.prompt, q.answer) for q in questions}
    assert found == {(0, True, "red"), (0, False, "unknown"), (1, True, "blue"), (1, False, "blue")}


def test_without_a_picture_what_the_text_lacks_is_unknown() -> None:
    """The first product's colour stands in its text, the second's in its picture alone."""
    questions = asked(small_set(), "extract", unknown=0.0, without_picture=0.5)
    assert {(q.product, q.row, q.answer) for q in questions} == {
        (0, 0, "red"), (0, -1, "red"), (1, 1, "blue"), (1, -1, "unknown"),
    }  # fmt: skip
    blind = sum(q.row < 0 for q in questions)
    assert 40 <= blind <= 80  # of 120, half, give or take three standard errors of 5.5


def test_questions_depend_on_the_seed_and_the_product_alone() -> None:
    products = small_set()
    settings = TaskSettings()
    assert questions_of(products, settings, 1) == questions_of(products, settings, 1)
    assert questions_of(products, settings, 1) != questions_of(products, settings, 2)
    first = [q.prompt for q in questions_of(products, settings, 1) if q.product == 0]
    assert [q.prompt for q in questions_of(products.part([0]), settings, 1)] == first


def test_free_questions_are_the_products_own_where_it_has_some() -> None:
    own = Product("c", 0, {"title": "gamma"}, "lamp", {}, facts={"How tall is it?": "40 cm"})
    questions = asked(ProductSet((own,), [pixel()], {}), "free")
    assert {(q.answer, "How tall is it?" in q.prompt) for q in questions} == {("40 cm", True)}


def test_the_shops_products_are_told_by_listing_or_picture() -> None:
    world = make_world(3, 60)
    t = world.taxonomy
    told = np.zeros(world.values.shape, dtype=bool)
    told[:, t.attributes.index("color")] = np.arange(len(world)) % 2 == 0
    products = shop_products(world, 16, ["color", "care"], told)
    assert products.values["color"] == t.values[t.attributes.index("color")]
    for item, product in enumerate(products.products):
        for name in ("color", "care"):
            a = t.attributes.index(name)
            value = t.values[a][world.values[item, a]]
            known = bool(world.stated[item, a] or told[item, a])
            assert (product.told.get(name) == value, name in product.untold) == (known, not known)
            assert (name in product.text) == bool(world.stated[item, a])
            assert (name in product.pictured) == bool(told[item, a])
        words = product.caption.split()
        assert (words[0] == product.told.get("color")) == bool(told[item, t.attributes.index("color")])
    with pytest.raises(ValueError, match="no attribute 'smell'"):
        shop_products(world, 16, ["smell"])


def catalogue() -> Catalog:
    red, blue, bright = '{"color":"Red"}', '{"color":"blue"}', '{"color":"blue","watts":"40"}'
    rows = [
        {"id": f"i{n}", "title": f"item {n}", "category": "home > lamp" if n % 2 else "home > rug",
         "attributes": (red, red, blue, bright)[n % 4]} for n in range(8)
    ]  # fmt: skip
    return Catalog(pl.DataFrame(rows))


def test_a_catalogues_products_are_those_with_a_picture() -> None:
    pictures = [b"0", b"1", b"2", b"3", None, None, None, None]
    products = catalog_products(catalogue(), pictures, visible=["color"])
    assert [p.id for p in products.products] == ["i0", "i1", "i2", "i3"]
    assert products.values == {"color": ("blue", "red")}  # "watts" has one value: nothing to tell apart
    both = catalog_products(catalogue(), pictures, ["color", "watts"], visible=["color"])
    rug, lamp = both.products[0], both.products[3]
    assert (rug.category, rug.untold, lamp.untold) == ("rug", ("watts",), ())  # no rug states watts
    assert lamp.told == {"color": "blue", "watts": "40"} and lamp.pictured == {"color"}
    assert products.hides and lamp.line("color") == "item 3 ; watts 40"
    with pytest.raises(ValueError, match="no item has a text attribute 'smell'"):
        catalog_products(catalogue(), pictures, ["smell"])
    with pytest.raises(ValueError, match="none of 8 items has a picture"):
        catalog_products(catalogue(), [None] * 8)


def test_held_out_categories_are_neither_learned_nor_measured() -> None:
    products = shop_products(make_world(3, 60), 16, ["color"])
    kind = products.categories[0]
    data = PictureData.model_validate({"shop": {"items": 60}, "hold_out": [kind]})
    train, dev = split_products(data, products)
    assert kind not in {p.category for p in (*train.products, *dev.products)}
    assert not {p.id for p in train.products} & {p.id for p in dev.products}
    only = split_products(PictureData.model_validate({"shop": {"items": 60}, "only": [kind]}), products)
    assert {p.category for part in only for p in part.products} == {kind}
    assert train.categories == products.categories  # a choice may name the held-out category
    with pytest.raises(ValueError, match="no product has the category 'boat'"):
        split_products(PictureData.model_validate({"shop": {"items": 60}, "only": ["boat"]}), products)
    with pytest.raises(ValueError, match="expected one of products.shop"):
        PictureData()
    with pytest.raises(ValueError, match="go together"):
        PictureData.model_validate({"catalog": "x.csv"})


def test_the_describers_question_is_one_of_those_learned() -> None:
    prompts = {q.prompt for q in asked(small_set(), "extract")}
    assert extraction_prompt("alpha lamp ; color crimson", "color") in prompts
