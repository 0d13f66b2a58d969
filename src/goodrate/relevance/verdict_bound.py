"""How many verdicts a store keeps: when they are too many, those that were not used for the longest time go.

A verdict can be given again by its judge, so nothing is lost but time. Labels of people and answers of teachers lie in
other tables and files and are never removed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

EACH = 500  # verdicts written between two looks at how many there are
AT_ONCE = 4 * EACH  # that are removed at one look, so that no search waits for long
FRESH_SECONDS = 3600.0  # a use is noted when the one before is older
NOTED = 2000  # uses that are remembered until the next verdict is written
# Made with the first bound: finds what was not used for long, and counts rows without reading them.
INDEX = "CREATE INDEX IF NOT EXISTS verdicts_used ON verdicts (used)"


class VerdictBound:
    """The bound of one open store. Its methods are called under the store's lock.

    keep: how many verdicts stay; None = all. removed: how many went, in all.
    """

    def __init__(self, keep: int | None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"a store that keeps {keep} verdicts keeps nothing; expected 1 or more")
        self.keep = keep
        self.removed = 0
        self._written = 0
        self._used: dict[str, float] = {}

    def used(self, rows: Iterable[tuple[str, float]]) -> None:
        """Remember that verdicts were used now. rows: (key, when it was used before, seconds since 1970)."""
        now = time.time()
        if len(self._used) < NOTED:
            self._used.update({key: now for key, before in rows if now - before > FRESH_SECONDS})

    def note_used(self, connection: sqlite3.Connection) -> None:
        """Write down which verdicts were used, in the transaction of the caller."""
        if self._used:
            rows = [(when, key) for key, when in self._used.items()]
            connection.executemany("UPDATE verdicts SET used = max(used, ?) WHERE key = ?", rows)
            self._used.clear()

    def after(self, connection: sqlite3.Connection, written: int) -> None:
        """What follows a write of so many verdicts, in its transaction."""
        self.note_used(connection)
        self._written += written
        if self._written >= min(EACH, self.keep or EACH):
            self._written = 0
            self.prune(connection, AT_ONCE)

    def prune(self, connection: sqlite3.Connection, most: int | None = None) -> None:
        """Remove what is too many, those first that were not used for the longest time. most: so many at most."""
        if self.keep is None:
            return
        connection.execute(INDEX)
        (count,) = connection.execute("SELECT count(*) FROM verdicts").fetchone()
        surplus = max(0, count - self.keep)
        if surplus:
            goners = "SELECT key FROM verdicts ORDER BY used, key LIMIT ?"
            limit = surplus if most is None else min(surplus, most)
            self.removed += connection.execute(f"DELETE FROM verdicts WHERE key IN ({goners})", (limit,)).rowcount
