"""Queries: families, what the tail holds back from training, splits without a common text or meaning."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.shop.queries import (
    BRAND,
    FAMILIES,
    PRICE,
    Constraint,
    Query,
    QueryWriter,
    _mistype,
    is_held_out_brand,
    is_held_out_pair,
    make_standards,
    wants_held_out_pair,
    wants_of,
)
from goodrate.shop.shop import SPLITS, Shop, ShopSettings, generate
from goodrate.shop.taxonomy import load_taxonomy
from goodrate.shop.world import make_world

T = load_taxonomy()
GROUPS = [*T.category_surfaces, *(surfaces for attribute in T.value_surfaces for surfaces in attribute)]
RARE = {surfaces[-1] for surfaces in GROUPS}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(items=1500, queries=800))


def of(shop: Shop, split: str) -> list[Query]:
    return [shop.queries[q] for q in shop.queries_of(split)]


def contains(text: str, phrase: str) -> bool:
    return f" {phrase} " in f" {text} "


def rare_words(query: Query) -> set[str]:
    return {surface for surface in RARE if contains(query.text, surface)}


def pairs(query: Query) -> list[tuple[int, int]]:
    wanted = [c.attribute for c in query.constraints if c.attribute >= 0]
    return [(a, b) for i, a in enumerate(wanted) for b in wanted[i + 1 :]]


def test_every_family_is_there_in_about_its_share(shop: Shop) -> None:
    counts = Counter(q.family for q in of(shop, "train"))
    # 560 training queries. Head queries run out of distinct texts and give way to the next families.
    assert set(counts) == set(FAMILIES) and counts["attribute"] >= 0.33 * 560
    assert all(counts[family] >= 0.08 * 560 for family in ("negation", "alternative", "question", "knowledge"))


def test_split_sizes_are_as_asked(shop: Shop) -> None:
    # 800 queries: test 0.2 = 160, dev 0.1 = 80, the rest 560.
    assert [len(shop.queries_of(split)) for split in SPLITS] == [560, 80, 160]


def test_splits_share_no_text_and_no_meaning(shop: Shop) -> None:
    for key in (lambda q: q.text, lambda q: (q.category, frozenset(q.constraints))):
        held = [{key(q) for q in of(shop, split)} for split in SPLITS]
        assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
    assert len({q.text for q in shop.queries}) == len(shop.queries)


def test_training_has_no_rare_word_held_out_brand_or_held_out_pair(shop: Shop) -> None:
    train, brands = of(shop, "train"), shop.world.brands
    held_out = {brand for b, brand in enumerate(brands) if is_held_out_brand(b, len(brands))}
    assert len(held_out) == 8  # an eighth of 64
    assert [q.text for q in train if rare_words(q)] == []
    assert [q.text for q in train if held_out & set(q.text.split())] == []
    assert [q.text for q in train if any(is_held_out_pair(a, b) for a, b in pairs(q))] == []
    assert not any(q.tail for q in train)


def test_the_test_split_does_use_all_that_training_lacks(shop: Shop) -> None:
    test, brands = of(shop, "test"), shop.world.brands
    held_out = {brand for b, brand in enumerate(brands) if is_held_out_brand(b, len(brands))}
    assert sum(bool(rare_words(q)) for q in test) >= 10
    assert any(held_out & set(q.text.split()) for q in test)
    assert any(is_held_out_pair(a, b) for q in test for a, b in pairs(q))


def test_tail_says_whether_a_query_uses_something_held_out(shop: Shop) -> None:
    brands = shop.world.brands
    for query in shop.queries:
        brand = any(c.attribute == BRAND and is_held_out_brand(c.value, len(brands)) for c in query.constraints)
        known = bool(rare_words(query)) or brand or any(is_held_out_pair(a, b) for a, b in pairs(query))
        assert query.tail >= known, query.text
        if query.tail and not known:  # then a typing error hides the rare word
            assert any(sorted(surface) == sorted(part) for surface in RARE for part in windows(query.text, surface))


def windows(text: str, surface: str) -> list[str]:
    """All runs of words of the text that are as long as the surface, in words."""
    words, size = text.split(), len(surface.split())
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


def test_held_out_pairs_are_symmetric_and_an_eighth_of_all() -> None:
    held = {(a, b) for a in range(12) for b in range(12) if a < b and is_held_out_pair(a, b)}
    assert all(is_held_out_pair(b, a) for a, b in held)
    # 2 low + 3 high modulo 8: 24, 8, 32, 16, 24, 32, 40, 48. 8 of 66 pairs; a formula in the distance alone leaves the
    # attributes in the middle out
    assert held == {(0, 8), (1, 2), (1, 10), (2, 4), (3, 6), (4, 8), (5, 10), (9, 10)}


def test_price_and_brand_make_no_held_out_pair() -> None:
    # 2 * -1 + 3 * 6 = 16 would be one if price counted as an attribute.
    priced = (Constraint(6, 0, "must"), Constraint(PRICE, 9, "below"))
    assert not wants_held_out_pair(Query("x", "attribute", 0, priced))
    assert wants_held_out_pair(Query("x", "attribute", 0, (Constraint(1, 0, "must"), Constraint(10, 0, "may"))))


def test_an_attribute_query_is_met_by_some_item(shop: Shop) -> None:
    best = shop.labels.max(axis=1)
    assert all(best[i] == 3 for i, q in enumerate(shop.queries) if q.family in ("attribute", "head"))


def test_what_each_family_wants(shop: Shop) -> None:
    for query in shop.queries:
        strengths = [c.strength for c in query.constraints]
        assert (strengths.count("not") == 1) == (query.family == "negation")
        assert query.alternative == (query.family == "alternative") == bool(query.facts)
        assert bool(query.term) == (query.family == "knowledge")
        if query.family == "attribute":
            assert 1 <= len(strengths) <= 3
        if query.family == "alternative":
            assert strengths == ["must", "below"]
        if query.family in ("question", "knowledge"):
            assert strengths == ["must"]


def test_constraints_stand_in_the_order_of_the_taxonomy(shop: Shop) -> None:
    for query in shop.queries:
        codes = [99 if c.attribute == PRICE else c.attribute for c in query.constraints]
        assert codes == sorted(set(codes)), query.text


def test_the_facts_of_an_alternative_are_true(shop: Shop) -> None:
    w = shop.world
    for query in (q for q in shop.queries if q.alternative):
        found = re.fullmatch(r"(\w+) (\d+) : price (\d+) ; (\w+) : ([\w ]+) , (\w+) (\w+)", query.facts)
        assert found is not None, query.facts
        line, model, price, again, category, attribute, value = found.groups()
        item = np.flatnonzero((w.line == w.lines.index(line)) & (w.model == int(model)))
        assert line == again and len(item) == 1 and w.price[item[0]] == int(price)
        assert T.categories[w.category[item[0]]] == category == T.categories[query.category]
        a = T.attributes.index(attribute)
        assert T.values[a][w.values[item[0], a]] == value


def test_the_meaning_of_a_knowledge_term_is_in_no_catalogue_text(shop: Shop) -> None:
    standards = {s.term: s for s in make_standards(shop.world)}
    titles = {word for record in shop.records for word in f"{record['title']} {record['brand']}".split()}
    words = {word for surface in T.words() for word in surface.split()}
    assert not set(standards) & (titles | words)
    for query in (q for q in shop.queries if q.term):
        s = standards[query.term]
        assert query.constraints == (Constraint(s.attribute, s.value, "must"),)


def test_wants_are_canonical(shop: Shop) -> None:
    brand = shop.world.brands[2]
    constraints = (Constraint(BRAND, 2, "must"), Constraint(0, 1, "not"), Constraint(PRICE, 40, "below"))
    wants = [(w.attribute, w.value, w.strength) for w in wants_of(Query("x", "head", 0, constraints), shop.world)]
    assert wants == [("brand", brand, "must"), ("color", "blue", "not"), ("price", "40", "below")]


def test_the_writer_is_deterministic_and_rare_is_off_by_default() -> None:
    world = make_world(1, 400)
    drawn = [[QueryWriter(world, np.random.default_rng(5)).draw(f) for f in FAMILIES] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert not any(q.tail for q in drawn[0])


def test_an_item_that_states_nothing_still_gives_a_query() -> None:
    world = make_world(1, 400)
    world.stated[:] = False
    writer = QueryWriter(world, np.random.default_rng(0))
    queries = [writer.draw(family) for family in ("attribute", "negation") for _ in range(30)]
    assert all(q.constraints for q in queries)


@given(st.text("abcdefg 12", min_size=1, max_size=30), st.integers(0, 1000))
def test_a_typing_error_swaps_two_letters_of_one_long_word(text: str, seed: int) -> None:
    mistyped = _mistype(text, np.random.default_rng(seed))
    before, after = text.split(" "), mistyped.split(" ")
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) <= 1
    for old, new in changed:
        assert len(old) >= 4 and old.isalpha() and sorted(old) == sorted(new)
        assert (old[0], old[-1]) == (new[0], new[-1])


def test_too_many_queries_for_the_language_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueryWriter, "draw", lambda self, family: Query("jacket", family, 4))
    with pytest.raises(ValueError, match="ask for fewer queries"):
        generate(ShopSettings(items=200, queries=30))


def test_a_shop_of_the_same_settings_is_the_same(shop: Shop) -> None:
    again = generate(ShopSettings(items=1500, queries=800))
    assert again.queries == shop.queries and np.array_equal(again.judged_items, shop.judged_items)
    assert again.chunks == shop.chunks and np.array_equal(again.split, shop.split)
