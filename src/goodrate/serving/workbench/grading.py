"""The queue of pairs to grade and what raters said of them, in the file of a workbench.

A vote is never changed or removed: a rater's later vote on a pair counts in place of the earlier one. A pair is shown
to one rater at a time, for a while, so that two people who grade at once do not grade the same pair in vain.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from goodrate.catalog.normal_form import normal_text
from goodrate.evaluation.agreement_over_time import By, Period, agreement_over_time
from goodrate.relevance.partial_rules import deciding_rule
from goodrate.relevance.rulebook import RuleBook, load_rulebook, on_scale
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale, get_scale, scale_entry
from goodrate.serving.workbench.store import Topic, Workbench

LABEL, CANNOT_TELL, SKIP = "label", "cannot_tell", "skip"
HELD_SECONDS = 600.0  # a pair that was shown to a rater is not shown to others for so long
RULES_FILE = "grading_rules.toml"
MODEL = "model:"  # catalog.raters: no person's name begins so
LATEST = """SELECT pair, rater_key, kind, MAX(id) AS id FROM grading_votes GROUP BY pair, rater_key"""
TOPIC = Topic(
    "grading",
    (
        """CREATE TABLE grading_book (
        one INTEGER PRIMARY KEY CHECK (one = 1), scale TEXT NOT NULL, book_hash TEXT, raters INTEGER NOT NULL,
        made REAL NOT NULL)""",
        """CREATE TABLE grading_pairs (
        place INTEGER PRIMARY KEY, query TEXT NOT NULL, query_key TEXT NOT NULL, item_id TEXT NOT NULL,
        title TEXT NOT NULL, queue TEXT NOT NULL, why TEXT NOT NULL, UNIQUE (query_key, item_id))""",
        """CREATE TABLE grading_votes (
        id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, pair INTEGER NOT NULL REFERENCES grading_pairs (place),
        rater TEXT NOT NULL, rater_key TEXT NOT NULL, kind TEXT NOT NULL, label TEXT, rule TEXT, rule_label TEXT,
        said TEXT NOT NULL, reason TEXT NOT NULL, seconds REAL NOT NULL, time REAL NOT NULL)""",
        "CREATE INDEX grading_votes_of_pairs ON grading_votes (pair, rater_key, id, kind)",
        """CREATE TABLE grading_held (
        rater_key TEXT PRIMARY KEY, pair INTEGER NOT NULL REFERENCES grading_pairs (place), until REAL NOT NULL)""",
    ),
)
# What one rater grades next: not what she has done, nor what others do or have done; what she skipped comes last.
NEXT = f"""WITH latest AS ({LATEST}),
    done AS (SELECT pair, count(*) AS votes, sum(rater_key = :rater) AS mine FROM latest WHERE kind != 'skip'
        GROUP BY pair),
    skipped AS (SELECT pair, id FROM latest WHERE kind = 'skip' AND rater_key = :rater),
    held AS (SELECT pair, count(*) AS others FROM grading_held WHERE until BETWEEN :now AND :latest
        AND rater_key != :rater GROUP BY pair)
    SELECT grading_pairs.*, skipped.id IS NOT NULL AS skipped FROM grading_pairs
    LEFT JOIN done ON done.pair = place LEFT JOIN skipped ON skipped.pair = place LEFT JOIN held ON held.pair = place
    WHERE coalesce(done.mine, 0) = 0 AND coalesce(done.votes, 0) + coalesce(held.others, 0) < :raters
    ORDER BY skipped.id IS NOT NULL, skipped.id, place LIMIT 1"""


class NoQueue(ValueError):
    """There is nothing to grade: no queue was made."""


class UnknownPair(LookupError):
    """A pair that the queue does not have."""


@dataclass(frozen=True)
class QueuedPair:
    """A pair to grade. queue: what put it there (next-labels, disagreement, top); why: in words; raters see neither."""

    query: str
    item_id: str
    title: str
    queue: str
    why: str = ""


@dataclass(frozen=True)
class Scheme:
    """How pairs are graded: labels, the rule book (None: labels alone), and how many raters a pair has."""

    scale: RelevanceScale
    book: RuleBook | None
    raters: int


@dataclass(frozen=True)
class Vote:
    """What a rater says of a pair. kind: label, cannot_tell or skip. said: column of the rule book -> its value.

    token: of the one who sends it; the same vote sent again counts once. seconds: that the rater took.
    """

    pair: int
    rater: str
    kind: str
    label: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0
    token: str = ""


class Grading:
    """The queue and the votes of a workbench. now: the time, in seconds since 1970."""

    def __init__(self, workbench: Workbench, now: Callable[[], float] = time.time) -> None:
        workbench.prepare(TOPIC)
        self._workbench, self._now = workbench, now
        self._known: tuple[tuple[Any, ...], Scheme] | None = None

    # ---- the queue

    def set_up(self, scale: RelevanceScale, rules: str | None, raters: int | None = None) -> Scheme:
        """Say how pairs are graded. rules: the text of a rule book. What is there already must be the same.

        raters: how many a pair has; None = as it is, one for a new queue.

        Raises ValueError naming what differs: labels of two scales or books cannot stand in one queue.
        """
        if raters is not None and raters < 1:
            raise ValueError(f"raters is {raters}; expected 1 or more")
        path = self._workbench.folder / RULES_FILE
        if self._workbench.rows("SELECT one FROM grading_book"):
            kept = self.scheme()
            theirs = path.read_text(encoding="utf-8") if kept.book is not None else None
            if kept.scale != scale or theirs != rules:
                raise ValueError(
                    f"{self._workbench.path} has a queue on scale {kept.scale.name} with "
                    f"{'other rules' if theirs != rules else 'the same rules'}: take another --workbench, or these"
                )
            with self._workbench.writing() as connection:
                connection.execute("UPDATE grading_book SET raters = ?", (raters or kept.raters,))
            return self.scheme()
        if rules is not None:
            write_atomic(path, rules)
            on_scale(load_rulebook(path), scale)
        digest = load_rulebook(path).hash if rules is not None else None
        values = (json.dumps(scale_entry(scale)), digest, raters or 1, self._now())
        with self._workbench.writing() as connection:
            connection.execute("INSERT INTO grading_book VALUES (1, ?, ?, ?, ?)", values)
        return self.scheme()

    def scheme(self) -> Scheme:
        """How pairs are graded. Raises NoQueue, and ValueError where the rule book's file is not the queue's."""
        rows = self._workbench.rows("SELECT scale, book_hash, raters FROM grading_book")
        if not rows:
            raise NoQueue("there is no queue of pairs to grade; make one with: goodrate grade make")
        key = tuple(rows[0].values())
        if self._known is None or self._known[0] != key:
            scale = get_scale(json.loads(rows[0]["scale"]))
            self._known = (key, Scheme(scale, self._book(rows[0]["book_hash"], scale), int(rows[0]["raters"])))
        return self._known[1]

    def _book(self, digest: str | None, scale: RelevanceScale) -> RuleBook | None:
        if digest is None:
            return None
        path = self._workbench.folder / RULES_FILE
        book = load_rulebook(path)
        if book.hash != digest:
            raise ValueError(f"{path} is not the rule book that the queue was made with ({book.hash}, not {digest})")
        return on_scale(book, scale) if book.scale != scale else book

    def add(self, pairs: Iterable[QueuedPair]) -> int:
        """Put pairs at the end of the queue, each once, whatever case and blanks of its query; how many are new."""
        rows = [(one.query, normal_text(one.query), one.item_id, one.title, one.queue, one.why) for one in pairs]
        with self._workbench.writing() as connection:
            before = connection.execute("SELECT count(*) FROM grading_pairs").fetchone()[0]
            connection.executemany(
                "INSERT OR IGNORE INTO grading_pairs (query, query_key, item_id, title, queue, why) "
                "VALUES (?, ?, ?, ?, ?, ?)", rows,
            )  # fmt: skip
            return int(connection.execute("SELECT count(*) FROM grading_pairs").fetchone()[0]) - int(before)

    # ---- grading

    def next(self, rater: str) -> dict[str, Any] | None:
        """The pair that a rater grades next, held for her; None when nothing is left for her at the moment."""
        key, now = rater_key(rater), self._now()
        # A clock that was put back: what is held for longer than anything is held was held in another time.
        values = {"rater": key, "now": now, "latest": now + HELD_SECONDS, "raters": self.scheme().raters}
        with self._workbench.writing() as connection:
            found = connection.execute(NEXT, values).fetchone()
            connection.execute("DELETE FROM grading_held WHERE rater_key = ?", (key,))
            if found is None:
                return None
            held = (key, found["place"], now + HELD_SECONDS)
            connection.execute("INSERT INTO grading_held VALUES (?, ?, ?)", held)
        return dict(found)

    def pair(self, place: int) -> dict[str, Any]:
        """A pair of the queue. Raises UnknownPair."""
        rows = self._workbench.rows("SELECT * FROM grading_pairs WHERE place = ?", (place,))
        if not rows:
            raise UnknownPair(f"no pair {place} is in the queue")
        return rows[0]

    def vote(self, vote: Vote) -> int:
        """Keep a vote; its id. It is on the disk when this returns.

        Raises UnknownPair, and ValueError for a label that is not on the scale, for columns that the rule book does not
        have, and for a label other than that of the rules without a reason.
        """
        self.pair(vote.pair)
        key, row = rater_key(vote.rater), self._row(vote)
        with self._workbench.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO grading_votes (token, pair, rater, rater_key, kind, label, rule, rule_label, "
                f"said, reason, seconds, time) VALUES ({', '.join('?' * len(row))})", row,
            )  # fmt: skip
            connection.execute("DELETE FROM grading_held WHERE rater_key = ? AND pair = ?", (key, vote.pair))
            return int(connection.execute("SELECT id FROM grading_votes WHERE token = ?", (row[0],)).fetchone()[0])

    def _row(self, vote: Vote) -> tuple[Any, ...]:
        """The columns of a vote that is sound."""
        rater = vote.rater.strip()
        label, rule, rule_label = self._labels(vote)
        token = f"{rater_key(rater)} {vote.pair} {vote.token or uuid.uuid4()}"
        said = json.dumps(dict(vote.said), ensure_ascii=False, sort_keys=True)
        seconds = min(max(float(vote.seconds), 0.0), 86400.0)
        return (
            token, vote.pair, rater, rater_key(rater), vote.kind, label, rule, rule_label, said, vote.reason.strip(),
            seconds, self._now(),
        )  # fmt: skip

    def _labels(self, vote: Vote) -> tuple[str | None, str | None, str | None]:
        """The label as the scale has it, the rule that decides, and that rule's label."""
        scheme = self.scheme()
        if vote.kind not in (LABEL, CANNOT_TELL, SKIP):
            raise ValueError(f"kind is {vote.kind!r}; expected {LABEL}, {CANNOT_TELL} or {SKIP}")
        if scheme.book is None and vote.said:
            raise ValueError("columns are given, and this queue has no rule book")
        rule = deciding_rule(scheme.book, vote.said) if scheme.book is not None else None
        by_rule = scheme.scale.labels[scheme.scale.index(rule.label)] if rule is not None else None
        if vote.kind != LABEL:
            return None, rule.id if rule else None, by_rule
        if vote.label is None:
            raise ValueError(f"a vote of kind {LABEL} has no label; expected one of {scheme.scale.accepted}")
        label = scheme.scale.labels[scheme.scale.index(vote.label)]
        if scheme.book is not None and label != by_rule and not vote.reason.strip():
            told = f"the rules say {by_rule}" if by_rule else "no rule decides yet"
            raise ValueError(f"{told}, the label is {label}: say why, in reason")
        return label, rule.id if rule else None, by_rule

    # ---- what was said

    def votes(self, rater: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """The votes that count, of every rater and pair, the latest first; skipped pairs are not among them.

        rater: of this one alone. limit: so many at most.
        """
        whose = "AND grading_votes.rater_key = :rater" if rater is not None else ""
        values = {"rater": rater_key(rater) if rater is not None else "", "limit": -1 if limit is None else limit}
        rows = self._workbench.rows(
            f"""WITH latest AS ({LATEST})
            SELECT grading_votes.*, query, query_key, item_id, title, queue, why FROM grading_votes
            JOIN latest ON latest.id = grading_votes.id JOIN grading_pairs ON place = grading_votes.pair
            WHERE grading_votes.kind != 'skip' {whose} ORDER BY grading_votes.id DESC LIMIT :limit""",
            values,
        )
        return [{**row, "said": json.loads(row["said"])} for row in rows]

    def progress(self, rater: str | None = None) -> dict[str, int]:
        """pairs in the queue, finished ones (with as many raters as asked for), votes, cannot_tell of them, overruled
        (labels that are not the rules'); and of a rater: mine, skipped, and remaining that she can still grade.
        """
        key, raters = rater_key(rater) if rater else "", self.scheme().raters
        counts = self._workbench.rows(
            f"""WITH latest AS ({LATEST}),
            done AS (SELECT pair, count(*) AS votes, sum(rater_key = :rater) AS mine FROM latest WHERE kind != 'skip'
                GROUP BY pair)
            SELECT (SELECT count(*) FROM grading_pairs) AS pairs,
                (SELECT count(*) FROM done WHERE votes >= :raters) AS finished,
                (SELECT coalesce(sum(votes), 0) FROM done) AS votes,
                (SELECT count(*) FROM latest WHERE kind = 'cannot_tell') AS cannot_tell,
                (SELECT count(*) FROM latest JOIN grading_votes USING (id)
                    WHERE latest.kind = 'label' AND label IS NOT rule_label AND said != '{{}}') AS overruled,
                (SELECT coalesce(sum(mine), 0) FROM done) AS mine,
                (SELECT count(*) FROM latest WHERE kind = 'skip' AND rater_key = :rater) AS skipped,
                (SELECT count(*) FROM grading_pairs LEFT JOIN done ON pair = place
                    WHERE coalesce(mine, 0) = 0 AND coalesce(votes, 0) < :raters) AS remaining""",
            {"rater": key, "raters": raters},
        )[0]
        return {**{name: int(count) for name, count in counts.items()}, "raters": raters}

    def agreement(self, by: By = "day") -> list[Period]:
        """How far raters agree, by "day" or by so many pairs, of the pairs that two or more have labelled."""
        names = {"query_id": "query_key", "item_id": "item_id", "rater": "rater_key", "label": "label", "time": "time"}
        rows = [{ours: row[own] for ours, own in names.items()} for row in self.votes() if row["kind"] == LABEL]
        return agreement_over_time(pl.DataFrame(rows), self.scheme().scale, by) if rows else []

    def pairs(self) -> Sequence[dict[str, Any]]:
        """The whole queue, in its order."""
        return self._workbench.rows("SELECT * FROM grading_pairs ORDER BY place")


def rater_key(name: str) -> str:
    """A rater's name as it is compared. ValueError for none, and for one that readers take for a model's."""
    key = normal_text(name)
    if not key or key.startswith(MODEL):
        raise ValueError(f"rater {name!r}: expected a person's name, which does not begin with {MODEL!r}")
    return key
