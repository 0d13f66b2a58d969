"""Kept verdicts: found again by content, failures counted apart, safe with several writers."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from goodrate.relevance.judge import Pair, Verdict
from goodrate.relevance.verdict_store import VerdictStore, judge_once, verdict_key

GOOD = Verdict(3, (0.1, 0.1, 0.1, 0.7), None)
FAILED = Verdict(None, None, None, "no_label")
IDENTITY = {"model": "a", "template": "v1"}


class CountingJudge:
    """Stands for a judge: fails while told to, counts what it is asked."""

    identity = IDENTITY

    def __init__(self) -> None:
        self.judged: list[str] = []
        self.explained: list[str] = []
        self.failing: set[str] = set()

    def judge(self, pairs: list[Pair], reasons: bool = False) -> list[Verdict]:
        self.judged += [pair.query for pair in pairs]
        found = [FAILED if pair.query in self.failing else GOOD for pair in pairs]
        return [replace(v, reason="why") if reasons and v is GOOD else v for v in found]

    def explain(self, pairs: list[Pair], verdicts: list[Verdict]) -> list[Verdict]:
        self.explained += [pair.query for pair in pairs]
        return [replace(v, reason="why", reason_status="ok", inconsistent=False) for v in verdicts]

    def tiered(self, verdict: Verdict) -> Verdict:
        return replace(verdict, tier="Good" if verdict.label == 3 else None)


def test_everything_that_decides_a_verdict_is_in_its_key() -> None:
    pair = Pair("lamp", "red lamp", "f", "c")
    others = [
        replace(pair, query="x"),
        replace(pair, item_text="x"),
        replace(pair, facts=""),
        replace(pair, context=None),
    ]
    keys = {verdict_key(p, IDENTITY) for p in [pair, *others]} | {verdict_key(pair, {**IDENTITY, "model": "b"})}
    assert len(keys) == 6
    assert verdict_key(pair, IDENTITY) == verdict_key(pair, dict(reversed(IDENTITY.items())))


def test_verdicts_come_back_as_they_were(tmp_path: Path) -> None:
    told = Verdict(2, (0.1, 0.2, 0.3, 0.4), None, "ok", "wants lamp", True, "ok", True)
    with VerdictStore(tmp_path / "deep" / "v.sqlite") as store:
        store.put_many({"a": told, "b": FAILED})
    with VerdictStore(tmp_path / "deep" / "v.sqlite") as store:
        assert store.get_many(["a", "b", "c"]) == {"a": told, "b": FAILED}
        assert (store.missing(["c", "a", "b"]), store.failed(["c", "a", "b"])) == (["c"], ["b"])
        assert store.counts() == {"no_label": 1, "ok": 1}
        many = [f"k{n}" for n in range(1201)]  # more than one query's worth of keys
        store.put_many(dict.fromkeys(many, GOOD))
        assert len(store.get_many(many)) == 1201


def test_what_is_known_is_not_lost(tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v") as store:
        store.put_many({"a": replace(GOOD, reason="why", inconsistent=True, reason_status="ok")})
        store.put_many({"a": FAILED})
        store.put_many({"a": GOOD})  # judged again without a reason
        kept = store.get_many(["a"])["a"]
        assert (kept.status, kept.reason, kept.inconsistent) == ("ok", "why", True)
        store.put_many({"b": FAILED})
        store.put_many({"b": GOOD})
        assert store.get_many(["b"])["b"] == GOOD


def test_a_pair_is_judged_once(tmp_path: Path) -> None:
    judge, pairs = CountingJudge(), [Pair("a", "x"), Pair("b", "x"), Pair("a", "x")]
    with VerdictStore(tmp_path / "v") as store:
        first = judge_once(judge, store, pairs)  # type: ignore[arg-type]
        second = judge_once(judge, store, pairs)  # type: ignore[arg-type]
    assert sorted(judge.judged) == ["a", "b"]
    assert (first.cached, second.cached) == ([False] * 3, [True] * 3)
    assert first.verdicts == second.verdicts and first.verdicts[0].tier == "Good"


def test_reasons_are_added_to_kept_verdicts(tmp_path: Path) -> None:
    judge = CountingJudge()
    with VerdictStore(tmp_path / "v") as store:
        judge_once(judge, store, [Pair("a", "x")])  # type: ignore[arg-type]
        left = judge_once(judge, store, [Pair("a", "x")], reasons=True, missing=True)  # type: ignore[arg-type]
        assert left.verdicts[0].reason is None and judge.explained == []
        told = judge_once(judge, store, [Pair("a", "x"), Pair("b", "x")], reasons=True)  # type: ignore[arg-type]
        judge_once(judge, store, [Pair("a", "x"), Pair("b", "x")], reasons=True)  # type: ignore[arg-type]
    assert [v.reason for v in told.verdicts] == ["why", "why"]
    assert (judge.judged, judge.explained) == (["a", "b"], ["a"])


def test_failures_wait_until_they_are_asked_for(tmp_path: Path) -> None:
    judge = CountingJudge()
    judge.failing = {"a"}
    with VerdictStore(tmp_path / "v") as store:
        judge_once(judge, store, [Pair("a", "x"), Pair("b", "x")])  # type: ignore[arg-type]
        judge.failing = set()
        still = judge_once(judge, store, [Pair("a", "x")], reasons=True)  # type: ignore[arg-type]
        assert still.verdicts[0].status == "no_label"
        again = judge_once(judge, store, [Pair("a", "x")], retry_failed=True)  # type: ignore[arg-type]
        assert again.verdicts[0].status == "ok" and store.counts() == {"ok": 2}
    assert judge.judged == ["a", "b", "a"] and judge.explained == []


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        with VerdictStore(tmp_path / "v") as store:
            for n in range(20):
                store.put_many({f"{writer}-{n}": GOOD, "shared": GOOD})

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with VerdictStore(tmp_path / "v") as store:
        assert store.counts() == {"ok": 81}
    assert sqlite3.connect(tmp_path / "v").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("query,item\n" * 100)
    with pytest.raises(ValueError, match="not a verdict store"):
        VerdictStore(tmp_path / "v")


def test_a_full_disk_is_told_as_one_and_what_was_kept_stays(tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.put_many({"a": Verdict(3, (0.0, 0.0, 0.0, 1.0), "Good")})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count={pages + 1}")  # SQLite calls that a full disk
        many = {f"{n}" * 64: Verdict(3, (0.0, 0.0, 0.0, 1.0), "Good", reason="why " * 500) for n in range(9)}
        with pytest.raises(OSError, match="No space left on device") as told:
            store.put_many(many)
        assert told.value.filename == str(tmp_path / "v.sqlite")
        assert store.missing(["a", *many]) == [*many]
