"""Verdicts stored in SQLite by content hash: a pair is judged once, a failure is remembered as a failure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from goodrate.relevance.pairs import Pair
from goodrate.relevance.verdict_bound import VerdictBound
from goodrate.relevance.verdicts import OK, Explanation, Verdict, explanation_from_json

WAIT_SECONDS = 60.0  # for another process's write; WAL readers never wait
BATCH = 500  # keys in one query; SQLite's limit on parameters was 999 for long
_UNWRITTEN = (
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP,
)  # fmt: skip
ROOM = 65_536  # bytes: SQLite makes the index of its log half as large
SCHEMA_VERSION = 3  # of the table verdicts, in PRAGMA user_version; 0 = from before it was written there
COLUMNS = ("key", "status", "label", "probabilities", "expected_gain", "explanation", "item_cut", "written", "used")
TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, label TEXT, probabilities TEXT, expected_gain REAL, explanation TEXT,
    item_cut INTEGER NOT NULL, written REAL NOT NULL, used REAL NOT NULL DEFAULT 0) WITHOUT ROWID"""
# A failure never replaces a verdict, and a verdict without an explanation never removes one.
UPSERT = f"""INSERT INTO verdicts VALUES ({", ".join("?" * len(COLUMNS))}) ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, label = excluded.label, probabilities = excluded.probabilities,
    expected_gain = excluded.expected_gain, explanation = coalesce(excluded.explanation, explanation),
    item_cut = excluded.item_cut, written = excluded.written, used = excluded.used
    WHERE excluded.status = 'ok' OR verdicts.status != 'ok'"""


