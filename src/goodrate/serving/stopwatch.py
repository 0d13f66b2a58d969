"""How long the stages of a search take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + 1000 * (time.perf_counter() - start)

    def move(self, stage: str, to: str, milliseconds: float) -> None:
        """Count a part of a stage's time as another's."""
        self.stages[stage] -= milliseconds
        self.stages[to] = self.stages.get(to, 0.0) + milliseconds

    def report(self) -> dict[str, float]:
        """All stages and the total since the start."""
        return {**self.stages, "total": 1000 * (time.perf_counter() - self._start)}
