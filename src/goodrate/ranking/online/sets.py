"""Convex sets with a cheap linear minimum, and their exact projections where those exist.

Points are flat float64 arrays (..., n), any number at once: one row a point. A matrix is its rows side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

TOLERANCE = 1e-9  # of "inside", in the units of the points


class FeasibleSet(Protocol):
    """A convex, closed and bounded set of points (n,)."""

    @property
    def dimension(self) -> int:
        """n."""
        ...

    @property
    def radius(self) -> float:
        """R: every point lies in the Euclidean ball of this radius around the centre."""
        ...

    @property
    def diameter(self) -> float:
        """The largest Euclidean distance of two points, or an upper bound of it."""
        ...

    def centre(self) -> np.ndarray:
        """The middle (n,) of the set."""
        ...

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """argmin over v in the set of <gradient, v> for each gradient (..., n): the oracle; same shape."""
        ...

    def project(self, points: np.ndarray) -> np.ndarray:
        """The nearest point of the set to each point (..., n); same shape."""
        ...

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """Whether each point (..., n) lies in the set, up to a tolerance; (...) bool."""
        ...


@dataclass(frozen=True)
class Simplex:
    """Weights that are >= 0 and sum to 1."""

    dimension: int
    diameter: float = 2.0**0.5

    @property
    def radius(self) -> float:
        """From equal weights to a corner."""
        return float(np.sqrt(1 - 1 / self.dimension))

    def centre(self) -> np.ndarray:
        """Equal weights."""
        return np.full(self.dimension, 1.0 / self.dimension)

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """All weight where the gradient is lowest."""
        return _at(np.argmin(gradients, axis=-1), np.ones(gradients.shape[:-1]), self.dimension)

    def project(self, points: np.ndarray) -> np.ndarray:
        """See to_simplex."""
        return to_simplex(points)

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """See FeasibleSet."""
        inside = (points >= -tolerance).all(axis=-1) & (np.abs(points.sum(axis=-1) - 1) <= tolerance)
        return np.asarray(inside)


@dataclass(frozen=True)
class _Ball:
    """A norm of points is at most `radius`."""

    dimension: int
    radius: float = 1.0

    @property
    def diameter(self) -> float:
        """2 R."""
        return 2 * self.radius

    def centre(self) -> np.ndarray:
        """0."""
        return np.zeros(self.dimension)


@dataclass(frozen=True)
class L1Ball(_Ball):
    """Points whose absolute values sum to at most `radius`."""

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """The corner against the largest coordinate of the gradient."""
        place = np.argmax(np.abs(gradients), axis=-1)
        sign = np.sign(np.take_along_axis(gradients, place[..., None], axis=-1)[..., 0])
        return _at(place, -self.radius * sign, self.dimension)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Absolute values onto the simplex of this size where they sum to more (Duchi et al. 2008)."""
        return np.sign(points) * _capped(np.abs(points), self.radius)

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """See FeasibleSet."""
        return np.asarray(np.abs(points).sum(axis=-1) <= self.radius + tolerance)


