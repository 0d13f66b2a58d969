"""Exclusions and measures as a judge: what it counts, that it is a judge folder, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from goodrate.relevance.constraint_judge import Card, ConstraintJudge, write_constraint_judge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.pairs import Pair, text_item

CARD = Card(scale="esci", slope=2.0, cuts=(-1.0, 0.0, 1.0))
BOTTLE = "water bottle without straw"


@pytest.mark.parametrize(
    ("query", "text", "score"),
    [
        (BOTTLE, "steel water bottle with straw lid", -1.0),
        (BOTTLE, "water bottle, no straw", 1.0),
        (BOTTLE, "steel water bottle", 0.0),
        ("water bottle", "water bottle with straw", 0.0),  # nothing is asked for
        ("usb cable 2 m", "usb cable 200 cm", 1.0),
        ("usb cable 2 m", "usb cable 1 m", -1.0),
        ("usb cable 2 m without sleeve", "usb cable 2 m with sleeve", 0.0),  # one met, one violated
    ],
)
def test_what_is_met_less_what_is_violated(query: str, text: str, score: float) -> None:
    assert ConstraintJudge(CARD).scores([Pair(query, text_item(text))]).tolist() == [score]


def test_description_and_attributes_are_read_too() -> None:
    item = {"title": "water bottle", "attributes": '{"lid":"with straw"}', "description": "for the road"}
    judge = ConstraintJudge(CARD)
    assert judge.scores([Pair(BOTTLE, item), Pair("bottle", item)]).tolist() == [-1.0, 0.0]
    assert judge.reads([item]) == ["water bottle ; for the road ; lid with straw"]


def test_it_is_a_judge_folder_whose_labels_follow_the_score(tmp_path: Path) -> None:
    write_constraint_judge(tmp_path, CARD)
    assert read_judge_card(tmp_path) == CARD
    judge = open_judge(tmp_path)
    violated, silent, met = judge.judge(BOTTLE, ["bottle with straw", "steel bottle", "bottle, no straw"], reasons=True)
    gains = [one.expected_gain for one in (violated, silent, met)]
    assert gains == sorted(gains) and len(set(gains)) == 3  # type: ignore[type-var]
    # P(label >= l) = sigmoid(2 s - cut_l) at s = -1: sigmoids of -1, -2, -3
    edges = 1 / (1 + np.exp([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(violated.probabilities, [1 - edges[0], *(edges[:-1] - edges[1:]), edges[-1]])
    assert violated.reason is not None and "without straw: violated" in violated.reason
    assert met.reason is not None and "without straw: met" in met.reason


def test_a_language_without_rules_is_refused() -> None:
    with pytest.raises(ValueError, match="language 'fi': no rules for it; known: de, en"):
        Card(scale="esci", slope=2.0, cuts=(-1.0, 0.0, 1.0), language="fi")
    german = Card(scale="esci", slope=2.0, cuts=(-1.0, 0.0, 1.0), language="de")
    pair = Pair("trinkflasche ohne strohhalm", text_item("Trinkflasche mit Strohhalm"))
    assert ConstraintJudge(german).scores([pair]).tolist() == [-1.0]
    assert ConstraintJudge(german).identity != ConstraintJudge(CARD).identity
