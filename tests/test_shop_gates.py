"""Leak gates on a small shop: no shortcut comes within 30 points of what the text allows (1.0)."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.shop.gates import baselines, check_features, overlap_features, pair_texts, pairs_of
from goodrate.shop.shop import Shop, ShopSettings, generate

NAMES = ("majority", "query_only", "item_only", "bag_of_words", "overlap", "category_blind")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(seed=4, items=800, queries=100))


@pytest.fixture(scope="module")
def reached(shop: Shop) -> dict[str, tuple[float, float]]:
    return baselines(shop)


@pytest.mark.parametrize("name", NAMES)
def test_a_shortcut_stays_30_points_of_macro_f1_under_the_truth(
    reached: dict[str, tuple[float, float]], name: str
) -> None:
    accuracy, macro_f1 = reached[name]
    assert macro_f1 <= 0.70
    assert accuracy <= 0.75


def test_the_shortcuts_are_real_judges(reached: dict[str, tuple[float, float]]) -> None:
    assert set(reached) == set(NAMES)
    # A gate that reads nothing would prove nothing: readers of attributes and of overlap beat the constant label.
    assert reached["category_blind"][1] > reached["majority"][1] + 0.2
    assert reached["overlap"][1] > reached["majority"][1] + 0.15


def test_majority_is_the_share_of_the_commonest_label(shop: Shop, reached: dict[str, tuple[float, float]]) -> None:
    commonest = np.bincount(pairs_of(shop, "train")[2]).argmax()
    share = float((pairs_of(shop, "test")[2] == commonest).mean())
    # F1 of a constant: 2 * share / (1 + share) for its own label, 0 for three others.
    assert reached["majority"] == pytest.approx((share, 2 * share / (1 + share) / 4))


def test_overlap_counts_by_hand() -> None:
    # "red rucksack" in "crimson backpack ; price 9": no word shared; after synonyms red and backpack, both of two.
    # "red lamp" in "red rug": one of two, before and after.
    features = overlap_features(["red rucksack", "red lamp"], ["crimson backpack ; price 9", "red rug"])
    assert features.tolist() == [[0, 0, 2, 1, 2], [1, 0.5, 1, 0.5, 2]]


def test_check_features_hold_one_family_and_one_mark_per_constraint(shop: Shop) -> None:
    rows, items, _ = pairs_of(shop, "test")
    features = check_features(shop, rows[:200], items[:200])
    constraints = [len(shop.queries[int(q)].constraints) for q in rows[:200]]
    assert features[:, :12].sum(axis=1).tolist() == constraints
    assert (features[:, 12:].sum(axis=1) == 1).all()


def test_pair_texts_hold_no_label(shop: Shop) -> None:
    rows, items, _ = pairs_of(shop, "dev")
    queries, listings = pair_texts(shop, rows, items)
    words = {word for text in {*queries, *listings} for word in text.split()}
    assert not words & {*shop.book.scale.labels, "verdict"}
    assert len(queries) == len(listings) == len(shop.queries_of("dev")) * 40
