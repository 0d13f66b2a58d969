"""Verdicts kept in SQLite by content hash: a pair is judged once, a failure is remembered as a failure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.relevance.judge import OK, Judge, Verdict
from goodrate.relevance.prompts import Pair

WAIT_SECONDS = 60.0  # for another process's write; WAL readers never wait
BATCH = 500  # keys in one query; SQLite's limit on parameters was 999 for long
TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, label INTEGER, probabilities TEXT, reason TEXT, reason_status TEXT,
    inconsistent INTEGER, item_cut INTEGER NOT NULL, written REAL NOT NULL) WITHOUT ROWID"""
# A failure never replaces a verdict, and a verdict without a reason never removes one.
UPSERT = """INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, label = excluded.label, probabilities = excluded.probabilities,
    reason = coalesce(excluded.reason, reason), reason_status = coalesce(excluded.reason_status, reason_status),
    inconsistent = CASE WHEN excluded.reason IS NULL THEN inconsistent ELSE excluded.inconsistent END,
    item_cut = excluded.item_cut, written = excluded.written
    WHERE excluded.status = 'ok' OR verdicts.status != 'ok'"""


def verdict_key(pair: Pair, identity: Mapping[str, Any]) -> str:
    """sha256 (64 hex) of the pair and of all that decides its verdict (Judge.identity)."""
    content = [pair.query, pair.item_text, pair.facts, pair.context, dict(identity)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def opened(path: Path, table: str) -> sqlite3.Connection:
    """A connection to the SQLite file at `path`, made where there is none, in which the table exists.

    Raises ValueError when the file is something else, OSError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_told(path), _other_file_told(path):
        connection = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            connection.execute(table)
    return connection


@contextlib.contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """SQLite's "database or disk is full" as the OSError that a full disk is elsewhere, with the file's name."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextlib.contextmanager
def _other_file_told(path: Path) -> Iterator[None]:
    """A ValueError where the file is no SQLite file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise
        raise ValueError(f"{path} is not a verdict store: {error}") from error


class VerdictStore:
    """One SQLite file, for many threads and processes at once (write-ahead log). Tiers are not in it: Judge.tiered."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection = opened(self.path, TABLE)

    def __enter__(self) -> VerdictStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Everything put is already on disk."""
        self._connection.close()

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """The kept verdicts by key, failed ones too, without tiers; absent keys are left out."""
        found: dict[str, Verdict] = {}
        for part in parts(list(dict.fromkeys(keys))):
            marks = ",".join("?" * len(part))
            with self._lock:
                rows = self._connection.execute(f"SELECT * FROM verdicts WHERE key IN ({marks})", part).fetchall()
            found.update({row[0]: _verdict(row) for row in rows})
        return found

    def put_many(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write verdicts by key in one transaction. A failure does not replace a verdict that is there."""
        now = time.time()
        rows = [_row(key, verdict, now) for key, verdict in verdicts.items()]
        with self._lock, full_disk_told(self.path), self._connection:
            self._connection.executemany(UPSERT, rows)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The keys of which nothing is kept, neither verdict nor failure, in order."""
        found = self.get_many(keys)
        return [key for key in keys if key not in found]

    def failed(self, keys: Sequence[str]) -> list[str]:
        """The keys whose kept verdict is a failure, in order."""
        found = self.get_many(keys)
        return [key for key in keys if key in found and found[key].status != OK]

    def pending(
        self, keys: Sequence[str], reasons: bool = False, retry_failed: bool = False, missing: bool = False
    ) -> set[str]:
        """The keys on which judge_once, told the same, has work to do."""
        found = self.get_many(keys)
        told = reasons and not missing

        def open_work(key: str) -> bool:
            if key not in found or (retry_failed and found[key].status != OK):
                return True
            return told and _lacks_reason(found[key])

        return {key for key in keys if open_work(key)}

    def counts(self) -> dict[str, int]:
        """How many verdicts are kept by status; "ok" apart from each kind of failure."""
        with self._lock:
            return dict(
                self._connection.execute("SELECT status, count(*) FROM verdicts GROUP BY status ORDER BY status")
            )


def parts(keys: list[str]) -> Iterator[list[str]]:
    """The keys in parts that one query takes."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def _row(key: str, verdict: Verdict, now: float) -> tuple[Any, ...]:
    probabilities = None if verdict.probabilities is None else json.dumps(verdict.probabilities)
    inconsistent = None if verdict.inconsistent is None else int(verdict.inconsistent)
    kept = (verdict.status, verdict.label, probabilities, verdict.reason, verdict.reason_status, inconsistent)
    return (key, *kept, int(verdict.item_cut), now)


def _verdict(row: tuple[Any, ...]) -> Verdict:
    _, status, label, probabilities, reason, reason_status, inconsistent, cut, _ = row
    return Verdict(
        label=label,
        probabilities=None if probabilities is None else tuple(json.loads(probabilities)),
        tier=None,
        status=status,
        reason=reason,
        inconsistent=None if inconsistent is None else bool(inconsistent),
        reason_status=reason_status,
        item_cut=bool(cut),
    )


def _lacks_reason(verdict: Verdict) -> bool:
    return verdict.status == OK and verdict.reason is None


@dataclass(frozen=True)
class Kept:
    """Verdicts in the order of the pairs, and which of them came from the store as they are."""

    verdicts: list[Verdict]
    cached: list[bool]


def judge_once(
    judge: Judge,
    store: VerdictStore,
    pairs: Sequence[Pair],
    reasons: bool = False,
    retry_failed: bool = False,
    missing: bool = False,
) -> Kept:
    """Verdicts of the pairs: kept ones from the store, the others judged now and kept.

    Equal pairs are judged once. A kept verdict without a reason gets one when reasons are asked for. A kept failure is
    judged again only with retry_failed. missing: kept verdicts stay as they are, also those without a reason.
    """
    keys = [verdict_key(pair, judge.identity) for pair in pairs]
    by_key = dict(zip(keys, pairs, strict=True))
    found = store.get_many(by_key)
    todo = store.pending(keys, reasons, retry_failed, missing)
    again = {key for key in todo if key not in found or found[key].status != OK}
    unexplained = sorted(todo - again)
    new = dict(zip(sorted(again), judge.judge([by_key[k] for k in sorted(again)], reasons), strict=True))
    explained = judge.explain([by_key[k] for k in unexplained], [found[k] for k in unexplained])
    new.update(zip(unexplained, explained, strict=True))
    if new:
        store.put_many(new)
    everything = {**found, **new}
    return Kept([judge.tiered(everything[key]) for key in keys], [key not in new for key in keys])
