"""The log of the sessions that moved weights: its lines are whole or absent, and one process at a time writes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goodrate import strict_json
from goodrate.serving.appending import append_lines, opened_for_lines

REQUIRED = ("session", "gradient", "events_read")
log = logging.getLogger(__name__)


class WeightsLog:
    """Lines of JSON, on disk when `append` comes back.

    Raises ValueError when another process has it open.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        import filelock

        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(lock)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(f"{path} is written by another process; one server at a time learns into it") from None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line. OSError, with nothing of it left where that is possible, when it cannot be written."""
        handle = opened_for_lines(self.path)
        try:
            append_lines(handle, (strict_json.dumps(line) + "\n").encode(), alone=True)
        finally:
            os.close(handle)

    def lines(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """The whole lines from a byte on, or all where the log is shorter. A line that is cut off was never learned.

        Raises ValueError for a line of something else.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(start if start <= self.size else 0)
            for raw in file:
                try:
                    line = strict_json.parse(raw.decode())
                except ValueError:
                    if raw.strip():
                        log.warning("%s: a line that was cut off is left out", self.path)
                    continue
                if not _is_session(line):
                    raise ValueError(
                        f"{self.path}: expected lines with {', '.join(REQUIRED)}, counts as whole numbers; found "
                        f"{str(line)[:80]}"
                    )
                yield line

    def close(self) -> None:
        """Let another process write."""
        self._lock.release()


def _is_session(line: Any) -> bool:
    """Whether a value is what a log holds."""
    return isinstance(line, dict) and "gradient" in line and all(
        type(line.get(name)) is int and line[name] >= 0 for name in ("session", "events_read")
    )  # fmt: skip
