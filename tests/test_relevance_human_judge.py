"""People as a judge: known pairs get their label with all mass, others are unknown, and the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.catalog.judgements import Judgements
from goodrate.relevance.human_judge import Card, HumanJudge, write_human_judge
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.judge_card import write_judge_card
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.verdicts import Explanation, ReasonStep, Verdict
from goodrate.scale import WANDS

LABELS = {("Red  Lamp", "a"): 2, ("red lamp", "b"): 0, ("chair", "a"): 1}
ROWS = [{"id": name, "title": name} for name in "abc"]


def test_known_pairs_have_their_label_and_others_are_unknown() -> None:
    judge = CalibratedJudge(HumanJudge(LABELS, WANDS))
    # gains 0, 0.5, 1; the query's case and blanks do not matter; nobody has labelled (red lamp, c) or a bare text
    assert judge.judge(" red LAMP", [*ROWS, text_item("a")]) == [
        Verdict("exact", (0.0, 0.0, 1.0), 1.0, "Good"),
        Verdict("irrelevant", (1.0, 0.0, 0.0), 0.0, "Bad"),
        Verdict(status="no_label"),
        Verdict(status="no_label"),
    ]
    assert judge.judge("chair", ROWS[:1]) == [Verdict("partial", (0.0, 1.0, 0.0), 0.5, "Mid")]
    assert judge.judge("chair", []) == []
    unknown = judge.inner.assess([Pair("sofa", ROWS[0])])
    assert unknown.status == ("no_label",) and np.isnan(unknown.probabilities).all()


def test_people_are_named_as_the_reason_of_known_pairs_alone() -> None:
    judge = CalibratedJudge(HumanJudge(LABELS, WANDS))
    known, unknown = judge.judge("chair", [ROWS[0], ROWS[1]], reasons=True)
    assert known.explanation == Explanation(
        "partial", (ReasonStep("label", "Labelled by people", "partial", "partial"),)
    )
    assert unknown == Verdict(status="no_label")


def test_the_identity_is_that_of_all_labels_in_any_order() -> None:
    one = HumanJudge(LABELS, WANDS).identity
    assert one == HumanJudge(dict(reversed(LABELS.items())), WANDS).identity
    assert one != HumanJudge({**LABELS, ("chair", "a"): 2}, WANDS).identity
    assert HumanJudge(LABELS, WANDS).reads([ROWS[0], text_item("a")]) == ["id a", "a"]


def test_a_folder_goes_there_and_back(tmp_path: Path) -> None:
    rows = [(query, query, item, WANDS.labels[label]) for (query, item), label in LABELS.items()]
    frame = pl.DataFrame(rows, schema=["query_id", "query", "item_id", "label"], orient="row")
    folder = write_human_judge(tmp_path / "people", Judgements(frame, WANDS))
    opened = open_judge(folder)
    assert (opened.name, opened.scale) == ("people", WANDS)
    assert opened.judge("red lamp", ROWS) == CalibratedJudge(HumanJudge(LABELS, WANDS)).judge("red lamp", ROWS)
    assert opened.inner.identity == HumanJudge(LABELS, WANDS).identity


def test_a_folder_without_good_labels_is_refused_with_its_file(tmp_path: Path) -> None:
    write_judge_card(tmp_path, Card(scale="wands"))
    path = tmp_path / "labels.parquet"
    with pytest.raises(FileNotFoundError) as missing:
        open_judge(tmp_path)
    assert str(missing.value) == f"{path}: no such file; it holds the labels of this judge"
    frames = [pl.DataFrame({"query": ["q"], "label": ["exact"]})]
    frames += [pl.DataFrame({"query": ["q"], "item_id": ["a"], "label": [label]}) for label in ("superb", None)]
    for frame in frames:
        frame.write_parquet(path)
        with pytest.raises(ValueError, match="expected columns query, item_id, label on wands: ") as error:
            open_judge(tmp_path)
        assert str(error.value).startswith(f"{path}: ")
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="expected columns query, item_id, label on wands: "):
        open_judge(tmp_path)
