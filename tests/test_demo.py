"""The demo end to end at toy size: its mechanics, not its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from goodrate.demo import measure, stages
from goodrate.demo.run import STAGES, Listener, run_demo
from goodrate.demo.settings import DemoSettings
from goodrate.evaluation.systems import SystemRuns

TOY = DemoSettings(
    items=300, queries=100, encoder_updates=3, judge_updates=2, judge_pairs=64, queries_measured=6, depth=5,
    encoder_hidden=32, encoder_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Root, run folder and the stages that were started."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "JUDGED_PAIRS", 60)
        patch.setattr(stages, "CALIBRATION_PAIRS", 40)
        started: list[str] = []
        folder = run_demo(TOY, root, Listener(started.append, lambda text: None, lambda name, seconds: None))
    return root, folder, started


def test_every_stage_runs_once_and_the_link_points_to_the_run(ran: tuple[Path, Path, list[str]]) -> None:
    root, folder, started = ran
    assert tuple(started) == STAGES and (root / "demo").resolve() == folder.resolve()
    again: list[str] = []
    assert run_demo(TOY, root, Listener(again.append, lambda text: None, lambda name, seconds: None)) == folder
    assert again == []


def test_the_report_holds_the_table_and_what_made_it(ran: tuple[Path, Path, list[str]]) -> None:
    report = json.loads((ran[1] / "report.json").read_text())
    assert [row["system"] for row in report["systems"]] == ["random", "lexical", "encoder", "hybrid", "hybrid + judge"]
    for row in report["systems"]:
        for metric in measure.METRICS:
            found = row[metric]
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert report["test_queries"] == 6 and report["judge"]["pairs"] == 60
    assert report["seed"] == 0 and report["one_seed"] and report["versions"]["torch"]
    assert set(report["judge"]["trivial"]) == {
        "majority", "query_only", "item_only", "bag_of_words", "overlap", "category_blind"
    }  # fmt: skip


def test_a_search_with_the_judge_keeps_what_lies_under_its_depth(ran: tuple[Path, Path, list[str]]) -> None:
    """recall@100 cannot change when the first 5 of 100 are put into another order."""
    systems = {row["system"]: row for row in json.loads((ran[1] / "report.json").read_text())["systems"]}
    assert systems["hybrid"]["recall@100"] == systems["hybrid + judge"]["recall@100"]


def test_leaving_out_irrelevant_items_that_no_run_shows_changes_nothing() -> None:
    shop = stages.make_shop(DemoSettings(items=200, queries=100))
    q = int(shop.queries_of("test")[0])
    ids = shop.catalog.ids
    run = {shop.query_id(q): [(ids[i], float(-i)) for i in range(20)]}
    qrels = measure.full_truth(shop, np.asarray([q]), [SystemRuns("x", [run])])[shop.query_id(q)]
    assert set(qrels) == set(ids[:20]) | {ids[i] for i in np.flatnonzero(shop.labels[q] > 0)}
    assert all(qrels[ids[i]] == shop.labels[q, i] for i in range(20))


def test_click_pairs_are_clicked_and_only_on_training_queries() -> None:
    shop = stages.make_shop(DemoSettings(items=200, queries=100))
    pairs, positives = stages.click_pairs(shop)
    training = {shop.queries[int(q)].text for q in shop.queries_of("train")}
    assert {pair.query for pair in pairs} <= training and set(positives) <= training
    assert sum(pair.weight for pair in pairs) == shop.sessions["clicked"].sum()
    assert all(pair.item_id in positives[pair.query] for pair in pairs)
