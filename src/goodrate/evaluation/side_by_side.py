"""Side by side: on how many queries is one system better (Good), the same (Same) or worse (Bad) than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class SideBySide:
    """GSB counts over queries. unknown: queries where one of the two has no value; they are in no other count."""

    good: int
    same: int
    bad: int
    unknown: int

    @property
    def advantage(self) -> float:
        """(good - bad) / (good + same + bad); NaN without a compared query."""
        compared = self.good + self.same + self.bad
        return (self.good - self.bad) / compared if compared else float("nan")

    @property
    def p(self) -> float:
        """Two-sided sign test over the queries that differ; 1 when none does."""
        from scipy.stats import binomtest

        differing = self.good + self.bad
        return float(binomtest(self.good, differing).pvalue) if differing else 1.0


def side_by_side(new: ArrayLike, old: ArrayLike, margin: float = 0.0) -> SideBySide:
    """Count queries by new - old: above margin good, below -margin bad, else same. NaN is unknown.

    new, old: (Q,) values of one metric for the same queries; margin >= 0, in units of the metric.
    Raises ValueError for unequal lengths or a negative margin.
    >>> side_by_side([0.9, 0.5, 0.2, float("nan")], [0.5, 0.5, 0.3, 0.1])
    SideBySide(good=1, same=1, bad=1, unknown=1)
    """
    left, right = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (new, old))
    if len(left) != len(right):
        raise ValueError(f"side by side needs the same queries; got {len(left)} and {len(right)} values")
    if margin < 0:
        raise ValueError(f"margin must not be negative; got {margin}")
    gap = left - right
    slack = margin + 1e-12  # 0.3 - 0.2 is not quite 0.1
    good, bad, unknown = int((gap > slack).sum()), int((gap < -slack).sum()), int(np.isnan(gap).sum())
    return SideBySide(good, len(gap) - good - bad - unknown, bad, unknown)