def verdict_key(pair: Pair, item_text: str, identity: Mapping[str, Any]) -> str:
    """sha256 (64 hex) of one pair; item_text: what the judge reads of the item."""
    content = [pair.query, item_text, pair.facts, pair.context, dict(identity)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def open_table(
    path: Path, table: str, wait_seconds: float = WAIT_SECONDS, what: str = "a verdict store", synced: bool = False
) -> sqlite3.Connection:
    """A connection to the SQLite file at `path`, made where there is none, in which the table exists.

    what: the kind of file, for messages. synced: whether each transaction is on the disk before it is acknowledged,
    which a power cut then cannot take; a killed process takes nothing either way.
    Raises ValueError when the file is something else, OSError when it cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_named(path), _other_file_named(path, what):
        connection = sqlite3.connect(path, timeout=wait_seconds, check_same_thread=False)
        _write_ahead(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        with connection:
            connection.execute(table)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. While two connections switch a new file at once SQLite does not wait: we do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _is_locked(error: sqlite3.Error) -> bool:
    """Whether another connection has the file; the code's low byte is its kind."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """SQLite's "database or disk is full" as the OSError that a full disk is elsewhere, with the file's name; so, too,
    what it calls an I/O error where it cannot write its log or the index of that.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in _UNWRITTEN and shutil.disk_usage(path.parent).free >= ROOM:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path)) from error
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL and error.sqlite_errorcode not in _UNWRITTEN:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextlib.contextmanager
def _other_file_named(path: Path, what: str) -> Iterator[None]:
    """A ValueError where the file is no SQLite file, an OSError where others hold it or it cannot be written."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) in _UNWRITTEN:
            raise  # full_disk_named says which
        if code == sqlite3.SQLITE_BUSY:
            raise OSError(errno.EBUSY, "another process holds it locked", str(path)) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise OSError(errno.EACCES, f"cannot be opened for writing ({error})", str(path)) from error
        raise ValueError(f"{path} is not {what}: {error}") from error


class VerdictStore:
    """One SQLite file, for many threads and processes at once (write-ahead log). Tiers are not in it (with_tiers)."""

    def __init__(self, path: str | Path, wait_seconds: float = WAIT_SECONDS, keep: int | None = None) -> None:
        """wait_seconds: for another process's write. keep: how many verdicts at most (verdict_bound); None = all.

        Raises as open_table and migrate, and ValueError for a bound below 1.
        """
        self.path = Path(path)
        self.bound = VerdictBound(keep)
        self._lock = threading.Lock()
        self._connection = open_table(self.path, TABLE, wait_seconds)
        try:
            with full_disk_named(self.path):
                migrate(self._connection, self.path)
                with self._connection:
                    self.bound.prune(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> VerdictStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Everything put is already on disk; now also which verdicts were used."""
        with self._lock, contextlib.suppress(sqlite3.Error), self._connection:
            self.bound.note_used(self._connection)
        self._connection.close()

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """The stored verdicts by key, failed ones too, without tiers; absent keys are left out."""
        verdicts: dict[str, Verdict] = {}
        for part in key_batches(list(dict.fromkeys(keys))):
            marks = ",".join("?" * len(part))
            with self._lock:
                rows = self._connection.execute(
                    f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE key IN ({marks})", part
                ).fetchall()
                self.bound.used((row[0], row[-1]) for row in rows)
            verdicts.update({row[0]: self._read(row) for row in rows})
        return verdicts

    def _read(self, row: tuple[Any, ...]) -> Verdict:
        """The verdict of a row. ValueError naming file and key for one that goodrate has not written."""
        try:
            return verdict_of_row(row)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path}: the row with key {row[0]!r} cannot be read: {error}") from error

    def put_many(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write verdicts by key in one transaction. A failure does not replace a verdict that is there."""
        now = time.time()
        rows = [verdict_row(key, verdict, now) for key, verdict in verdicts.items()]
        with self._lock, full_disk_named(self.path), self._connection:
            self._connection.executemany(UPSERT, rows)
            self.bound.after(self._connection, len(rows))

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The keys of which nothing is stored, neither verdict nor failure, in order."""
        stored = self.get_many(keys)
        return [key for key in keys if key not in stored]

    def failed(self, keys: Sequence[str]) -> list[str]:
        """The keys whose stored verdict is a failure, in order."""
        stored = self.get_many(keys)
        return [key for key in keys if key in stored and stored[key].status != OK]

    def pending(
        self, keys: Sequence[str], reasons: bool = False, retry_failed: bool = False, missing: bool = False
    ) -> set[str]:
        """The keys on which stored_verdicts, given the same options, has work to do."""
        stored = self.get_many(keys)
        explain = reasons and not missing

        def is_open(key: str) -> bool:
            if key not in stored or (retry_failed and stored[key].status != OK):
                return True
            return explain and stored[key].status == OK and stored[key].explanation is None

        return {key for key in keys if is_open(key)}

    def counts(self) -> dict[str, int]:
        """How many verdicts are stored by status; "ok" apart from each kind of failure."""
        with self._lock:
            return dict(
                self._connection.execute("SELECT status, count(*) FROM verdicts GROUP BY status ORDER BY status")
            )


def key_batches(keys: list[str]) -> Iterator[list[str]]:
    """The keys in parts that one query takes."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file of an older goodrate to SCHEMA_VERSION, in one transaction; verdicts keep their keys.

    Raises ValueError for a file of a newer goodrate, or whose table has other columns.
    """
    if _version(connection) == SCHEMA_VERSION and _columns(connection) == COLUMNS:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # another process may be migrating: look only once it is done
        version, columns = _version(connection), _columns(connection)
        if version > SCHEMA_VERSION:
            raise ValueError(f"{path} has schema version {version}; this goodrate reads up to {SCHEMA_VERSION}")
        if columns == OLD_COLUMNS:
            _from_version_0(connection)
        elif columns == COLUMNS[:-1]:
            connection.execute("ALTER TABLE verdicts ADD COLUMN used REAL NOT NULL DEFAULT 0")
            connection.execute("UPDATE verdicts SET used = written")
        elif columns != COLUMNS:
            raise ValueError(f"{path}: table verdicts has columns {', '.join(columns)}; expected {', '.join(COLUMNS)}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _columns(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The names of the columns; one says so when it is wrongly in the primary key, or not: key alone is the key."""
    names = []
    for _, name, *_, place in connection.execute("PRAGMA table_info(verdicts)"):
        note = f" ({'in' if place else 'not in'} the primary key)" if bool(place) != (name == "key") else ""
        names.append(name + note)
    return tuple(names)


OLD_COLUMNS = (
    "key", "status", "label", "probabilities", "reason", "reason_status", "inconsistent", "item_cut", "written",
)  # fmt: skip


def _from_version_0(connection: sqlite3.Connection) -> None:
    """Labels were positions on a scale that the file did not name: relevance.judge reads them, gains and steps anew."""
    rows = connection.execute(f"SELECT {', '.join(OLD_COLUMNS)} FROM verdicts").fetchall()
    connection.execute("DROP TABLE verdicts")
    connection.execute(TABLE)
    connection.executemany(UPSERT, [_new_row(row) for row in rows])


def _new_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the old columns in the new ones; without the label, which marks it as migrated."""
    key, status, _, probabilities, reason, reason_status, inconsistent, cut, written = row
    explanation = None
    if reason is not None:
        contradiction = None if inconsistent is None else bool(inconsistent)
        explanation = Explanation(reason, (), reason_status or OK, contradiction)
    return (key, status, None, probabilities, None, _explanation_json(explanation), cut, written, written)


def verdict_row(key: str, verdict: Verdict, now: float = 0.0) -> tuple[Any, ...]:
    """A verdict as plain values in the order of COLUMNS. now: when it was written, in seconds."""
    probabilities = json.dumps(verdict.probabilities) if verdict.probabilities else None
    written = (verdict.status, verdict.label, probabilities, verdict.expected_gain)
    return (key, *written, _explanation_json(verdict.explanation), int(verdict.item_cut), now, now)


def _explanation_json(explanation: Explanation | None) -> str | None:
    return None if explanation is None else json.dumps(asdict(explanation), ensure_ascii=False)


def verdict_of_row(row: tuple[Any, ...]) -> Verdict:
    """The verdict of verdict_row. Raises ValueError, TypeError or KeyError for values that goodrate has not written."""
    _, status, label, probabilities, gain, explanation, cut, *_ = row
    return Verdict(
        label=label,
        probabilities=() if probabilities is None else tuple(json.loads(probabilities)),
        expected_gain=gain,
        status=status,
        item_cut=bool(cut),
        explanation=None if explanation is None else explanation_from_json(json.loads(explanation)),
    )
