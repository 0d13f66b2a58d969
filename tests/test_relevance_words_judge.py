"""The share of a query's words that an item has, rare ones counting more: by hand, as a judge, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.words_judge import COUNTS_FILE, Card, WordCounts, WordsJudge, write_words_judge

CARD = Card(scale="esci", slope=4.0, cuts=(1.0, 2.0, 3.0))
COUNTS = WordCounts.of(["red lamp", "blue lamps", "red desk", "steel bottle with straw"])


def test_shares_by_hand() -> None:
    # 4 items: lamp (and lamps) in 2, desk in 1: ln(1 + 2.5 / 2.5) and ln(1 + 3.5 / 1.5)
    lamp, desk = math.log(2.0), math.log(10.0 / 3.0)
    assert (COUNTS.rarity("lamp"), COUNTS.rarity("desk")) == (lamp, desk)
    pairs = [Pair("desk lamps", text_item(text)) for text in ("lamp in red", "desk", "desk lamp", "sofa")]
    expected = [lamp / (lamp + desk), desk / (lamp + desk), 1.0, 0.0]
    np.testing.assert_allclose(WordsJudge(COUNTS, CARD).scores(pairs), expected)


def test_what_is_excluded_is_not_asked_for_and_a_query_without_words_finds_nothing() -> None:
    judge = WordsJudge(COUNTS, CARD)
    pairs = [Pair("bottle without straw", text_item("steel bottle")), Pair("???", text_item("steel bottle"))]
    assert judge.scores(pairs).tolist() == [1.0, 0.0]
    as_typed = WordsJudge(COUNTS, Card(scale="esci", slope=4.0, cuts=(1.0, 2.0, 3.0), language="fi"))
    assert as_typed.scores(pairs[:1])[0] < 0.6  # no rules for it: "without" and "straw" are words like others


def test_all_fields_are_read() -> None:
    item = {"title": "lamp", "brand": "Kira", "category": "Home", "attributes": '{"colour":"red"}', "description": "x"}
    assert WordsJudge(COUNTS, CARD).scores([Pair("kira red lamp home", item)]).tolist() == [1.0]


def test_it_is_a_judge_folder_that_repeats(tmp_path: Path) -> None:
    write_words_judge(tmp_path, CARD, COUNTS)
    judge = open_judge(tmp_path)
    good, bad = judge.judge("red lamp", ["a red lamp", "blue rug"], reasons=True)
    assert good.expected_gain > bad.expected_gain  # type: ignore[operator]
    assert good.reason is not None and good.reason.startswith("words 1.000")
    assert judge.identity == open_judge(tmp_path).identity
    other = WordCounts(COUNTS.items, {**COUNTS.holding, "lamp": 1})
    assert WordsJudge(other, CARD).identity != WordsJudge(COUNTS, CARD).identity


def test_counts_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    write_words_judge(tmp_path, CARD, COUNTS)
    (tmp_path / COUNTS_FILE).write_text(json.dumps({"items": 3}))
    with pytest.raises(ValueError, match=r"word_counts.json holds no word counts: KeyError\('holding'\)"):
        open_judge(tmp_path)
    (tmp_path / COUNTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="the judge's word counts are missing"):
        open_judge(tmp_path)
