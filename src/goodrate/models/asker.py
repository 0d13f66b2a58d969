"""Who waits for an answer: when they have gone, what is done for them alone is dropped."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class AskerGone(Exception):
    """Nobody waits for this answer any more."""


class Asker:
    """One who waits. Safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone = False
        self._told: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Whether they have left."""
        return self._gone

    def leave(self) -> None:
        """They have left: all that asked to be told are, once."""
        with self._lock:
            self._gone = True
            told, self._told = self._told, []
        for tell in told:
            tell()

    @contextlib.contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` should they leave before the block ends, or have they left already."""
        with self._lock:
            here = not self._gone
            if here:
                self._told.append(tell)
        if not here:
            tell()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._told.remove(tell)


ASKER: ContextVar[Asker | None] = ContextVar("asker", default=None)  # of the request that this thread answers


def require_asker() -> None:
    """Raise AskerGone when whoever asked has left."""
    asker = ASKER.get()
    if asker is not None and asker.gone:
        raise AskerGone


@contextlib.contextmanager
def telling(tell: Callable[[], None]) -> Iterator[None]:
    """Asker.telling of the request that this thread answers; nothing where there is none."""
    asker = ASKER.get()
    with asker.telling(tell) if asker is not None else contextlib.nullcontext():
        yield
