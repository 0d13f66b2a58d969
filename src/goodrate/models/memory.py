"""Memory that the C library keeps for itself."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def release_memory() -> None:
    """Hand freed memory back to the system. glibc keeps it: tensors of ever other sizes leave holes that add up to
    gigabytes in an hour of sampling. Nothing happens where there is no glibc."""
    trim = _trim()
    if trim:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
