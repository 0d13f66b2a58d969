"""The infeasible projection oracle: nearer to every point of a set than what is asked, by linear minima alone.

Garber and Kretzu, Projection-free Online Exp-concave Optimization, with the identity for their matrix. Many points at
once: B rows of points (B, n), tolerances (B,); rows that are done are not asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from goodrate.ranking.online.sets import FeasibleSet

PULL = 2 / 3


@dataclass(frozen=True)
class Projected:
    """x (B, n) in the set; near (B, n), perhaps outside; calls (B,): linear minima that were asked for.

    ||x - near||^2 <= 3 tolerance, and near is at most as far from every point of the set as what was projected.
    """

    x: np.ndarray
    near: np.ndarray
    calls: np.ndarray


Oracle = Callable[[FeasibleSet, np.ndarray, np.ndarray, np.ndarray], Projected]


def separating_frank_wolfe(
    feasible: FeasibleSet, start: np.ndarray, points: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frank-Wolfe with line search towards points (B, n) from start (B, n): (x (B, n), calls (B,)).

    Ends where ||x - y||^2 <= 3 tolerance or the Frank-Wolfe gap is <= tolerance; in the second case
    <y - z, y - x> > 2/3 ||x - y||^2 for every z of the set. At most ceil(27 R^2 / tolerance - 2) calls a row.
    """
    x, calls = start.copy(), np.zeros(len(start), dtype=np.int64)
    rows = np.arange(len(start))
    while len(rows):
        to_point = x[rows] - points[rows]
        step = feasible.linear_minimum(to_point) - x[rows]
        calls[rows] += 1
        gap = -np.einsum("bn,bn->b", to_point, step)
        distance = np.einsum("bn,bn->b", to_point, to_point)
        going = (gap > tolerance[rows]) & (distance > 3 * tolerance[rows])
        rows, step, gap = rows[going], step[going], gap[going]
        size = np.clip(gap / np.einsum("bn,bn->b", step, step), 0.0, 1.0)
        x[rows] += size[:, None] * step
    return x, calls


def infeasible_projection(
    feasible: FeasibleSet, start: np.ndarray, points: np.ndarray, tolerance: np.ndarray
) -> Projected:
    """AFP: points (B, n) are pulled towards what Frank-Wolfe reaches from start (B, n) until both are near.

    start: in the set; the last play, since a cold start costs many times the calls. Points that are near to it at once
    come back as they are.
    """
    x, near, calls = start.copy(), points.copy(), np.zeros(len(start), dtype=np.int64)
    rows = np.flatnonzero(_far(x, near, tolerance))
    while len(rows):
        x[rows], asked = separating_frank_wolfe(feasible, x[rows], near[rows], tolerance[rows])
        calls[rows] += asked
        rows = rows[_far(x[rows], near[rows], tolerance[rows])]
        near[rows] -= PULL * (near[rows] - x[rows])
    return Projected(x, near, calls)


def exact_projection(feasible: FeasibleSet, start: np.ndarray, points: np.ndarray, tolerance: np.ndarray) -> Projected:
    """The exact projection in the shape of the oracle: no linear minimum, for sets that have one."""
    nearest = feasible.project(points)
    return Projected(nearest, nearest.copy(), np.zeros(len(points), dtype=np.int64))


def call_bounds(radius: float, distance: float, tolerance: float) -> tuple[int, int]:
    """The most linear minima of one Frank-Wolfe and the most Frank-Wolfes of one oracle call that theory allows.

    distance: squared, of the start and the point.
    """
    inner = int(np.ceil(27 * radius**2 / tolerance - 2))
    outer = int(np.ceil(max(2.25 * np.log(max(distance, tolerance) / tolerance) + 1, 0)))
    return max(inner, 1), outer


def _far(x: np.ndarray, points: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    return np.asarray(((x - points) ** 2).sum(axis=-1) > 3 * tolerance)
