"""A store with a bound: what was not used for the longest time goes first, little by little, and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from goodrate.relevance import verdict_bound
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.kept_verdicts import ServingVerdictStore
from goodrate.teaching.answer_store import AnswerStore

GOOD = Verdict("excellent", (0.1, 0.1, 0.1, 0.7), 0.8)
HOUR = 3600.0


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_000.0
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def keys(store: VerdictStore) -> set[str]:
    return {row[0] for row in store._connection.execute("SELECT key FROM verdicts")}


def test_the_longest_unused_go_first(tmp_path: Path, clock: Clock) -> None:
    with VerdictStore(tmp_path / "v.sqlite", keep=3) as store:
        for name in "abc":
            store.put_many({name: GOOD})
            clock.now += 2 * HOUR
        store.get_many(["a"])  # a is the oldest and the last that was used
        clock.now += HOUR
        store.put_many({"d": GOOD, "e": GOOD, "f": GOOD})
        assert keys(store) == {"d", "e", "f"} and store.bound.removed == 3
        clock.now += 2 * HOUR
        store.get_many(["d"])
        store.put_many({"g": GOOD, "h": GOOD, "i": GOOD})
        assert keys(store) == {"g", "h", "i"}


def test_a_use_is_noted_before_verdicts_go(tmp_path: Path, clock: Clock) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        for name in "abc":
            store.put_many({name: GOOD})
            clock.now += 2 * HOUR
        store.get_many(["a", "a"])
    with VerdictStore(tmp_path / "v.sqlite", keep=2) as store:  # at the start, all that is too many
        assert keys(store) == {"a", "c"}
    with VerdictStore(tmp_path / "v.sqlite") as store:  # no bound: nothing goes
        store.put_many({str(number): GOOD for number in range(1500)})
        assert len(keys(store)) == 1502


def test_a_use_a_moment_ago_is_not_written_again(tmp_path: Path, clock: Clock) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.put_many({"a": GOOD})
        clock.now += HOUR / 2
        store.get_many(["a"])
        store.put_many({"b": GOOD})
        rows = dict(store._connection.execute("SELECT key, used FROM verdicts"))
        assert rows == {"a": clock.now - HOUR / 2, "b": clock.now}


def test_a_file_grows_no_further_and_no_write_removes_much(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.put_many({f"old{number}": GOOD for number in range(9000)})
    monkeypatch.setattr(verdict_bound, "EACH", 50)
    monkeypatch.setattr(verdict_bound, "AT_ONCE", 200)
    with ServingVerdictStore(tmp_path / "v.sqlite", keep=1000) as store:
        assert len(keys(store)) == 1000  # the start takes them all away: nobody waits yet
        sizes = []
        for block in range(40):
            clock.now += 1
            store.put_many({f"{block}-{number}": GOOD for number in range(50)})
            sizes.append(len(keys(store)))
        assert max(sizes) == 1000 and store.bound.removed == 8000 + 2000
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store.put_many({f"x{number}": GOOD for number in range(1000)})
        assert store._connection.execute("PRAGMA page_count").fetchone()[0] <= 1.5 * pages
        # one write brought 1,000 and took away 200 at most; the next ones go on
        assert len(keys(store)) == 1800
        store.put_many({f"y{number}": GOOD for number in range(50)})
        assert len(keys(store)) == 1650


def test_answers_of_a_teacher_in_the_same_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    with AnswerStore(path) as answers:
        answers._connection.execute("CREATE TABLE labels (query TEXT)")
        answers._connection.execute("INSERT INTO labels VALUES ('lamp')")
        answers._connection.commit()
        tables = {row[0] for row in answers._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with VerdictStore(path, keep=1) as store:
        store.put_many({"a": GOOD})
        store.put_many({"b": GOOD})
        assert len(keys(store)) == 1
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT * FROM labels").fetchall() == [("lamp",)]
    assert tables <= {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_bound_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        VerdictStore(tmp_path / "v.sqlite", keep=0)
