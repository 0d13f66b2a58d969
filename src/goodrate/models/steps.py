"""What is called between the steps of a long work, such as decoding: others may get a turn, or it may be broken off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_BETWEEN: ContextVar[Callable[[], None] | None] = ContextVar("between_steps", default=None)


def step_done() -> None:
    """Call what the caller of this work has asked for. Raises what it raises: the work is broken off then."""
    between = _BETWEEN.get()
    if between is not None:
        with between_steps(None):  # what it does has steps of its own
            between()


@contextlib.contextmanager
def between_steps(between: Callable[[], None] | None) -> Iterator[None]:
    """Have `between` called after each step inside the block."""
    token = _BETWEEN.set(between)
    try:
        yield
    finally:
        _BETWEEN.reset(token)
