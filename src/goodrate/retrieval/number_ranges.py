"""Ranges of numbers with round bounds and about equally many numbers in each."""

from __future__ import annotations

import math

import numpy as np

RANGES = 5
FINENESS = 2  # a bound is rounded to a step of at most one part in so many of the way to its nearer neighbour


def edges_of(numbers: np.ndarray) -> np.ndarray:
    """Ascending bounds; range i holds edges[i] <= x < edges[i + 1], and every number is in one. Empty without numbers.

    The numbers' quantiles, each rounded to a multiple of a step of 1, 2 or 5 times a power of ten.
    >>> edges_of(np.array([3.0, 8.0, 19.0, 22.0, 41.0, 48.0, 55.0, 90.0, 140.0, 210.0])).tolist()
    [0.0, 15.0, 35.0, 50.0, 100.0, 250.0]
    """
    if not len(numbers):
        return np.array([])
    points = np.quantile(numbers, np.linspace(0, 1, RANGES + 1))
    low, high = float(points[0]), float(points[-1])
    if low == high:
        step = round_step(abs(low) / FINENESS)
        return np.array([_rounded(math.floor(low / step), step), _rounded(math.floor(low / step) + 1, step)])
    points = np.unique(points)
    ways = np.diff(points)
    inner = {_near(points[i], min(ways[i - 1], ways[i])) for i in range(1, len(points) - 1)}
    first, last = round_step(ways[0] / FINENESS), round_step(ways[-1] / FINENESS)
    ends = (_rounded(math.floor(low / first), first), _rounded(math.floor(high / last) + 1, last))
    return np.array([ends[0], *sorted(edge for edge in inner if low < edge <= high), ends[1]])


def round_step(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not more; 1 for 0.

    >>> [round_step(x) for x in (0.3, 7.0, 10.0, 4999.0)]
    [0.2, 5.0, 10.0, 2000.0]
    """
    if most <= 0:
        return 1.0
    power = math.floor(math.log10(most) + 1e-12)
    digit = max(digit for digit in (1, 2, 5) if digit == 1 or digit * 10.0**power <= most * (1 + 1e-12))
    return float(f"{digit}e{power}")


def _near(point: float, way: float) -> float:
    step = round_step(way / FINENESS)
    return _rounded(round(point / step), step)


def _rounded(times: int, step: float) -> float:
    """times * step without the dust of binary fractions."""
    return float(f"{times * step:.12g}")