@dataclass(frozen=True)
class L2Ball(_Ball):
    """Points at most `radius` from 0."""

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """Against the gradient; 0 for a gradient of 0."""
        norm = np.linalg.norm(gradients, axis=-1, keepdims=True)
        return -self.radius * gradients / np.where(norm > 0, norm, 1.0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Shortened to the radius."""
        return points / np.maximum(1.0, np.linalg.norm(points, axis=-1, keepdims=True) / self.radius)

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """See FeasibleSet."""
        return np.asarray(np.linalg.norm(points, axis=-1) <= self.radius + tolerance)


@dataclass(frozen=True)
class TraceNormBall:
    """Matrices of `shape` whose singular values sum to at most `radius`: few directions explain all rows."""

    shape: tuple[int, int]
    radius: float = 1.0

    @property
    def dimension(self) -> int:
        """Rows times columns."""
        return self.shape[0] * self.shape[1]

    @property
    def diameter(self) -> float:
        """2 R."""
        return 2 * self.radius

    def centre(self) -> np.ndarray:
        """0."""
        return np.zeros(self.dimension)

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """-radius * u v' of the largest singular value of the gradient, from the smaller of its two Gram matrices."""
        matrices = self._matrices(gradients)
        tall = self.shape[0] >= self.shape[1]
        oriented = matrices if tall else np.swapaxes(matrices, -1, -2)
        right = np.linalg.eigh(np.swapaxes(oriented, -1, -2) @ oriented)[1][..., -1]
        left = (oriented @ right[..., None])[..., 0]
        norm = np.linalg.norm(left, axis=-1, keepdims=True)
        pair = (left / np.where(norm > 0, norm, 1.0))[..., :, None] * right[..., None, :]
        return -self.radius * (pair if tall else np.swapaxes(pair, -1, -2)).reshape(gradients.shape)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Singular values onto the l1 ball."""
        left, values, right = np.linalg.svd(self._matrices(points), full_matrices=False)
        return ((left * _capped(values, self.radius)[..., None, :]) @ right).reshape(points.shape)

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """See FeasibleSet."""
        values = np.linalg.svd(self._matrices(points), compute_uv=False)
        return np.asarray(values.sum(axis=-1) <= self.radius + tolerance)

    def _matrices(self, points: np.ndarray) -> np.ndarray:
        return points.reshape(*points.shape[:-1], *self.shape)


@dataclass(frozen=True)
class Near:
    """(1 - share) * start + share * v for the v of another set: how far a point may move from `start`.

    On the simplex no more than `share` of the whole weight can stand elsewhere than at the start. share: 0 to 1, not 0.
    start: (n,), in the other set.
    """

    whole: FeasibleSet
    start: np.ndarray
    share: float

    @property
    def dimension(self) -> int:
        """n."""
        return self.whole.dimension

    @property
    def radius(self) -> float:
        """share of the whole set's."""
        return self.share * self.whole.radius

    @property
    def diameter(self) -> float:
        """share of the whole set's."""
        return self.share * self.whole.diameter

    def centre(self) -> np.ndarray:
        """That of the whole set, moved; not the start, which may stand at the border."""
        return self._fixed + self.share * self.whole.centre()

    def linear_minimum(self, gradients: np.ndarray) -> np.ndarray:
        """That of the whole set, moved."""
        return self._fixed + self.share * self.whole.linear_minimum(gradients)

    def project(self, points: np.ndarray) -> np.ndarray:
        """That onto the whole set, moved."""
        return self._fixed + self.share * self.whole.project((points - self._fixed) / self.share)

    def contains(self, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """See FeasibleSet."""
        return self.whole.contains((points - self._fixed) / self.share, tolerance / self.share)

    @property
    def _fixed(self) -> np.ndarray:
        return (1 - self.share) * self.start


def to_simplex(points: np.ndarray, total: float = 1.0) -> np.ndarray:
    """The nearest point (..., n) with entries >= 0 that sum to `total` (Duchi et al. 2008).

    >>> to_simplex(np.array([0.9, 0.5, -1.0])).round(3).tolist()
    [0.7, 0.3, 0.0]
    """
    falling = -np.sort(-points, axis=-1)
    excess = np.cumsum(falling, axis=-1) - total
    count = np.arange(1, points.shape[-1] + 1)
    last = (falling * count > excess).sum(axis=-1, keepdims=True)
    return np.maximum(points - np.take_along_axis(excess, last - 1, axis=-1) / last, 0.0)


def _capped(values: np.ndarray, total: float) -> np.ndarray:
    """Values >= 0 (..., n) that sum to at most `total`, nearest to these."""
    return np.where(values.sum(axis=-1, keepdims=True) <= total, values, to_simplex(values, total))


def _at(place: np.ndarray, value: np.ndarray, count: int) -> np.ndarray:
    """Zeros (..., count) but for a value at one place of each row."""
    return np.where(np.arange(count) == place[..., None], np.asarray(value)[..., None], 0.0)
