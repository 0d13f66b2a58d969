"""The chain SFT -> DPO -> GRPO and its later stages alone, on the shipped base and a small shop."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.cli import train
from goodrate.examples.data import TrainingData
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.folder_lock import FolderBusy, one_writer
from goodrate.recipes.registry import TrainingResult
from goodrate.recipes.taosr1 import data_of_stages
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import Pair, text_item
from goodrate.shop.shop import ShopSettings

SHOP = ["data.shop.items=300", "data.shop.queries=40", "data.shop.judged=8"]
SHORT = ["sft.batch_size=16", "sft.fit.updates=80", "sft.epochs=50", "sft.label_weight=8"]
SHORT += ["sft.optimizer=muon", "sft.learning_rate=1e-3"]
SHORT += ["dpo.sampling.samples=3", "dpo.fit.updates=2", "dpo.batch_size=8"]
SHORT += ["grpo.fit.updates=2", "grpo.rollouts.prompts=4", "grpo.rollouts.group_size=4"]


def data(**changes: int) -> TrainingData:
    return load_data(DataSettings(shop=ShopSettings(items=300, queries=40, judged=8), **changes))


def run(
    recipe: str, given: list[str], out: Path, progress: Callable[..., object] = lambda record: None
) -> TrainingResult:
    """The recipe with these settings."""
    return run_from_settings(recipe, settings.load(settings_with_data(recipe), None, given), out, progress)


def test_parts_of_the_training_pairs_do_not_overlap() -> None:
    whole = data()
    every = whole.training_pairs()
    few, many = (part.training_pairs() for part in data_of_stages(data(take=50), 20))
    names = [{(pair.query, pair.item_id) for pair in pairs} for pairs in (few, many, every)]
    assert (len(few), len(many)) == (20, 30) and not names[0] & names[1] and names[0] | names[1] < names[2]
    assert data_of_stages(whole, None) == (whole, whole)
    with pytest.raises(ValueError, match="rationales = 5000 leave none of .* training pairs"):
        data_of_stages(whole, 5000)
    with pytest.raises(ValueError, match="leave nothing of data.take = 20"):
        data_of_stages(data(take=20), 20)
    with pytest.raises(ValueError, match="data.skip = 100000: there are"):
        data(skip=100_000).training_pairs()


@pytest.mark.slow
def test_the_chain_trains_each_stage_from_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    given = ["rationales=120", "data.take=180", *SHOP, *SHORT, "sft.model=nano", "sft.format.max_new_tokens=64"]
    outcome = run("taosr1", given, tmp_path / "run")
    assert outcome.folder == tmp_path / "run" / "grpo" / "judge"
    assert [name for name in outcome.rows if not name.startswith("always")] == ["sft", "dpo", "judge"]
    started = {stage: json.loads((tmp_path / "run" / stage / "result.json").read_text()) for stage in ("dpo", "grpo")}
    assert all(result["updates"] == 2 for result in started.values())
    probabilities = [
        open_judge(tmp_path / "run" / stage / "judge").pair_probabilities(
            [Pair("red lamp", text_item("lamp ; color red"))]
        )
        for stage in ("sft", "dpo", "grpo")
    ]
    assert not any((a == b).all() for a, b in zip(probabilities, probabilities[1:], strict=False))
    again = run("taosr1", given, tmp_path / "run", lambda record: pytest.fail("nothing is left to train"))
    assert again.rows["judge"] == outcome.rows["judge"]

    rest = ["data.take=60", "data.skip=120", *SHOP]
    alone = [*rest, f"judge={tmp_path / 'run' / 'sft' / 'judge'}", "fit.updates=1"]
    alone += ["rollouts.prompts=4", "rollouts.group_size=4", "rollouts.max_new_tokens=64"]
    seen: list[dict[str, float]] = []  # its siblings run in test_recipes_judge_methods
    single = run("judge_guided", alone, tmp_path / "judge_guided", seen.append)
    assert [*single.rows][:2] == ["before", "judge"] and {"accuracy", "stuck"} <= set(seen[0])
    assert single.rows["before"]["pairs"] == single.rows["judge"]["pairs"]

    watched = [*rest, f"model={tmp_path / 'run' / 'sft' / 'judge'}", "samples=2", "fit.updates=3"]
    steps = run("step_judge", watched, tmp_path / "s")
    assert [*steps.rows] == ["wants", "found", "category", "checks", "verdict", "first error"]
    train.report(steps)
    assert "first error" in capsys.readouterr().out and json.loads((tmp_path / "s" / "dev.json").read_text())
    staged = [*alone, f"step_judge={steps.folder}", "pool.samples=2"]
    staged += ["stages=[{ low = 0.0, high = 1.0, outcome_weight = 0.7, critical = true }]"]
    last = run("judge_curriculum", staged, tmp_path / "c")
    assert (tmp_path / "c" / "stage1" / "judge").is_dir() and [*last.rows][:2] == ["before", "judge"]


@pytest.mark.parametrize("stage", ["", "sft", "grpo"])
def test_a_chain_whose_folder_or_stage_another_run_writes_to_does_not_begin(stage: str, tmp_path: Path) -> None:
    refused: list[FolderBusy] = []

    def chain() -> None:
        try:
            run("taosr1", [*SHOP, *SHORT, "sft.model=nano"], tmp_path / "run", lambda record: pytest.fail("it began"))
        except FolderBusy as error:
            refused.append(error)

    with one_writer(tmp_path / "run" / stage):
        thread = threading.Thread(target=chain)
        thread.start()
        thread.join()
    assert str(refused[0]).startswith(f"{tmp_path / 'run' / stage} is being written by process ")
    assert not [*tmp_path.rglob("settings.toml")]


def test_a_judge_of_another_scale_is_refused(tmp_path: Path) -> None:
    from goodrate.recipes.judge_folder import write_judge
    from goodrate.relevance.judge_format import JudgeFormat
    from tiny_models import causal_lm

    write_judge(causal_lm(), JudgeFormat(scale="esci"), tmp_path / "judge")
    with pytest.raises(ValueError, match="has scale 'esci', data.scale is 'four_level'"):
        run("judge_grpo", [*SHOP, f"judge={tmp_path / 'judge'}"], tmp_path / "run")
