"""Memory that was freed goes back to the system: an allocator that keeps it would hide that a table shrank."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is no such thing."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def give_back() -> None:
    """Return freed pages to the system. Takes milliseconds; for after a table was rebuilt, not for every step."""
    if trim := _trim():
        trim(0)
