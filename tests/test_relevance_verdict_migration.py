"""Verdict files of an older goodrate: read on with their keys; files of a newer one, or of others, are refused."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from goodrate.relevance import verdict_store
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge, stored_verdicts, verdict_keys
from goodrate.relevance.lm_judge import Card, LmJudge
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.rulebook import load_rulebook
from goodrate.relevance.verdict_store import SCHEMA_VERSION, VerdictStore
from goodrate.relevance.verdicts import Explanation, Verdict
from tiny_models import causal_lm

# The table as goodrate wrote it before the file had a version: the label is a position, 0 = worst.
OLD_TABLE = """CREATE TABLE verdicts (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, label INTEGER, probabilities TEXT, reason TEXT, reason_status TEXT,
    inconsistent INTEGER, item_cut INTEGER NOT NULL, written REAL NOT NULL) WITHOUT ROWID"""
PAIRS = [
    Pair("red lamp", text_item("lamp ; color red"), "red : a color", "mopix demands red"),
    Pair("red lamp", text_item("lamp")),
    Pair("lamp", text_item("chair")),
    Pair("lamp", text_item("oak chair")),
]
STEPS = (
    "context ignore\nwants lamp ; color red must\nfound lamp ; color red\ncategory lamp : lamp same\n"
    "checks color match\nverdict all_met"
)
BEST, MIXED = "[0.0, 0.1, 0.4, 0.5]", "[0.25, 0.5, 0.25, 0.0]"
ROWS: list[tuple[Any, ...]] = [  # status, label, probabilities, reason, reason_status, inconsistent, item_cut
    ("ok", 3, BEST, STEPS, "ok", 0, 1),
    ("ok", 1, MIXED, "wants lamp", "missing_found", None, 0),
    ("ok", 1, MIXED, None, None, None, 0),
    ("prompt_too_long", None, None, None, None, None, 0),
]


def unasked(monkeypatch: pytest.MonkeyPatch) -> CalibratedJudge:
    """A judge whose model must not be asked."""
    model, book = causal_lm(), load_rulebook()
    tokens = tuple(model.encode(digit)[0] for digit in "1234")
    card = Card(scale="four_level", label_token_ids=tokens, rule_book_hash=book.hash, temperature=1.5)
    judge = LmJudge(model, card, "print", book)
    monkeypatch.setattr(judge, "assess", lambda pairs: pytest.fail("the model was asked"))
    return calibrated_judge(judge, card)


def old_keys(judge: CalibratedJudge) -> list[str]:
    """The keys as they were made then: the pair's texts and the judge's identity, the temperature in it."""
    card = judge.inner.card  # type: ignore[attr-defined]
    identity = {
        "model": "print", "precision": judge.inner.model.precision, "template": "nano",  # type: ignore[attr-defined]
        "order": "label_first", "rule_book": card.rule_book_hash, "temperature": 1.5,
        "tokens": [list(card.label_token_ids), None, 200],
    }  # fmt: skip
    contents = [[pair.query, pair.item["text"], pair.facts, pair.context, identity] for pair in PAIRS]
    texts = [json.dumps(content, sort_keys=True, ensure_ascii=False) for content in contents]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def old_file(path: Path, keys: list[str]) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(OLD_TABLE)
        rows = [(key, *row, 12.5) for key, row in zip(keys, ROWS, strict=True)]
        connection.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return path


def rows_of(path: Path, what: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(what).fetchall()
    connection.close()
    return rows


def test_old_verdicts_are_read_on_with_label_gain_tier_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = unasked(monkeypatch)
    keys = old_keys(judge)
    assert verdict_keys(judge, PAIRS) == keys
    with VerdictStore(old_file(tmp_path / "v.sqlite", keys)) as store:
        best, mixed, plain, failed = stored_verdicts(judge, store, PAIRS)
        assert store.pending(keys) == set() and store.pending(keys, reasons=True) == {keys[2]}
        assert store.failed(keys) == [keys[3]] and store.counts() == {"ok": 3, "prompt_too_long": 1}
    # gains 0, 1, 3, 7 over 7: (0.1 + 1.2 + 3.5) / 7 and (0.5 + 0.75) / 7; p(related, excellent) 0.9 and 0.25
    assert (best.label, best.tier, best.probabilities) == ("excellent", "Good", (0.0, 0.1, 0.4, 0.5))
    assert best.expected_gain == pytest.approx(4.8 / 7) and best.item_cut and best.cached
    assert [one.context for one in (best, mixed, plain, failed)] == ["mopix demands red", None, None, None]
    assert (mixed.label, mixed.tier) == ("mismatch", "Mid") and mixed.expected_gain == pytest.approx(1.25 / 7)
    assert best.explanation is not None and best.explanation.text == STEPS
    assert (best.explanation.status, best.explanation.inconsistent) == ("ok", False)
    rules = {rule.id: rule.because for rule in load_rulebook().rules}
    assert [(step.name, step.text) for step in best.explanation.steps] == [
        ("context", "ignored: mopix demands red"),
        ("wants", "lamp; color red (required)"),
        ("found", "lamp; color: red"),
        ("category", "lamp for lamp: the same category"),
        ("checks", "color fits"),
        ("verdict", rules["all_met"]),
    ]
    assert rules["all_met"] != "all_met"
    assert mixed.explanation is not None and [step.text for step in mixed.explanation.steps] == ["lamp"]
    assert (mixed.explanation.status, mixed.explanation.inconsistent) == ("missing_found", None)
    assert plain.explanation is None
    assert failed == Verdict(status="prompt_too_long", cached=True)


def test_the_file_has_the_new_columns_and_its_version(tmp_path: Path) -> None:
    path = old_file(tmp_path / "v.sqlite", ["a", "b", "c", "d"])
    VerdictStore(path).close()
    assert rows_of(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)] == [(3,)]
    names = [row[1] for row in rows_of(path, "PRAGMA table_info(verdicts)")]
    assert names == [
        "key", "status", "label", "probabilities", "expected_gain", "explanation", "item_cut", "written", "used",
    ]  # fmt: skip
    assert rows_of(path, "SELECT key, status, probabilities, item_cut, written, used FROM verdicts ORDER BY key") == [
        ("a", "ok", BEST, 1, 12.5, 12.5), ("b", "ok", MIXED, 0, 12.5, 12.5), ("c", "ok", MIXED, 0, 12.5, 12.5),
        ("d", "prompt_too_long", None, 0, 12.5, 12.5),
    ]  # fmt: skip
    VerdictStore(path).close()  # opened again, nothing is left to do
    assert len(rows_of(path, "SELECT * FROM verdicts")) == 4


def test_a_file_of_version_2_keeps_its_verdicts_and_says_when_they_were_used(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    connection = sqlite3.connect(path)
    columns = "key TEXT PRIMARY KEY, status TEXT NOT NULL, label TEXT, probabilities TEXT, expected_gain REAL"
    rest = "explanation TEXT, item_cut INTEGER NOT NULL, written REAL NOT NULL"
    connection.execute(f"CREATE TABLE verdicts ({columns}, {rest}) WITHOUT ROWID")
    connection.execute("INSERT INTO verdicts VALUES ('a', 'ok', 'excellent', ?, 0.5, NULL, 0, 12.5)", (BEST,))
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    with VerdictStore(path) as store:
        assert store.get_many(["a"]) == {"a": Verdict("excellent", (0.0, 0.1, 0.4, 0.5), 0.5)}
        store.put_many({"b": Verdict(status="no_label")})
    written, used = zip(*rows_of(path, "SELECT written, used FROM verdicts ORDER BY key"), strict=True)
    assert written[0] == 12.5 and used[0] > 1e9 and used[1] == written[1]  # it was read, which was noted
    assert rows_of(path, "PRAGMA user_version") == [(3,)]


def test_an_old_verdict_without_a_reason_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = unasked(monkeypatch)
    asked: list[tuple[Any, Any]] = []

    def explain(pairs: Any, labels: Any) -> list[Explanation]:
        asked.append((list(pairs), list(labels)))
        return [Explanation("why")]

    monkeypatch.setattr(judge.inner, "explain", explain)
    with VerdictStore(old_file(tmp_path / "v.sqlite", old_keys(judge))) as store:
        verdicts = [stored_verdicts(judge, store, PAIRS[2:3], reasons=True)[0] for _ in range(2)]
    assert asked == [([PAIRS[2]], [1])]  # behind the label that it had
    assert [(one.label, one.reason, one.cached) for one in verdicts] == [
        ("mismatch", "why", False), ("mismatch", "why", True)
    ]  # fmt: skip


def test_a_file_of_a_newer_goodrate_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = old_file(tmp_path / "v.sqlite", ["a", "b", "c", "d"])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    with pytest.raises(ValueError) as error:
        VerdictStore(path)
    assert str(error.value) == f"{path} has schema version 4; this goodrate reads up to 3"
    assert rows_of(path, "PRAGMA user_version") == [(4,)] and len(rows_of(path, "SELECT * FROM verdicts")) == 4


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_table_with_other_columns_is_refused_with_its_file(tmp_path: Path, version: int) -> None:
    path = tmp_path / "v.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE verdicts (id INTEGER, court TEXT)")
    connection.execute("INSERT INTO verdicts VALUES (1, 'high')")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError) as error:
        VerdictStore(path)
    assert str(error.value) == (
        f"{path}: table verdicts has columns id, court; expected key, status, label, probabilities, expected_gain, "
        "explanation, item_cut, written, used"
    )
    assert rows_of(path, "SELECT * FROM verdicts") == [(1, "high")]
    assert rows_of(path, "PRAGMA user_version") == [(version,)]


def test_two_connections_that_migrate_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_file(tmp_path / "v.sqlite", ["a", "b", "c", "d"])
    within, go_on = threading.Event(), threading.Event()
    whole, runs = verdict_store._from_version_0, []

    def slowly(connection: sqlite3.Connection) -> None:
        runs.append(connection)
        within.set()
        assert go_on.wait(20)
        whole(connection)

    monkeypatch.setattr(verdict_store, "_from_version_0", slowly)
    counts: list[dict[str, int]] = []

    def opened() -> None:
        with VerdictStore(path) as store:
            counts.append(store.counts())

    first, second = threading.Thread(target=opened), threading.Thread(target=opened)
    first.start()
    assert within.wait(20)  # the first holds the file and has changed nothing yet
    second.start()
    second.join(0.3)
    assert second.is_alive() and counts == []  # the second waits
    go_on.set()
    first.join(20)
    second.join(20)
    assert counts == [{"ok": 3, "prompt_too_long": 1}] * 2 and len(runs) == 1
