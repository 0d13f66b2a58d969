"""Overrules of a workbench: set, listed, undone; those that hold are read at every search."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from goodrate.catalog.normal_form import normal_text
from goodrate.relevance.overrules import Overrule
from goodrate.serving.workbench.store import Topic, Workbench

TOPIC = Topic(
    "overrules",
    (
        """CREATE TABLE overrules (
        id INTEGER PRIMARY KEY, query TEXT NOT NULL, query_key TEXT NOT NULL, item_id TEXT NOT NULL,
        label TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL, made REAL NOT NULL, until TEXT,
        undone REAL, undone_by TEXT)""",
        "CREATE INDEX overrules_that_stand ON overrules (query_key, item_id) WHERE undone IS NULL",
    ),
)
STANDS = "undone IS NULL AND (until IS NULL OR until >= :today)"


class UnknownOverrule(LookupError):
    """An id that no overrule has."""


class Overrules:
    """What people said of pairs, in the file of a workbench. Queries are the same whatever their case and blanks.

    today: the day by which overrules expire.
    """

    def __init__(self, workbench: Workbench, today: Callable[[], datetime.date] = datetime.date.today) -> None:
        workbench.prepare(TOPIC)
        self._workbench, self._today = workbench, today

    def of_query(self, query: str) -> dict[str, Overrule]:
        """Those that hold today, by item id."""
        rows = self._workbench.rows(
            f"SELECT * FROM overrules WHERE query_key = :key AND {STANDS} ORDER BY id",
            {"key": normal_text(query), "today": self._today().isoformat()},
        )
        return {row["item_id"]: overrule_of(row) for row in rows}

    def set(
        self, query: str, item_id: str, label: str, by: str, reason: str = "", until: datetime.date | None = None
    ) -> Overrule:
        """A person's verdict of a pair, in place of one that it has. Raises ValueError for a day that is over."""
        if until is not None and until < self._today():
            raise ValueError(f"until is {until}, a day that is over; expected today ({self._today()}) or a later day")
        key, now = normal_text(query), time.time()
        with self._workbench.writing() as connection:
            connection.execute(
                "UPDATE overrules SET undone = ?, undone_by = ? WHERE query_key = ? AND item_id = ? AND undone IS NULL",
                (now, by, key, item_id),
            )
            values = (query, key, item_id, label, by, reason, now, until.isoformat() if until else None)
            made = connection.execute(
                "INSERT INTO overrules (query, query_key, item_id, label, by, reason, made, until) "
                f"VALUES ({', '.join('?' * len(values))})",
                values,
            ).lastrowid
        return overrule_of(self._row(int(made or 0)))

    def undo(self, number: int, by: str) -> Overrule:
        """Let the judge's verdict count again. One that is undone stays so. Raises UnknownOverrule."""
        self._row(number)
        with self._workbench.writing() as connection:
            connection.execute(
                "UPDATE overrules SET undone = ?, undone_by = ? WHERE id = ? AND undone IS NULL",
                (time.time(), by, number),
            )
        return overrule_of(self._row(number))

    def listed(self, query: str | None = None, every: bool = False, limit: int = 1000) -> list[dict[str, Any]]:
        """The newest first, as JSON with "state" (holds, expired, undone), "undone" and "undone_by".

        query: of this one alone. every: those that are expired and undone too.
        """
        conditions = [*(["query_key = :key"] if query else []), *([] if every else [STANDS])]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        values = {"key": normal_text(query or ""), "today": self._today().isoformat(), "limit": limit}
        rows = self._workbench.rows(f"SELECT * FROM overrules {where} ORDER BY id DESC LIMIT :limit", values)
        return [self._shown(row) for row in rows]

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        over = row["until"] is not None and row["until"] < self._today().isoformat()
        state = "undone" if row["undone"] is not None else "expired" if over else "holds"
        undone = None if row["undone"] is None else _moment(row["undone"]).isoformat(timespec="seconds")
        own = {"state": state, "undone": undone, "undone_by": row["undone_by"]}
        return {**overrule_of(row).as_dict(), **own}

    def _row(self, number: int) -> dict[str, Any]:
        rows = self._workbench.rows("SELECT * FROM overrules WHERE id = ?", (number,))
        if not rows:
            raise UnknownOverrule(f"no overrule has the id {number}; GET /overrules lists them")
        return rows[0]


def overrule_of(row: dict[str, Any]) -> Overrule:
    """The overrule of a row of the table."""
    until = None if row["until"] is None else datetime.date.fromisoformat(row["until"])
    own = {name: row[name] for name in ("id", "query", "item_id", "label", "by", "reason")}
    return Overrule(**own, made=_moment(row["made"]), until=until)


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
