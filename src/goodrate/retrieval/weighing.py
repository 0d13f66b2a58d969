"""Hybrid search whose channels are weighed from outside: the further channels, and what each says of every item.

The weights are a point of the simplex over channels. Where they are equal for words and meaning and 0 for all others,
the ranking is that of the index without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from goodrate.retrieval.fusion import Found, Hit

BASE = ("lexical", "dense")  # synonyms go with the words
FURTHER = ("rating", "price")  # known of items without any query; of prices, the low ones are the good ones
WEIGHED = (*BASE, *FURTHER)


class ChannelWeights(Protocol):
    """Weights that something learns while an index is searched."""

    def factors(self) -> Mapping[str, float] | None:
        """Channel, of WEIGHED -> what its scores are multiplied with (factors_of); None = search as without weights."""
        ...


def start_of(channels: Sequence[str]) -> np.ndarray:
    """The weights (C,) with which an index is searched as without any: equal for BASE, 0 for the others."""
    return np.array([1 / len(BASE) if name in BASE else 0.0 for name in channels])


def factors_of(channels: Sequence[str], weights: np.ndarray) -> dict[str, float]:
    """What scores are multiplied with for weights (C,) of the simplex; 1 for BASE at the start.

    >>> factors_of(("lexical", "dense", "price"), np.array([0.5, 0.25, 0.25]))
    {'lexical': 1.0, 'dense': 0.5, 'price': 0.5}
    """
    return {name: len(BASE) * float(weight) for name, weight in zip(channels, weights, strict=True)}


def with_further(found: Found, known: pl.DataFrame, channels: Sequence[str]) -> dict[str, Sequence[Hit]]:
    """What was found, and further channels over all of it. known: id, price, rating of the items, in any order."""
    further = [name for name in channels if name in FURTHER]
    values = {name: _stretched(known[name].to_numpy(), low_is_good=name == "price") for name in further}
    ids = known["id"].to_list()
    return {**found, **{name: _hits(ids, values[name]) for name in further}}


def _stretched(values: np.ndarray, low_is_good: bool) -> np.ndarray:
    """Values (K,) from 0 to 1, the best 1; what is not known, and all of equal values, is in the middle."""
    known = np.isfinite(values := values.astype(np.float64))
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    if high <= low:
        return np.full(len(values), 0.5)
    share = np.where(known, (values - low) / (high - low), 0.5)
    return 1 - share if low_is_good else share


def _hits(ids: Sequence[str], values: np.ndarray) -> list[Hit]:
    ordered = sorted(zip(ids, values.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return [Hit(item, value, rank) for rank, (item, value) in enumerate(ordered, start=1)]
