"""Starting fast: what a verb can do about the seconds that importing large libraries takes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside the block, and none later of what was made in it: for imports and loading models.

    Importing torch and transformers makes hundreds of thousands of objects that stay. Looking through them again and
    again was a quarter of the start-up time of `goodrate search` (docs/speed.md).
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
