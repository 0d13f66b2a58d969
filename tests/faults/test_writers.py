"""Two writers at once, clocks that jump, and stores of other versions: one waits or is refused; nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.online_weights import ClickSession, OnlineWeights
from goodrate.serving.workbench.grading import Grading, QueuedPair, Vote
from goodrate.serving.workbench.store import Workbench
from serving_shop import FakeJudge


def at_once(*works: object) -> list[BaseException]:
    """Do all at the same time; what they raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def run(work: object) -> None:
        try:
            gate.wait()
            work()  # type: ignore[operator]
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_two_judges_on_one_store_keep_every_verdict(tmp_path: Path) -> None:
    pairs = [Pair(f"query {n}", text_item(f"kettle {n}")) for n in range(120)]

    def judge(part: list[Pair]) -> None:
        with VerdictStore(tmp_path / "v.sqlite") as store:
            kept = CalibratedJudge(FakeJudge(), name="fake", store=store)
            for start in range(0, len(part), 10):
                kept.pair_verdicts(part[start : start + 10])

    assert at_once(lambda: judge(pairs[:80]), lambda: judge(pairs[40:])) == []
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.counts() == {"ok": 120}


def test_two_servers_of_one_workbench_keep_every_vote(tmp_path: Path) -> None:
    first = Grading(Workbench(tmp_path))
    first.set_up(FOUR_LEVEL, None, raters=2)
    first.add([QueuedPair("lamp", f"i{n}", "lamp", "top") for n in range(30)])
    places = [row["place"] for row in first.pairs()]

    def votes(rater: str) -> None:
        grading = Grading(Workbench(tmp_path))
        for place in places:
            grading.vote(Vote(place, rater, "label", "related"))

    assert at_once(lambda: votes("ann"), lambda: votes("bo")) == []
    assert len(first.votes()) == 60


def test_a_second_learner_of_weights_is_refused(tmp_path: Path) -> None:
    online = OnlineWeights(tmp_path / "w.toml")
    with pytest.raises(ValueError, match="is written by another process; one server at a time learns"):
        OnlineWeights(tmp_path / "w.toml")
    session = ClickSession("lamp", ("a", "b"), (1, 2), ("b",))
    assert online.learn(session, ["a", "b"], np.eye(2, len(online.channels)))
    online.close()
    assert OnlineWeights(tmp_path / "w.toml").sessions == 1


class Clock:
    """A clock that is put where a test wants it."""

    def __init__(self) -> None:
        self.now = 1_772_440_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("jump", [-400 * 86_400.0, -3600.0, 3600.0, 400 * 86_400.0])
def test_a_clock_that_jumps_withholds_no_pair_and_loses_no_vote(tmp_path: Path, jump: float) -> None:
    clock = Clock()
    grading = Grading(Workbench(tmp_path), clock)
    grading.set_up(FOUR_LEVEL, None)
    grading.add([QueuedPair("lamp", "i1", "lamp", "top"), QueuedPair("lamp", "i2", "lamp", "top")])
    held = grading.next("ann")
    other = grading.next("bo")
    assert held and other and held["place"] != other["place"] and grading.next("cy") is None
    clock.now += jump
    freed = grading.next("cy")
    assert freed is not None
    grading.vote(Vote(freed["place"], "cy", "label", "related"))
    clock.now -= 2 * jump
    grading.vote(Vote(freed["place"], "cy", "label", "mismatch"))
    assert [vote["label"] for vote in grading.votes("cy")] == ["mismatch"]  # the later one, whatever the clock said


def test_a_store_of_a_later_version_says_so(tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite"):
        pass
    with sqlite3.connect(tmp_path / "v.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match=r"v\.sqlite.*99"):
        VerdictStore(tmp_path / "v.sqlite")


@pytest.mark.parametrize(
    ("code", "free", "said"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 8000, "No space left on device"),
        (sqlite3.SQLITE_IOERR_WRITE, 10**9, "Input/output error"),
        (sqlite3.SQLITE_FULL, 10**9, "No space left on device"),
    ],
)
def test_a_disk_that_cannot_be_written_is_no_broken_store(
    code: int, free: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite calls a full disk an I/O error where it makes the index of its log."""
    from goodrate.relevance import verdict_store

    def full(connection: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(verdict_store, "_write_ahead", full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(OSError, match=said) as refused:
        VerdictStore(tmp_path / "v.sqlite")
    assert refused.value.filename == str(tmp_path / "v.sqlite")
