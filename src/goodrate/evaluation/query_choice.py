"""Which queries people are asked about when two systems are compared: those on which the lists differ, more often the
more they do, each with the chance that it had, so that the answer still speaks for all queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def average_overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Mean share of common items over the depths 1 to K of the longer list, 0..1; 1 for equal orders, and for no lists.

    What the lists have in common at the top counts most (Fagin, Kumar, Sivakumar 2003, the "intersection metric").
    >>> average_overlap(["a", "b"], ["b", "a"]), average_overlap(["a"], ["b"])
    (0.5, 0.0)
    """
    depth = max(len(first), len(second))
    common = [len(set(first[:cut]) & set(second[:cut])) / cut for cut in range(1, depth + 1)]
    return float(np.mean(common)) if common else 1.0


def draw_by_size(sizes: ArrayLike, count: int, seed: int) -> np.ndarray:
    """Chances (N,) to be drawn, negative for those that are not drawn: `count` of N by size, without replacement.

    Systematic sampling in a random order (Madow 1949): the chance of each is exactly count * size / sum, at most 1.
    sizes: (N,) > 0. All are drawn, with chance 1, where count >= N. Raises ValueError for a size that is not above 0.
    >>> draw_by_size([1.0, 1.0], 5, seed=0).tolist()
    [1.0, 1.0]
    """
    wanted = np.asarray(sizes, dtype=np.float64).reshape(-1)
    if (wanted <= 0).any():
        raise ValueError("sizes must be above 0: what has none cannot be drawn")
    chance = _chances(wanted, count)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(wanted))
    ends = np.cumsum(chance[order]) + rng.random()
    drawn = np.floor(ends + 1e-9) > np.floor(ends - chance[order] + 1e-9)
    signs = np.empty(len(wanted))
    signs[order] = np.where(drawn, 1.0, -1.0)
    return signs * chance


def _chances(sizes: np.ndarray, count: int) -> np.ndarray:
    """Chances proportional to size that sum to count; those that would be above 1 are certain."""
    if count >= len(sizes):
        return np.ones(len(sizes))
    certain = np.zeros(len(sizes), dtype=bool)
    while True:
        left = ~certain
        chance = np.where(certain, 1.0, sizes * (count - certain.sum()) / sizes[left].sum())
        more = left & (chance >= 1.0)
        if not more.any():
            return chance
        certain |= more
