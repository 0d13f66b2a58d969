"""Judged pairs of an embedded shop with their places in it, so that its truth can be asked about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goodrate.relevance.pairs import JudgedPair
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import Shop


@dataclass(frozen=True)
class ShopPairs:
    """Pairs with query position, item position and gold label of each (n,)."""

    pairs: list[JudgedPair]
    queries: np.ndarray
    items: np.ndarray
    gold: np.ndarray


def sample_shop_pairs(shop: Shop, split: str, limit: int, seed: int) -> ShopPairs:
    """A random part of a split's judged pairs, in the shop's order."""
    queries, items, labels = pairs_of(shop, split)
    rows = np.sort(np.random.default_rng([seed, 31]).permutation(len(queries))[:limit])
    return shop_pairs(shop, queries[rows], items[rows], labels[rows])


def shop_pairs(shop: Shop, queries: np.ndarray, items: np.ndarray, labels: np.ndarray) -> ShopPairs:
    """The pairs of these places, as a judge reads them; without reasons."""
    rows = shop.catalog.to_rows()
    pairs = [
        JudgedPair(shop.queries[q].text, rows[i], shop.queries[q].facts, label=label)
        for q, i, label in zip(queries.tolist(), items.tolist(), labels.tolist(), strict=True)
    ]
    return ShopPairs(pairs, queries, items, labels)
