"""The folder of a workbench: one SQLite file for what people say, with the tables of each topic and their version."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.relevance.verdict_store import full_disk_named, open_table

FILE = "workbench.sqlite"
VERSIONS = "CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True)
class Topic:
    """The tables of one topic. steps: SQL statements by version; the n-th brings version n - 1 to version n.

    A step that was released is never changed: a new column is a new step.
    """

    name: str
    steps: tuple[str, ...]


class Workbench:
    """One file for many threads and processes at once (write-ahead log). What `writing` wrote is on the disk when its
    block has ended: neither a killed process nor a power cut takes it.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises ValueError when the file is something else, OSError when it cannot be written or the disk is full."""
        self.folder = Path(folder)
        if self.folder.is_file():
            raise ValueError(f"{folder} is a file; a workbench is a folder, which is made where there is none")
        self.path = self.folder / FILE
        self._lock = threading.RLock()
        self._connection = open_table(self.path, VERSIONS, what="a workbench", synced=True)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA foreign_keys=ON")

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def prepare(self, topic: Topic) -> None:
        """Bring the tables of a topic to their newest version. ValueError for a file of a newer goodrate."""
        if self._version(topic) == len(topic.steps):
            return
        with self.writing() as connection:
            version = self._version(topic)  # another process may have been first
            if version > len(topic.steps):
                raise ValueError(
                    f"{self.path}: {topic.name} has version {version}; this goodrate reads up to {len(topic.steps)}"
                )
            for step in topic.steps[version:]:
                connection.execute(step)
            connection.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (topic.name, len(topic.steps)))

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """What a SELECT finds, one dict a row."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(sql, values)]

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: written whole when the block ends, not at all when it raises. OSError for a full disk."""
        with self._lock, full_disk_named(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def _version(self, topic: Topic) -> int:
        found = self.rows("SELECT version FROM topics WHERE name = ?", (topic.name,))
        return int(found[0]["version"]) if found else 0


def existing_workbench(folder: str | Path) -> Workbench:
    """The workbench of a folder. Raises FileNotFoundError where there is none."""
    if not (Path(folder) / FILE).is_file():
        raise FileNotFoundError(f"{folder} is no workbench: it has no {FILE}; goodrate compare A B --out DIR makes one")
    return Workbench(folder)
