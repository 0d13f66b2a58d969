"""Weights of a sum of scores from few labelled queries: ListNet with a pull towards weights known from elsewhere.

Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach": the cross entropy between each query's
gains, as shares, and the softmax of its sums. The pull makes it usable with five queries, and lets go with hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WEAK = 0.1  # pull towards 0 of weights that are free of the usual ones, in queries: separable lists stay finite


@dataclass(frozen=True)
class Lists:
    """Scored items of queries, query after query.

    scores: (N, M) of M members. shares: (N,) of each query's gains. starts: (Q,) the first row of each query.
    """

    scores: np.ndarray
    shares: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, gains: np.ndarray, groups: np.ndarray) -> Lists:
        """groups: (N,) the query of each row. Queries whose gains are all one teach nothing and are left out."""
        order = np.argsort(groups, kind="stable")
        starts = _starts(groups[order])
        spans = np.diff(np.append(starts, len(order)))
        most, least = (f.reduceat(gains[order], starts) if len(starts) else starts for f in (np.maximum, np.minimum))
        order = order[np.repeat(most > least, spans)]
        starts = _starts(groups[order])
        spans = np.diff(np.append(starts, len(order)))
        totals = np.add.reduceat(gains[order], starts) if len(starts) else np.zeros(0)
        return cls(scores[order], gains[order] / np.repeat(totals, spans), starts)

    def loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Cross entropy summed over the queries, and its gradient (M,)."""
        total = self.scores @ weights
        spans = np.diff(np.append(self.starts, len(total)))
        total = total - np.repeat(np.maximum.reduceat(total, self.starts), spans)
        norm = np.repeat(np.add.reduceat(np.exp(total), self.starts), spans)
        chance = np.exp(total) / norm
        return -float(self.shares @ (total - np.log(norm))), self.scores.T @ (chance - self.shares)


def _starts(groups: np.ndarray) -> np.ndarray:
    """The first row of each run of equal values."""
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1])) if len(groups) else np.zeros(0, dtype=np.int64)


def listwise_weights(
    scores: np.ndarray, gains: np.ndarray, groups: np.ndarray, usual: np.ndarray, strength: float
) -> np.ndarray:
    """argmin over w >= 0 of sum_q cross_entropy_q(c w) + strength |w - usual|^2.

    c: the scale of the softmax, at which weights without that pull are as long as the usual ones. scores (N, M) on
    about one scale, gains (N,) >= 0, groups (N,) the query of each row, usual (M,). Convex, so it is the same wherever
    it is computed. Without a query whose gains differ: the usual weights.
    """
    lists = Lists.of(scores, gains, groups)
    if not len(lists.starts):
        return usual.copy()
    free = _least(lists, 1.0, np.zeros_like(usual), WEAK)
    return _least(lists, float(np.linalg.norm(free) / np.linalg.norm(usual)), usual, strength)


def _least(lists: Lists, scale: float, around: np.ndarray, strength: float) -> np.ndarray:
    """argmin over w >= 0 of loss(scale w) + strength |w - around|^2, (M,)."""
    from scipy.optimize import minimize

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = lists.loss(scale * weights)
        pull = weights - around
        return loss + strength * float(pull @ pull), scale * slope + 2.0 * strength * pull

    return minimize(objective, around, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(around)).x
