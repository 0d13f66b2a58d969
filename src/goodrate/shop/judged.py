"""Which items of a query are judged: some of every label, with near misses, and no shortcut left open."""

from __future__ import annotations

import numpy as np

from goodrate.shop.taxonomy import SAME
from goodrate.shop.truth import PairTruth

# Of 40 judged items: irrelevant, mismatch, related, excellent. What a label cannot fill goes to random items.
QUOTA = (11, 10, 10, 9)
RANDOM_SHARE = 0.1  # judged without looking: the obviously irrelevant


def _profiles(truth: PairTruth) -> np.ndarray:
    """One number per item for its pattern of checks, base 3."""
    weights = 3 ** np.arange(truth.checks.shape[1])
    return truth.checks @ weights if len(weights) else np.zeros(len(truth.label), dtype=np.int64)


def _like(rng: np.random.Generator, pool: np.ndarray, profiles: np.ndarray, wished: np.ndarray) -> np.ndarray:
    """Distinct items of the pool whose check patterns follow the wished ones, so that checks alone tell no label."""
    items: list[int] = []
    for profile in wished:
        fitting = pool[(profiles[pool] == profile) & ~np.isin(pool, items)]
        if len(fitting):
            items.append(int(rng.choice(fitting)))
    return np.asarray(items, dtype=np.int64)


def choose_judged(truth: PairTruth, rng: np.random.Generator, count: int = 40) -> np.ndarray:
    """Item positions (count,), ascending, of one query's judged items.

    Items of the wanted category are drawn by label. Items of other categories are drawn so that their check patterns
    follow those of the wanted category: a judge that ignores the category cannot tell them apart by their attributes.
    """
    profiles = _profiles(truth)
    quota = np.rint(np.asarray(QUOTA) * count * (1 - RANDOM_SHARE) / sum(QUOTA)).astype(int)
    same = truth.relation == SAME
    inside = [_draw(rng, np.flatnonzero(same & (truth.label == level)), quota[level]) for level in (1, 2, 3)]
    inside[0] = inside[0][: max(1, int(quota[1] * 0.6))]  # the other mismatches are siblings
    same_kind = np.concatenate(inside)
    patterns = profiles[same_kind] if len(same_kind) else profiles[_draw(rng, np.arange(len(profiles)), 8)]
    outside = []
    for level, number in ((0, quota[0]), (1, quota[1] - len(inside[0]))):
        pool = np.flatnonzero(~same & (truth.label == level))
        outside.append(_like(rng, pool, profiles, rng.choice(patterns, number)))
    by_label = np.unique(np.concatenate([same_kind, *outside]))
    rest = np.setdiff1d(np.arange(len(truth.label)), by_label)
    return np.sort(np.concatenate([by_label, _draw(rng, rest, count - len(by_label))]))


def _draw(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    return rng.choice(pool, min(count, len(pool)), replace=False) if len(pool) else pool
