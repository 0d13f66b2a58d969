"""The truth: hand-made cases of every family, and the vectorised labels against a slow reading of the listing."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import goodrate.shop
import goodrate.shop.queries
from goodrate.relevance.rationale import contradicts, parse, write
from goodrate.relevance.rulebook import load_rulebook
from goodrate.shop.queries import BRAND, PRICE, Constraint, Query
from goodrate.shop.shop import Shop, ShopSettings, generate
from goodrate.shop.taxonomy import load_taxonomy
from goodrate.shop.truth import CONFLICT, MATCH, UNKNOWN, check_constraint, judge_truth, true_rationale
from goodrate.shop.world import World, make_world

T = load_taxonomy()
BOOK = load_rulebook()
BASE = make_world(0, 200)


def world_with(category: str, price: int = 50, brand: int = 0, **values: str) -> World:
    """A world whose item 0 is of this kind and states these values and nothing else."""
    stated, latent = BASE.stated.copy(), BASE.values.copy()
    stated[0] = False
    for name, value in values.items():
        a = T.attributes.index(name)
        stated[0, a], latent[0, a] = True, T.values[a].index(value)
    kinds, prices, brands = BASE.category.copy(), BASE.price.copy(), BASE.brand.copy()
    kinds[0], prices[0], brands[0] = T.categories.index(category), price, brand
    return replace(BASE, category=kinds, price=prices, brand=brands, stated=stated, values=latent)


def want(name: str, value: str, strength: str = "must") -> Constraint:
    a = T.attributes.index(name)
    return Constraint(a, T.values[a].index(value), strength)


def below(price: int) -> Constraint:
    return Constraint(PRICE, price, "below")


def query(family: str, category: str, *constraints: Constraint) -> Query:
    return Query("typed", family, T.categories.index(category), constraints, alternative=family == "alternative")


RED, STEEL, SOFT_RED, NO_RED = (
    want("color", "red"),
    want("material", "steel"),
    want("color", "red", "may"),
    want("color", "red", "not"),
)
CASES: list[tuple[Query, dict[str, Any], str, str]] = [
    (query("head", "lamp"), {"category": "lamp"}, "excellent", "all_met"),
    (query("head", "lamp"), {"category": "rug"}, "mismatch", "sibling_only"),
    (query("head", "lamp"), {"category": "lamp shade"}, "irrelevant", "accessory_only"),
    (query("head", "lamp shade"), {"category": "lamp"}, "irrelevant", "accessory_only"),
    (query("head", "lamp"), {"category": "phone"}, "irrelevant", "other_category"),
    (query("head", "lamp", Constraint(BRAND, 3, "must")), {"category": "lamp", "brand": 3}, "excellent", "all_met"),
    (query("head", "lamp", Constraint(BRAND, 3, "must")), {"category": "lamp"}, "mismatch", "requirement_failed"),
    (query("head", "lamp", Constraint(BRAND, 3, "must")), {"category": "rug"}, "irrelevant", "sibling_conflict"),
    (query("attribute", "pan", RED), {"category": "pan", "color": "red"}, "excellent", "all_met"),
    (query("attribute", "pan", RED), {"category": "pan", "color": "blue"}, "mismatch", "requirement_failed"),
    (query("attribute", "pan", RED), {"category": "pan"}, "related", "requirement_unknown"),
    (query("attribute", "pan", RED), {"category": "knife"}, "mismatch", "sibling_only"),
    (query("attribute", "pan", RED), {"category": "knife", "color": "blue"}, "irrelevant", "sibling_conflict"),
    (query("attribute", "pan", SOFT_RED), {"category": "pan", "color": "blue"}, "related", "preference_failed"),
    (query("attribute", "pan", SOFT_RED), {"category": "pan"}, "excellent", "all_met"),
    (query("attribute", "pan", RED, STEEL), {"category": "pan", "color": "red"}, "related", "requirement_unknown"),
    (query("attribute", "pan", below(50)), {"category": "pan", "price": 49}, "excellent", "all_met"),
    (query("attribute", "pan", below(50)), {"category": "pan", "price": 50}, "mismatch", "requirement_failed"),
    (query("negation", "tent", NO_RED), {"category": "tent", "color": "blue"}, "excellent", "all_met"),
    (query("negation", "tent", NO_RED), {"category": "tent", "color": "red"}, "mismatch", "excluded_value"),
    (query("negation", "tent", NO_RED), {"category": "tent"}, "related", "exclusion_unknown"),
    (query("negation", "tent", NO_RED), {"category": "backpack", "color": "red"}, "irrelevant", "sibling_excluded"),
    (query("negation", "tent", NO_RED, STEEL), {"category": "tent"}, "related", "requirement_unknown"),
    (query("alternative", "desk", STEEL, below(60)), {"category": "desk", "material": "steel"}, "excellent", "all_met"),
    (
        query("alternative", "desk", STEEL, below(50)),
        {"category": "desk", "material": "steel"},
        "mismatch",
        "not_cheaper",
    ),
    (query("alternative", "desk", STEEL, below(60)), {"category": "desk"}, "related", "requirement_unknown"),
    (
        query("alternative", "desk", STEEL, below(60)),
        {"category": "desk", "material": "wood"},
        "mismatch",
        "requirement_failed",
    ),
    (
        query("alternative", "desk", STEEL, below(20)),
        {"category": "chair", "material": "steel"},
        "irrelevant",
        "sibling_costlier",
    ),
    (
        query("question", "boots", want("season", "winter")),
        {"category": "boots", "season": "winter"},
        "excellent",
        "all_met",
    ),
    (query("question", "boots", want("season", "winter")), {"category": "boots"}, "related", "requirement_unknown"),
    (
        query("knowledge", "kettle", want("origin", "japan")),
        {"category": "kettle", "origin": "japan"},
        "excellent",
        "all_met",
    ),
    (
        query("knowledge", "kettle", want("origin", "japan")),
        {"category": "kettle", "origin": "italy"},
        "mismatch",
        "requirement_failed",
    ),
]


@pytest.mark.parametrize(("wanted", "item", "label", "rule"), CASES, ids=range(len(CASES)))
def test_hand_made_pairs(wanted: Query, item: dict[str, Any], label: str, rule: str) -> None:
    truth = judge_truth(world_with(**item), BOOK, wanted, np.asarray([0]))
    assert (BOOK.scale.labels[truth.label[0]], BOOK.rules[truth.rule[0]].id) == (label, rule)


def test_all_families_and_all_rules_of_the_book_have_a_hand_made_case() -> None:
    assert {case[0].family for case in CASES} == set(goodrate.shop.queries.FAMILIES)
    assert {case[3] for case in CASES} == {rule.id for rule in BOOK.rules}


def test_checks_of_one_item() -> None:
    world = world_with("pan", price=30, brand=2, color="red")
    item = np.asarray([0])
    expected = {
        RED: MATCH,
        want("color", "blue"): CONFLICT,
        NO_RED: CONFLICT,
        want("color", "blue", "not"): MATCH,
        STEEL: UNKNOWN,
        want("material", "steel", "not"): UNKNOWN,
        below(31): MATCH,
        below(30): CONFLICT,
        Constraint(BRAND, 2, "must"): MATCH,
        Constraint(BRAND, 1, "must"): CONFLICT,
    }
    assert {c: int(check_constraint(world, c, item)[0]) for c in expected} == expected


def test_the_rationale_of_a_hand_made_pair() -> None:
    world = world_with("boots", price=60, color="red")
    wanted = query("negation", "jacket", NO_RED, STEEL, below(50))
    assert write(true_rationale(world, BOOK, wanted, 0)) == (
        "1\n"
        "wants jacket ; color red not ; material steel must ; price 50 below\n"
        "found boots ; color red ; material none ; price 60\n"
        "category jacket : boots sibling\n"
        "checks color conflict ; material unknown ; price conflict\n"
        "verdict sibling_conflict\n"
    )


# ---- a slow reader, from the listing's own words and the taxonomy file


RAW = tomllib.loads((Path(goodrate.shop.__file__).parent / "taxonomy.toml").read_text(encoding="utf-8"))
HOME = {kind: department for department, kinds in RAW["departments"].items() for kind in kinds}
KINDS = {
    surface: kind
    for kinds in RAW["departments"].values()
    for kind, synonyms in kinds.items()
    for surface in (kind, *synonyms)
}
VALUES = {
    (name, surface): value
    for name, values in RAW["attributes"].items()
    for value, synonyms in values.items()
    for surface in (value, *synonyms)
}


def relation(wanted: str, found: str) -> str:
    if wanted == found:
        return "same"
    if found == RAW["accessories"].get(wanted) or wanted == RAW["accessories"].get(found):
        return "accessory"
    return "sibling" if HOME[wanted] == HOME[found] else "other"


def verdict(name: str, value: str, strength: str, record: dict[str, Any]) -> str:
    """match, unknown or conflict, from what the record tells."""
    if name == "price":
        return "match" if record["price"] < int(value) else "conflict"
    if name == "brand":
        return "match" if record["brand"] == value else "conflict"
    told = json.loads(record["attributes"]).get(name)
    if told is None:
        return "unknown"
    return "match" if (VALUES[name, told] == value) == (strength != "not") else "conflict"


def slow_label(shop: Shop, q: int, record: dict[str, Any]) -> str:
    """The label of a pair, read off the record by plain logic without rules."""
    wants = shop.rationale(q, 0).wants
    kind = max((s for s in KINDS if f" {record['title']}".endswith(f" {s}")), key=len)
    kinship = relation(T.categories[shop.queries[q].category], KINDS[kind])
    verdicts = [(w.strength, verdict(w.attribute, w.value, w.strength, record)) for w in wants]
    violated = any(v == "conflict" for strength, v in verdicts if strength != "may")
    doubtful = ("may", "conflict") in verdicts or any(v == "unknown" for s, v in verdicts if s != "may")
    if kinship in ("other", "accessory") or (kinship == "sibling" and violated):
        return "irrelevant"
    if kinship == "sibling" or violated:
        return "mismatch"
    return "related" if doubtful else "excellent"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(items=600, queries=200))


def test_vectorised_labels_equal_the_slow_reading(shop: Shop) -> None:
    rng = np.random.default_rng(0)
    sample = [(q, int(i)) for q in range(200) for i in [*rng.integers(0, 600, 6), *shop.judged_items[q][::4]]]
    wrong = [(q, i) for q, i in sample if BOOK.scale.labels[shop.labels[q, i]] != slow_label(shop, q, shop.records[i])]
    assert wrong == [] and len(sample) == 200 * 16


def test_some_items_and_all_items_have_the_same_truth(shop: Shop) -> None:
    items = np.asarray([5, 3, 599])
    for q in range(0, 200, 17):
        whole, part = shop.truth(q), shop.truth(q, items)
        assert np.array_equal(part.label, whole.label[items]) and np.array_equal(part.checks, whole.checks[items])
        assert np.array_equal(shop.labels[q], whole.label)


def test_true_rationales_can_be_read_and_never_contradict_their_label(shop: Shop) -> None:
    rule_labels = {rule.id: BOOK.scale.index(rule.label) for rule in BOOK.rules}
    for q in range(200):
        for item in shop.judged_items[q][:5]:
            for order in ("label_first", "reason_first"):
                parsed = parse(write(shop.rationale(q, int(item)), order), order)
                assert parsed.status == "ok" and parsed.label == shop.labels[q, item]
                assert contradicts(parsed, rule_labels) is False
