"""Who is told of what a server answers: metrics and traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from goodrate.relevance.verdicts import Verdict
from goodrate.serving.records import SearchResponse


class Observer(Protocol):
    """Told of every search and every verdict, in the thread that answers."""

    def searched(self, response: SearchResponse) -> None:
        """A search was answered."""
        ...

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Pairs were judged outside a search."""
        ...


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def searched(self, response: SearchResponse) -> None:
        """Tell all of a search."""
        for observer in self._observers:
            observer.searched(response)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Tell all of verdicts."""
        for observer in self._observers:
            observer.judged(verdicts)
