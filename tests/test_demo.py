"""The demo end to end at toy size: its mechanics, not its numbers."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from goodrate.cli.demo import show_chains
from goodrate.demo import measure, stages
from goodrate.demo.run import CHAINS, STAGES, Listener, run_demo, run_learning
from goodrate.demo.settings import DemoSettings, LearningSettings
from goodrate.evaluation.systems import SystemRuns
from goodrate.folder_lock import FolderBusy, one_writer
from goodrate.recipes import dev_table, judge_grpo, judge_runs
from goodrate.recipes.registry import Recipe
from goodrate.recipes.retriever_runs import positive_pairs
from goodrate.settings import settings_hash

TOY = DemoSettings(
    items=300, queries=100, encoder_updates=3, judge_updates=2, judge_pairs=64, queries_measured=6, depth=5,
    encoder_hidden=32, encoder_layers=1,
)  # fmt: skip

CHAINED = LearningSettings(
    **TOY.model_dump(), retriever_updates=2, candidates=3, rationales=16, labels=64, sft_updates=2, grpo_updates=1,
    pairs_measured=12,
)  # fmt: skip


def quiet(started: list[str]) -> Listener:
    return Listener(started.append, lambda text: None, lambda name, seconds: None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Root, run folder and the stages that were started."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "JUDGED_PAIRS", 60)
        patch.setattr(dev_table, "DEV_PAIRS", 40)
        started: list[str] = []
        folder = run_demo(TOY, root, quiet(started))
    return root, folder, started


@pytest.mark.parametrize("learning", [False, True])
def test_a_demo_that_is_running_is_not_begun_a_second_time(learning: bool, tmp_path: Path) -> None:
    chosen, start = (CHAINED, run_learning) if learning else (TOY, run_demo)
    refused: list[FolderBusy] = []

    def second() -> None:
        try:
            start(chosen, tmp_path, quiet([]))  # type: ignore[operator]
        except FolderBusy as error:
            refused.append(error)

    with one_writer(tmp_path / settings_hash(chosen)):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused and not [*tmp_path.rglob("settings.toml")] and not (tmp_path / "demo").exists()


def test_every_stage_runs_once_and_the_link_points_to_the_run(ran: tuple[Path, Path, list[str]]) -> None:
    root, folder, started = ran
    assert tuple(started) == STAGES and (root / "demo").resolve() == folder.resolve()
    again: list[str] = []
    assert run_demo(TOY, root, quiet(again)) == folder
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
    pairs, positives = positive_pairs(stages.training_data(shop, 0), "clicks")
    training = {shop.queries[int(q)].text for q in shop.queries_of("train")}
    assert {pair.query for pair in pairs} <= training and set(positives) <= training
    assert sum(pair.weight for pair in pairs) == pytest.approx(len(pairs))  # clicks over their mean
    clicks = np.asarray([weight for _, _, weight in shop.clicks()])
    assert clicks.sum() == shop.sessions["clicked"].sum()
    assert [pair.weight for pair in pairs] == pytest.approx((clicks / clicks.mean()).tolist())
    assert all(pair.item_id in positives[pair.query] for pair in pairs)


def test_the_chains_start_where_the_demo_ended_and_leave_before_and_after(
    ran: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, demo, _ = ran
    started: list[str] = []

    def untrained(recipe: judge_grpo.Settings, prompts: list[object], out: Path, progress: object) -> Path:
        """Two updates of SFT leave nothing that GRPO could sample from; it has tests of its own."""
        assert len(prompts) == 64 and recipe.fit.updates == 1
        return Path(shutil.copytree(recipe.judge, out / "judge"))

    monkeypatch.setattr(judge_runs, "JUDGE_GRPO", Recipe(judge_grpo.Settings, judge_runs.PolicyRun(untrained)))
    folder = run_learning(CHAINED, root, quiet(started))
    assert tuple(started) == CHAINS and (root / "demo-rl").resolve() == folder.resolve() != demo.resolve()
    report = json.loads((folder / "report.json").read_text())
    before, after, chance = report["encoders"]
    assert [row["system"] for row in report["encoders"]] == ["before", "after", "random"]
    gain = after["minus_first"]["recall@100"]["value"]
    assert gain == pytest.approx(after["recall@100"]["value"] - before["recall@100"]["value"])
    judges = report["judges"]["systems"]
    gap = judges["after"]["macro_f1"]["value"] - judges["before"]["macro_f1"]["value"]
    assert report["judges"]["minus_before"]["value"] == pytest.approx(gap) and report["judges"]["pairs"] == 12
    rules = [judges[name]["right_rule"]["value"] for name in ("before", "after")]
    assert rules[0] == rules[1] >= 0 and "right_rule" not in judges["majority"]
    show_chains(report)
    shown = capsys.readouterr().out
    assert "+ own top K" in shown and "+ GRPO, 64 labels" in shown
    again: list[str] = []
    run_learning(CHAINED, root, quiet(again))
    assert again == []


def test_the_chain_grades_pairs_that_its_sft_has_not_read() -> None:
    shop = stages.make_shop(DemoSettings(items=200, queries=100))
    parts = [stages.training_data(shop, 3, start, count).training_pairs() for start, count in ((0, 50), (50, 70))]
    keys = [{(pair.query, pair.item_id) for pair in part} for part in parts]
    assert [len(key) for key in keys] == [50, 70] and not keys[0] & keys[1]
    training = {shop.queries[int(q)].text: int(q) for q in shop.queries_of("train")}
    place = {item: i for i, item in enumerate(shop.catalog.ids)}
    assert all(pair.label == shop.labels[training[pair.query], place[pair.item_id]] for pair in parts[1])
