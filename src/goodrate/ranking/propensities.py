"""How likely a place of a page is looked at (examination propensity), given, or estimated from clicks.

The position-based model: P(click) = P(the place is examined) * P(the item is clicked once examined).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_POSITION = 1000
LEAST = 1e-4  # of an estimate: no place is never seen, or it could not be in a log


@dataclass(frozen=True)
class ClickLog:
    """N impressions. pair: (N,) which query and item. position: (N,) from 1. clicked: (N,) 0 or 1."""

    pair: np.ndarray
    position: np.ndarray
    clicked: np.ndarray

    def __post_init__(self) -> None:
        check_impressions(self.position, self.clicked)


def check_impressions(position: np.ndarray, clicked: np.ndarray) -> None:
    """ValueError naming the first impression whose position is below 1 or whose click is neither 0 nor 1."""
    for name, values, bad, expected in (
        ("position", position, ~(np.asarray(position) >= 1), "a whole number from 1"),
        ("clicked", clicked, ~np.isin(clicked, (0, 1)), "0 or 1"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"impression {row + 1}: {name} is {values[row]}; expected {expected}")


def check_propensities(values: Sequence[float]) -> np.ndarray:
    """Propensities (P,) of the places 1 to P, above 0 and at most 1. Raises ValueError."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not ((array > 0) & (array <= 1)).all():
        raise ValueError(f"propensities {list(values)!r}: expected a number above 0 and at most 1 for each place")
    return array


def of_positions(propensities: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The propensity (N,) of places (N,) from 1 on; places beyond the last are like the last."""
    return propensities[np.minimum(position, len(propensities)) - 1]


def from_randomised(position: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """Propensities (P,) of a log whose pages were in random order: click rate of each place over that of the first.

    Raises ValueError when a place was never shown, or the first never clicked.
    """
    check_impressions(position, clicked)
    shown = np.bincount(position)[1:]
    clicks = np.bincount(position, weights=clicked)[1:]
    if not shown.all() or not clicks[0]:
        place = 1 if not clicks[0] else int(np.flatnonzero(shown == 0)[0]) + 1
        raise ValueError(f"the randomised log has no {'click' if not clicks[0] else 'impression'} at position {place}")
    rate = clicks / shown
    return np.clip(rate / rate[0], LEAST, 1.0)


def estimated(log: ClickLog, rounds: int = 100, prior: float = 2.0) -> np.ndarray:
    """Propensities (P,) by expectation maximisation of the position-based model; that of the first place is 1.

    It needs pairs that were seen at several places. prior: how many impressions the mean attraction of all pairs weighs
    in that of each: without it a pair that was shown once explains its click by itself.
    Chuklin, Markov and de Rijke, Click Models for Web Search (2015), 4.1; the prior is ours.
    """
    places = int(min(log.position.max(), MAX_POSITION))
    cell = log.pair.astype(np.int64) * places + np.minimum(log.position, places) - 1
    distinct, of_cell = np.unique(cell, return_inverse=True)
    shown = np.bincount(of_cell).astype(np.float64)
    clicks = np.bincount(of_cell, weights=log.clicked)
    pair, place = np.divmod(distinct, places)
    _, pair = np.unique(pair, return_inverse=True)
    seen, attracts = np.full(places, 0.5), np.full(pair.max() + 1, 0.5)
    of_pair, of_place = np.bincount(pair, weights=shown), np.bincount(place, weights=shown, minlength=places)
    for _ in range(rounds):
        theta, gamma = seen[place], attracts[pair]
        neither = np.maximum(1 - theta * gamma, 1e-12)
        examined = clicks + (shown - clicks) * theta * (1 - gamma) / neither
        attracted = clicks + (shown - clicks) * gamma * (1 - theta) / neither
        mean = attracted.sum() / shown.sum()
        seen = np.bincount(place, weights=examined, minlength=places) / np.maximum(of_place, 1)
        attracts = (np.bincount(pair, weights=attracted) + prior * mean) / (of_pair + prior)
    return np.clip(seen / max(seen[0], LEAST), LEAST, 1.0)
