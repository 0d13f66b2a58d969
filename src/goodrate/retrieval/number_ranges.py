"""Ranges of numbers with round bounds and about equally many numbers in each."""

from __future__ import annotations

import math

import numpy as np

RANGES = 5
FINEST = 1e-9  # a step is no smaller a part of the largest number
FINENESS = 2  # a bound is rounded to a step of at most one part in so many of the way to its nearer neighbour


def edges_of(numbers: np.ndarray) -> np.ndarray:
    """Ascending bounds; range i holds edges[i] <= x < edges[i + 1], and every number is in one. Empty without numbers.

    The numbers' quantiles, or the numbers where they are few, each rounded down to a multiple of a step of 1, 2 or 5
    times a power of ten.
    >>> edges_of(np.array([3.0, 8.0, 19.0, 22.0, 41.0, 48.0, 55.0, 90.0, 140.0, 210.0])).tolist()
    [2.0, 8.0, 20.0, 40.0, 80.0, 250.0]
    """
    if not len(numbers):
        return np.array([])
    points = np.unique(numbers)
    many = len(points) > RANGES
    if many:
        points = np.unique(np.quantile(numbers, np.linspace(0, 1, RANGES + 1), method="lower"))
    low, high, finest = float(points[0]), float(points[-1]), FINEST * float(np.abs(points).max())
    ways = np.diff(points) if len(points) > 1 else np.abs(points) / 2
    steps = [round_step(max(way / FINENESS, finest)) for way in (ways[0], *np.minimum(ways[:-1], ways[1:]), ways[-1])]
    bounds = [_below(point, step) for point, step in zip(points, steps, strict=False)]
    last = _times(round(_below(high, steps[-1]) / steps[-1]) + 1, steps[-1])
    return np.unique([bounds[0], *(edge for edge in bounds[1 : -1 if many else None] if low < edge <= high), last])


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


def _below(point: float, step: float) -> float:
    """The largest multiple of a step that is not more."""
    times = math.floor(point / step + 1e-6)  # 0.3 / 0.1 is less than 3
    return _times(times if _times(times, step) <= point else times - 1, step)


def _times(times: int, step: float) -> float:
    """times * step without the dust of binary fractions."""
    return float(f"{times * step:.12g}")
