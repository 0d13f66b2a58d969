"""Side by side: comparison sets in the file of a workbench, and what raters say of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from goodrate.evaluation.query_choice import average_overlap, draw_by_size
from goodrate.serving.pictures import picture_hosts
from goodrate.serving.workbench.store import Topic, Workbench

TOPIC = Topic(
    "comparisons",
    (
        """CREATE TABLE comparisons (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, made_of TEXT NOT NULL, made REAL NOT NULL,
        whole INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE compared_queries (
        id INTEGER PRIMARY KEY, comparison INTEGER NOT NULL REFERENCES comparisons, query TEXT NOT NULL,
        a TEXT NOT NULL, b TEXT NOT NULL, overlap REAL NOT NULL, identical INTEGER NOT NULL,
        a_is_left INTEGER, asked INTEGER, chance REAL, UNIQUE (comparison, query))""",
        """CREATE TABLE side_votes (
        id INTEGER PRIMARY KEY, query INTEGER NOT NULL REFERENCES compared_queries, rater TEXT NOT NULL,
        better TEXT NOT NULL CHECK (better IN ('a', 'same', 'b')), comment TEXT NOT NULL, voted REAL NOT NULL)""",
        "CREATE INDEX side_votes_of_queries ON side_votes (query, rater)",
    ),
)
LABELS = {"a": "bad", "same": "same", "b": "good"}  # of B, the second system
# The last vote of a rater on a query counts; what was said before stays in the table.
LAST = "SELECT max(id) FROM side_votes GROUP BY query, rater"


class UnknownComparison(LookupError):
    """A comparison or one of its queries that is not there."""


@dataclass(frozen=True)
class MadeOf:
    """All that decides a comparison set. a, b: the systems' names and settings. queries: a hash of their list.

    ask: how many queries people are asked about at most; None = all that differ.
    """

    a: dict[str, Any]
    b: dict[str, Any]
    k: int
    seed: int
    queries: str
    ask: int | None = None


@dataclass(frozen=True)
class Shown:
    """One query as raters see it; left and right hide which system is which. better: the rater's last vote, a side."""

    query: str
    left: list[dict[str, Any]]
    right: list[dict[str, Any]]
    better: str | None
    comment: str


class Comparisons:
    """Comparison sets and votes. A vote is on the disk when it is acknowledged."""

    def __init__(self, workbench: Workbench) -> None:
        workbench.prepare(TOPIC)
        self._workbench = workbench

    # ---- making a set

    def begin(self, name: str, made_of: MadeOf) -> int:
        """The id of the set of that name, new or begun before. ValueError when it is made of something else."""
        told = json.dumps(asdict(made_of), sort_keys=True, ensure_ascii=False)
        with self._workbench.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO comparisons (name, made_of, made) VALUES (?, ?, ?)", (name, told, time.time())
            )
        row = self._workbench.rows("SELECT * FROM comparisons WHERE name = ?", (name,))[0]
        if row["made_of"] != told:
            before, wanted = json.loads(row["made_of"]), json.loads(told)
            differing = ", ".join(key for key in wanted if before.get(key) != wanted[key])
            raise ValueError(
                f"{self._workbench.path} has a comparison {name!r} made of other {differing}; give this one another "
                "--name, or the same options"
            )
        return int(row["id"])

    def done(self, number: int) -> set[str]:
        """The queries that the set has."""
        rows = self._workbench.rows("SELECT query FROM compared_queries WHERE comparison = ?", (number,))
        return {row["query"] for row in rows}

    def add(self, number: int, query: str, a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> None:
        """What both systems found for a query: items with "id", best first."""
        ids = [item["id"] for item in a], [item["id"] for item in b]
        values = (number, query, _json(a), _json(b), average_overlap(*ids), ids[0] == ids[1])
        with self._workbench.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO compared_queries (comparison, query, a, b, overlap, identical) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )

    def finish(self, number: int, seed: int, ask: int | None) -> None:
        """Choose the queries that people are asked about, their order, and which system is on the left."""
        rows = self._workbench.rows(
            "SELECT id, overlap FROM compared_queries WHERE comparison = ? AND NOT identical ORDER BY query", (number,)
        )
        rng = np.random.default_rng(seed)
        sizes = np.array([max(1 - row["overlap"], 1e-3) for row in rows])
        chances = draw_by_size(sizes, len(rows) if ask is None else ask, seed) if rows else sizes
        chosen = rng.permutation(np.flatnonzero(chances > 0))
        left = rng.random(len(chosen)) < 0.5
        values = [
            (place, bool(is_left), float(chances[row]), rows[row]["id"])
            for place, (row, is_left) in enumerate(zip(chosen, left, strict=True))
        ]
        with self._workbench.writing() as connection:
            connection.executemany(
                "UPDATE compared_queries SET asked = ?, a_is_left = ?, chance = ? WHERE id = ?", values
            )
            connection.execute("UPDATE comparisons SET whole = 1 WHERE id = ?", (number,))

    # ---- for raters

    def sets(self) -> list[dict[str, Any]]:
        """The sets that are whole, the newest first: id, name, how many queries, identical and asked ones."""
        return self._workbench.rows(
            "SELECT c.id, c.name, count(*) AS queries, sum(identical) AS identical, count(asked) AS asked "
            "FROM comparisons c JOIN compared_queries q ON q.comparison = c.id WHERE whole GROUP BY c.id "
            "ORDER BY c.id DESC"
        )

    def asked(self, number: int, rater: str) -> list[dict[str, Any]]:
        """The queries of a set in the order in which they are asked: id, query, whether this rater has voted."""
        self._set(number)
        return self._workbench.rows(
            "SELECT q.id, q.query, EXISTS (SELECT 1 FROM side_votes v WHERE v.query = q.id AND rater = ?) AS voted "
            "FROM compared_queries q WHERE comparison = ? AND asked IS NOT NULL ORDER BY asked",
            (rater, number),
        )

    def shown(self, number: int, rater: str) -> Shown:
        """One query for a rater. Raises UnknownComparison for one that nobody is asked about."""
        row = self._asked(number)
        lists = {"a": json.loads(row["a"]), "b": json.loads(row["b"])}
        sides = ("a", "b") if row["a_is_left"] else ("b", "a")
        votes = self._workbench.rows(
            "SELECT better, comment FROM side_votes WHERE query = ? AND rater = ? ORDER BY id DESC LIMIT 1",
            (number, rater),
        )
        better = {sides[0]: "left", sides[1]: "right", "same": "same"}[votes[0]["better"]] if votes else None
        comment = votes[0]["comment"] if votes else ""
        return Shown(row["query"], lists[sides[0]], lists[sides[1]], better, comment)

    def vote(self, number: int, rater: str, better: str, comment: str = "") -> None:
        """Keep a vote. better: left, same or right. Raises UnknownComparison."""
        row = self._asked(number)
        sides = ("a", "b") if row["a_is_left"] else ("b", "a")
        system = {"left": sides[0], "same": "same", "right": sides[1]}[better]
        with self._workbench.writing() as connection:
            connection.execute(
                "INSERT INTO side_votes (query, rater, better, comment, voted) VALUES (?, ?, ?, ?, ?)",
                (number, rater, system, comment, time.time()),
            )

    # ---- for the report

    def named(self, name: str | None) -> dict[str, Any]:
        """A set by its name as `sets` has it, with the names of both systems; None: the only one. Raises ValueError."""
        known = self.sets()
        if not known:
            raise ValueError(f"{self._workbench.path} has no comparison; goodrate compare A B makes one")
        if name is None and len(known) > 1:
            names = ", ".join(repr(one["name"]) for one in known)
            raise ValueError(f"{self._workbench.path} has several comparisons: {names}; name one with --name")
        found = [one for one in known if name in (None, one["name"])]
        if not found:
            names = ", ".join(repr(one["name"]) for one in known)
            raise ValueError(f"{self._workbench.path} has no whole comparison {name!r}; it has {names}")
        made_of = json.loads(self._set(found[0]["id"])["made_of"])
        return {**found[0], "a": made_of["a"]["name"], "b": made_of["b"]["name"]}

    def votes(self, number: int) -> list[dict[str, Any]]:
        """The votes that count: query, rater, label (good: B is better), comment, voted, left, overlap, chance."""
        rows = self._workbench.rows(
            "SELECT q.query, rater, better, comment, strftime('%Y-%m-%dT%H:%M:%SZ', voted, 'unixepoch') AS voted, "
            "CASE WHEN a_is_left THEN 'a' ELSE 'b' END AS left, overlap, chance FROM side_votes v "
            f"JOIN compared_queries q ON q.id = v.query WHERE comparison = ? AND v.id IN ({LAST}) ORDER BY asked, v.id",
            (number,),
        )
        return [{"label": LABELS[row.pop("better")], **row} for row in rows]

    def images(self) -> list[str]:
        """The addresses of all pictures of all sets."""
        rows = self._workbench.rows(
            "SELECT DISTINCT json_extract(value, '$.image') AS image FROM compared_queries, json_each(a) "
            "UNION SELECT DISTINCT json_extract(value, '$.image') FROM compared_queries, json_each(b)"
        )
        return [row["image"] for row in rows if row["image"]]

    def _set(self, number: int) -> dict[str, Any]:
        rows = self._workbench.rows("SELECT * FROM comparisons WHERE id = ?", (number,))
        if not rows:
            raise UnknownComparison(f"no comparison {number}")
        return rows[0]

    def _asked(self, number: int) -> dict[str, Any]:
        rows = self._workbench.rows("SELECT * FROM compared_queries WHERE id = ? AND asked IS NOT NULL", (number,))
        if not rows:
            raise UnknownComparison(f"no query {number} in a comparison")
        return rows[0]


class SetPictures:
    """The img-src of the page for the pictures of all sets; read again when there is another set."""

    def __init__(self, comparisons: Comparisons) -> None:
        self._comparisons = comparisons
        self._known: tuple[list[int], str] | None = None

    def sources(self) -> str:
        """What img-src allows: this server, data: addresses, and the hosts of the sets' pictures."""
        numbers = [one["id"] for one in self._comparisons.sets()]
        if self._known is None or self._known[0] != numbers:
            hosts = picture_hosts(pl.Series(self._comparisons.images(), dtype=pl.String))
            self._known = (numbers, " ".join(["'self'", "data:", *hosts]))
        return self._known[1]


def _json(items: Sequence[dict[str, Any]]) -> str:
    return json.dumps(list(items), ensure_ascii=False)
