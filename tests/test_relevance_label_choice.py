"""Which label probabilities stand for: by hand, through a judge's folder, and not moved by a temperature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from goodrate.recipes.score_sum import LabelledPairs
from goodrate.relevance.human_judge import Card
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge
from goodrate.relevance.judge_card import CARD_FILE, read_judge_card, write_judge_card
from goodrate.relevance.label_choice import balanced_weights, chosen_labels
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.scale import ESCI

P = np.asarray([[0.1, 0.2, 0.3, 0.4], [0.05, 0.0, 0.15, 0.8], [np.nan] * 4])


class Fixed:
    """A judge that gives P to every three pairs."""

    scale = ESCI
    identity = {"fixed": 1}

    def assess(self, pairs):  # noqa: ANN001, ANN201
        return Assessment.of(P)


def test_weights_raise_rare_labels_and_none_are_the_most_probable() -> None:
    assert chosen_labels(P).tolist() == [3, 3, -1]
    # (1/16, 2/16, 4/16, 9/16 of the labels) -> weights 3, sqrt(4.5), 1.5, 1: 0.3, 0.42, 0.45, 0.4
    weights = balanced_weights(np.repeat([0, 1, 2, 3], [0, 1, 3, 8]), 4)
    np.testing.assert_allclose(weights, [3.0, 4.5**0.5, 1.5, 1.0])
    assert chosen_labels(P, weights).tolist() == [2, 3, -1]
    assert balanced_weights(np.asarray([0, 3]), 4, balance=0.0) == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_a_temperature_moves_no_label(temperature: float) -> None:
    judge = CalibratedJudge(Fixed(), temperature, label_weights=(3.0, 4.5**0.5, 1.5, 1.0))  # type: ignore[arg-type]
    rows = judge.pair_probabilities([])
    assert judge.labels(rows).tolist() == [2, 3, -1]
    assert [one.label for one in judge.fresh_verdicts([Pair("lamp", {})] * 3)] == ["substitute", "exact", None]
    plain = CalibratedJudge(Fixed(), temperature)  # type: ignore[arg-type]
    assert plain.labels(plain.pair_probabilities([])).tolist() == [3, 3, -1]
    assert dict(judge.identity) != dict(plain.identity) and "label_weights" not in plain.identity


def test_labels_over_folds_are_weighed_by_the_other_folds() -> None:
    """A rare label that only one fold has is raised in that fold by what the others do not have, not by its own."""
    pairs = [JudgedPair(query, {"id": str(i)}, label=3) for query in ("red lamp", "blue rug") for i in range(8)]
    pairs += [JudgedPair("oak desk", {"id": str(i)}, label=0) for i in range(4)]
    data = LabelledPairs(pairs, ESCI, folds=3)
    chosen = data.chosen(np.tile([0.3, 0.0, 0.0, 0.7], (len(pairs), 1)))
    for fold in range(3):
        inside = data.fold == fold
        expected = chosen_labels(np.asarray([[0.3, 0.0, 0.0, 0.7]]), balanced_weights(data.labels[~inside], 4))[0]
        assert set(chosen[inside].tolist()) == {int(expected)}
    assert len(set(chosen.tolist())) == 2


def test_a_card_says_its_weights_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / CARD_FILE
    write_judge_card(tmp_path, Card(scale="esci"))
    written = json.loads(path.read_text())
    assert "label_weights" not in written  # cards of judges without weights are as before
    path.write_text(json.dumps(written | {"label_weights": [2.0, 1.0, 1.0, 1.0]}))
    card = read_judge_card(tmp_path)
    assert calibrated_judge(Fixed(), card).label_weights == (2.0, 1.0, 1.0, 1.0)  # type: ignore[arg-type]
    for wrong, said in (([1.0, 1.0], "one for each label"), ([1, 1, 0, 1], "above 0"), (["a", 1, 1, 1], "above 0")):
        path.write_text(json.dumps(written | {"label_weights": wrong}))
        with pytest.raises(ValueError, match=said):
            read_judge_card(tmp_path)
