"""Stored verdicts: found again by content, failures counted apart, safe with several writers."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goodrate.relevance.judge import CalibratedJudge, stored_verdicts, verdict_keys
from goodrate.relevance.pairs import Item, Pair, item_texts, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdict_store import VerdictStore, verdict_key
from goodrate.relevance.verdicts import Explanation, ReasonStep, Verdict
from goodrate.scale import FOUR_LEVEL

GOOD = Verdict("excellent", (0.1, 0.1, 0.1, 0.7), 0.8)
FAILED = Verdict(status="no_label")
WHY = Explanation("why", inconsistent=False)
IDENTITY = {"model": "a", "template": "v1"}


def pair(query: str) -> Pair:
    return Pair(query, text_item("x"))


class CountingJudge:
    """Fails while told to, counts what it is asked; a verdict that is wanted with a reason is explained apart."""

    scale = FOUR_LEVEL
    identity: Mapping[str, Any] = IDENTITY

    def __init__(self) -> None:
        self.judged: list[str] = []
        self.explained: list[str] = []
        self.failing: set[str] = set()

    def reads(self, items: Sequence[Item]) -> list[str]:
        return item_texts(items, "text")

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        self.judged += [pair.query for pair in pairs]
        failing = [pair.query in self.failing for pair in pairs]
        rows = [(np.nan,) * 4 if bad else GOOD.probabilities for bad in failing]
        return Assessment.of(np.asarray(rows), ["no_label" if bad else "ok" for bad in failing])

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        assert set(labels) == {3}
        self.explained += [pair.query for pair in pairs]
        return [WHY for _ in pairs]


def counting() -> tuple[CountingJudge, CalibratedJudge]:
    inner = CountingJudge()
    return inner, CalibratedJudge(inner)


def test_everything_that_decides_a_verdict_is_in_its_key() -> None:
    one = Pair("lamp", text_item("red lamp"), "f", "c")
    others = [replace(one, query="x"), replace(one, facts=""), replace(one, context=None)]
    keys = {verdict_key(p, "red lamp", IDENTITY) for p in [one, *others]}
    keys |= {verdict_key(one, "x", IDENTITY), verdict_key(one, "red lamp", {**IDENTITY, "model": "b"})}
    assert len(keys) == 6
    reverse = dict(reversed(IDENTITY.items()))
    assert verdict_key(one, "red lamp", IDENTITY) == verdict_key(one, "red lamp", reverse)


def test_a_key_is_that_of_what_the_judge_reads_and_is() -> None:
    _, judge = counting()
    row = {"id": "a", "title": "lamp", "price": 4.0, "attributes": "{}"}
    pairs = [
        Pair("q", row, "f", "c"),
        Pair("q", {**row, "price": 5.0}, "f", "c"),
        Pair("q", text_item("lamp"), "f", "c"),
    ]
    identity = {"model": "a", "template": "v1", "temperature": 1.0}
    content = json.dumps(["q", "lamp", "f", "c", identity], sort_keys=True)  # running text leaves the price out
    assert verdict_keys(judge, pairs) == [hashlib.sha256(content.encode()).hexdigest()] * 3
    assert verdict_keys(replace(judge, temperature=2.0), pairs)[0] != verdict_keys(judge, pairs)[0]
    assert verdict_keys(replace(judge, beta_cum=0.4), pairs) == verdict_keys(judge, pairs)


def test_verdicts_come_back_as_they_were(tmp_path: Path) -> None:
    steps = (ReasonStep("wants", "What", "wants lamp", "lamp"), ReasonStep("checks", "Which", "checks none", "none"))
    explained = Verdict(
        "related",
        (0.1, 0.2, 0.3, 0.4),
        3.9 / 7,
        item_cut=True,
        explanation=Explanation("wants lamp", steps, "ok", True),
    )
    with VerdictStore(tmp_path / "deep" / "v.sqlite") as store:
        store.put_many({"a": explained, "b": FAILED})
    with VerdictStore(tmp_path / "deep" / "v.sqlite") as store:
        assert store.get_many(["a", "b", "c"]) == {"a": explained, "b": FAILED}
        assert (store.missing(["c", "a", "b"]), store.failed(["c", "a", "b"])) == (["c"], ["b"])
        assert store.counts() == {"no_label": 1, "ok": 1}
        many = [f"k{n}" for n in range(1201)]  # more than one query's worth of keys
        store.put_many(dict.fromkeys(many, GOOD))
        assert len(store.get_many(many)) == 1201


def test_what_is_known_is_not_lost(tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v") as store:
        store.put_many({"a": replace(GOOD, explanation=replace(WHY, inconsistent=True))})
        store.put_many({"a": FAILED})
        assert store.get_many(["a"])["a"].status == "ok"
        store.put_many({"a": GOOD})  # judged again without a reason
        assert store.get_many(["a"])["a"] == replace(GOOD, explanation=replace(WHY, inconsistent=True))
        store.put_many({"b": FAILED})
        store.put_many({"b": GOOD})
        assert store.get_many(["b"])["b"] == GOOD


def test_a_pair_is_judged_once(tmp_path: Path) -> None:
    inner, judge = counting()
    pairs = [pair("a"), pair("b"), pair("a")]
    with VerdictStore(tmp_path / "v") as store:
        first = stored_verdicts(judge, store, pairs)
        second = stored_verdicts(judge, store, pairs)
        stricter = stored_verdicts(replace(judge, beta_cum=0.9), store, pairs)
    assert sorted(inner.judged) == ["a", "b"]
    assert [[one.cached for one in verdicts] for verdicts in (first, second)] == [[False] * 3, [True] * 3]
    assert [replace(one, cached=True) for one in first] == second and first[0].tier == "Good"
    # 0.1 + 0.1 * 3 + 0.7 * 7 = 5.3 of 7; 0.1 + 0.7 < 0.9 and p(irrelevant) = 0.1 is not above 0.1
    assert first[0].expected_gain == pytest.approx(5.3 / 7)
    assert stricter[0] == replace(second[0], tier="Mid")  # tiers are drawn anew


def test_reasons_are_added_to_kept_verdicts(tmp_path: Path) -> None:
    inner, judge = counting()
    with VerdictStore(tmp_path / "v") as store:
        stored_verdicts(judge, store, [pair("a")])
        left = stored_verdicts(judge, store, [pair("a")], reasons=True, missing=True)
        assert left[0].reason is None and inner.explained == []
        both = stored_verdicts(judge, store, [pair("a"), pair("b")], reasons=True)
        again = stored_verdicts(judge, store, [pair("a"), pair("b")], reasons=True)
    assert [v.explanation for v in both] == [WHY, WHY] == [v.explanation for v in again]
    assert ([v.cached for v in both], [v.cached for v in again]) == ([False, False], [True, True])
    assert (inner.judged, sorted(inner.explained)) == (["a", "b"], ["a", "b"])  # each once; "a" was not judged again


def test_failures_wait_until_they_are_asked_for(tmp_path: Path) -> None:
    inner, judge = counting()
    inner.failing = {"a"}
    with VerdictStore(tmp_path / "v") as store:
        stored_verdicts(judge, store, [pair("a")])
        stored_verdicts(judge, store, [pair("b")])
        inner.failing = set()
        still = stored_verdicts(judge, store, [pair("a")], reasons=True)
        assert (still[0].status, still[0].cached, still[0].tier) == ("no_label", True, None)
        again = stored_verdicts(judge, store, [pair("a")], retry_failed=True)
        assert again[0].status == "ok" and store.counts() == {"ok": 2}
    assert inner.judged == ["a", "b", "a"] and inner.explained == []


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
        store.put_many({"a": Verdict("excellent", (0.0, 0.0, 0.0, 1.0), 1.0)})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count={pages + 1}")  # SQLite calls that a full disk
        many = {f"{n}" * 64: replace(GOOD, explanation=Explanation("why " * 500)) for n in range(9)}
        with pytest.raises(OSError, match="No space left on device") as told:
            store.put_many(many)
        assert told.value.filename == str(tmp_path / "v.sqlite")
        assert store.missing(["a", *many]) == [*many]
