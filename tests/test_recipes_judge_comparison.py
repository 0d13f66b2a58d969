"""Whether a judge is better than a constant and a cosine: the arithmetic, and what is said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from goodrate.api import training
from goodrate.recipes.judge_comparison import MIN_QUERIES, WAYS_OUT, Scores, compare, pair_losses, warnings_of
from goodrate.recipes.registry import TrainingResult

QUERIES = [f"q{n // 4}" for n in range(80)]  # 20 queries of 4 pairs


def test_losses_by_hand() -> None:
    nan = math.nan
    rows = np.asarray([[0.25, 0.75], [1.0, 0.0], [nan, nan]])
    # right with 3/4; sure and wrong: the least probability that is counted; a failure knows nothing
    assert pair_losses(rows, np.asarray([1, 1, 0])) == pytest.approx([-math.log(0.75), -math.log(1e-6), math.log(2)])


def scores(*losses: float) -> Scores:
    return Scores(np.asarray(losses * (80 // len(losses))), 0.5)


def test_a_judge_that_beats_every_rival_has_nothing_said_of_it() -> None:
    found = compare(scores(0.3, 0.5), {"always 0": scores(1.0), "encoder": scores(0.6)}, QUERIES)
    assert [one.better for one in found] == [True, True] and warnings_of(found, 20) == ()
    assert found[0].difference.value == pytest.approx(0.4 - 1.0) and found[0].difference.units == 20
    assert json.loads(json.dumps(found[1].as_dict()))["log_loss"] == pytest.approx([0.4, 0.6])


def test_the_rivals_that_it_does_not_beat_are_named_with_numbers_and_a_way_out() -> None:
    uneven = Scores(np.where(np.arange(80) < 40, 0.1, 1.1), 0.6)  # better on half of the queries, worse on the others
    found = compare(uneven, {"always 0": scores(0.6), "encoder": scores(0.2), "other": scores(2.0)}, QUERIES)
    told, worse = warnings_of(found, 20)
    assert told.startswith("this judge is not shown to be better than always 0: log-loss 0.600 against 0.600 (+0.000, ")
    assert worse.startswith("this judge is worse than encoder: log-loss 0.600 against 0.200 (+0.400, 95 % +0.")
    assert "20 dev queries), accuracy 0.600 against 0.500" in worse


def test_pairs_of_one_query_are_one_unit() -> None:
    """One query decides all: by pairs it would be sure, by queries it is not."""
    gap = np.where(np.arange(80) < 4, -4.0, 0.02)
    (one,) = compare(Scores(1 + gap, 0.5), {"always 0": scores(1.0)}, QUERIES)
    assert one.difference.value < 0 < one.difference.high and not one.better
    assert str(one).startswith(
        "this judge looks better, on too few dev queries to show it (data.dev_share), than always 0"
    )


def test_few_dev_queries_say_that_they_are_few() -> None:
    few = [f"q{n % (MIN_QUERIES - 1)}" for n in range(80)]
    found = compare(scores(0.1), {"always 0": scores(2.0), "encoder": scores(2.0)}, few)
    (told,) = warnings_of(found, MIN_QUERIES - 1)
    assert told.startswith("nobody knows whether this judge is better than always 0 or encoder: dev has 9 queries")
    assert "raise data.dev_share" in told


def test_python_is_warned_of_what_the_command_line_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = TrainingResult(tmp_path, {}, (), ("this judge is worse than always 0", WAYS_OUT))
    monkeypatch.setattr(training, "run", lambda *given: outcome)
    with pytest.warns(UserWarning) as told:
        assert training.train("base", out=tmp_path) == tmp_path
    assert [str(one.message) for one in told] == [f"{tmp_path}: {line}" for line in outcome.warnings]
    assert told[0].filename == __file__
