"""64-bit keys that are the same in every run, process and corpus."""

from __future__ import annotations

import numpy as np

_ADD, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mixed(keys: np.ndarray, more: np.ndarray | np.uint64) -> np.ndarray:
    """Keys (N,) uint64 of what `keys` stands for followed by `more`; the order counts. The steps are splitmix64's."""
    with np.errstate(over="ignore"):
        x = (keys * np.uint64(31) + more) + _ADD
        x = (x ^ (x >> np.uint64(30))) * _FIRST
        x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
