"""Known facts of the real judgement files; skipped where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from goodrate.catalog.judgements import read_judgements
from goodrate.evaluation.classification import classify, constant_label
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.systems import Task, random_runs
from goodrate.scale import ESCI, GRADED_0_3

DATA = Path(os.environ.get("GOODRATE_DATA") or Path(__file__).parents[2] / "shared" / "data")
CHORUS, ESCI_US = DATA / "chorus" / "ratings.csv", DATA / "esci" / "esci_us_judgments.json"


@pytest.mark.skipif(not CHORUS.is_file(), reason="no Chorus data")
def test_chorus_random_order_has_the_ndcg_that_the_grades_imply() -> None:
    """E[DCG@10] of a random order is mean gain * sum of discounts, so the expected nDCG@10 is known exactly: 0.557."""
    judgements = read_judgements(CHORUS, GRADED_0_3, "chorus")
    qrels = {query: items for query, items in judgements.qrels().items() if len(set(items.values())) > 1}
    assert (len(judgements), len(judgements.queries()), len(qrels)) == (2414, 90, 66)
    expected = []
    for items in qrels.values():
        gains = np.sort(GRADED_0_3.gain_array[list(items.values())])[::-1]
        discounts = 1 / np.log2(np.arange(min(10, len(gains))) + 2)
        expected.append(gains.mean() * discounts.sum() / (gains[: len(discounts)] @ discounts))
    assert np.mean(expected) == pytest.approx(0.557, abs=5e-4)
    runs = random_runs(Task(dict.fromkeys(qrels, ""), qrels, judged_only=True), []).runs
    found = np.mean([evaluate_run(run, qrels, GRADED_0_3, ["ndcg@10"])["ndcg@10"].mean() for run in runs])
    assert found == pytest.approx(np.mean(expected), abs=0.015)  # one order is off by 0.02, twenty by 0.005


@pytest.mark.skipif(not ESCI_US.is_file(), reason="no ESCI data")
def test_esci_constant_exact_is_right_on_half() -> None:
    """2,198 of 4,460 pairs are exact: accuracy 0.493, macro-F1 (2 * 2198 / (2198 + 4460)) / 4 = 0.165."""
    gold = read_judgements(ESCI_US, ESCI, "esci").label_indices()
    found = classify(gold, np.full(len(gold), constant_label(gold)), ESCI)
    assert found.pairs == 4460 and found.accuracy == pytest.approx(2198 / 4460)
    assert found.macro_f1 == pytest.approx(2 * 2198 / (2198 + 4460) / 4)
