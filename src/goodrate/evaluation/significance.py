"""How sure a mean over queries is, and whether two systems differ. Everything is seeded; queries are the units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
FLIPS = 10_000
BLOCK = 2_000_000  # numbers drawn at a time; bounds memory


@dataclass(frozen=True)
class Interval:
    """A mean (or difference, or score) with its interval, and from how many units it was taken. NaN = unknown."""

    value: float
    low: float
    high: float
    units: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON: NaN becomes null."""
        return {key: None if value != value else value for key, value in asdict(self).items()}

    def bracketed(self, form: str = "+.3f") -> str:
        """The value, and its interval where it has one.

        >>> Interval(0.25, 0.125, 0.5, 9).bracketed(), Interval(0.25, float("nan"), float("nan"), 1).bracketed()
        ('+0.250 [+0.125, +0.500]', '+0.250 [no interval]')
        """
        bounds = f"{self.low:{form}}, {self.high:{form}}" if self.low == self.low else "no interval"
        return f"{self.value:{form}} [{bounds}]"


def defined(values: ArrayLike) -> np.ndarray:
    """The values (N,) float64 that are not NaN."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    return array[~np.isnan(array)]


def defined_pairs(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both values where both are known. Raises ValueError when the lengths differ: then they are not paired."""
    left, right = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (a, b))
    if len(left) != len(right):
        raise ValueError(f"paired values must have equal length; got {len(left)} and {len(right)}")
    both = ~(np.isnan(left) | np.isnan(right))
    return left[both], right[both]


def bootstrap_interval(values: ArrayLike, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Mean of (N,) per-query values with the percentile interval over resampled queries.

    NaN (undefined) values are left out. Fewer than two known values have no interval (NaN bounds).
    >>> bootstrap_interval([0.5, 0.5, 0.5]).low
    0.5
    """
    array = defined(values)
    mean = float(array.mean()) if len(array) else float("nan")
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"), len(array))
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(array))
    means = [
        array[rng.integers(0, len(array), (min(rows, resamples - start), len(array)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(array))


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """sum(numerators) / sum(denominators) of (N,) units with the percentile interval over resampled units.

    Both are known numbers, denominators >= 0. Resamples whose denominators sum to 0 are left out; fewer than two units
    have no interval (NaN bounds).
    >>> bootstrap_ratio([1.0, 1.0], [2.0, 2.0]).high
    0.5
    """
    top, bottom = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (numerators, denominators))
    value = float(top.sum() / bottom.sum()) if bottom.sum() else float("nan")
    if len(top) < 2:
        return Interval(value, float("nan"), float("nan"), len(top))
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(top))
    sums = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, len(top), (min(rows, resamples - start), len(top)))
        sums.append(np.column_stack([top[drawn].sum(axis=1), bottom[drawn].sum(axis=1)]))
    found = np.concatenate(sums)
    usable = found[found[:, 1] > 0]
    if not len(usable):
        return Interval(value, float("nan"), float("nan"), len(top))
    low, high = np.quantile(usable[:, 0] / usable[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(top))


def paired_bootstrap_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """mean(a - b) over the queries where both are known, with its interval; queries are resampled as pairs."""
    left, right = defined_pairs(a, b)
    return bootstrap_interval(left - right, seed, level, resamples)


def paired_randomisation(a: ArrayLike, b: ArrayLike, seed: int = 0, flips: int = FLIPS) -> float:
    """Two-sided p of Fisher's paired randomisation test: how often random signs give a mean difference as large.

    Exact over all 2^N signs when there are at most `flips` of them, else (1 + hits) / (1 + flips), never 0.
    NaN without a known pair. Fisher 1935; for retrieval Smucker, Allan, Carterette 2007.
    >>> paired_randomisation([1, 1, 1], [0, 0, 0])  # of 8 sign patterns, +++ and --- reach |3|
    0.25
    """
    left, right = defined_pairs(a, b)
    difference = left - right
    difference = difference[difference != 0]  # a sign does not change a zero
    if not len(left):
        return float("nan")
    if not len(difference):
        return 1.0
    bound = abs(difference.sum()) - 1e-9 * np.abs(difference).sum()  # sums in another order differ in the last digits
    if 2 ** len(difference) <= flips:
        patterns = np.arange(2 ** len(difference))[:, None] >> np.arange(len(difference)) & 1
        return float((np.abs((1 - 2 * patterns) @ difference) >= bound).mean())
    return (1 + _hits(difference, bound, seed, flips)) / (1 + flips)


def _hits(difference: np.ndarray, bound: float, seed: int, flips: int) -> int:
    """How many random sign patterns reach the bound."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(difference))
    hits = 0
    for start in range(0, flips, rows):
        signs = rng.integers(0, 2, (min(rows, flips - start), len(difference)), dtype=np.int8)
        hits += int((np.abs((1.0 - 2.0 * signs) @ difference) >= bound).sum())
    return hits


def bootstrap_over_groups(
    statistic: Callable[[np.ndarray], float],
    groups: Sequence[object],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """A statistic of rows (F1, AUC) with an interval from resampling whole groups: pairs of one query are not apart.

    statistic: takes row positions (M,), gives a number or NaN. groups: the group (query id) of each of N rows.
    Resamples that give NaN (one class only, say) are left out; with one group or none left there is no interval.
    """
    distinct, membership = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rows = [np.flatnonzero(membership == number) for number in range(len(distinct))]
    value = float(statistic(np.arange(len(membership))))
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows[number] for number in rng.integers(0, len(rows), len(rows))]))
        for _ in range(resamples if len(rows) > 1 else 0)
    ]
    usable = defined(drawn)
    if not len(usable):
        return Interval(value, float("nan"), float("nan"), len(rows))
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(rows))
