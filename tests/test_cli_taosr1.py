"""The chain SFT -> DPO -> GRPO and its later stages alone, on the shipped base and a small shop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from goodrate import settings
from goodrate.cli import (
    train,
    train_curriculum,
    train_grpo,
    train_guided,
    train_step_judge,
    train_stepwise,
    train_taosr1,
)
from goodrate.cli.training_data import DataSettings, load_data
from goodrate.relevance.judge import Judge, Pair
from goodrate.shop.shop import ShopSettings

SHOP = ["data.shop.items=300", "data.shop.queries=40", "data.shop.judged=8"]
SHORT = ["sft.batch_size=16", "sft.fit.updates=80", "sft.epochs=50", "sft.label_weight=8"]
SHORT += ["sft.optimizer=muon", "sft.learning_rate=1e-3"]
SHORT += ["dpo.sampling.samples=3", "dpo.fit.updates=2", "dpo.batch_size=8"]
SHORT += ["grpo.fit.updates=2", "grpo.rollouts.prompts=4", "grpo.rollouts.group_size=4"]


def data(**changes: int) -> DataSettings:
    return DataSettings(shop=ShopSettings(items=300, queries=40, judged=8), **changes)


def test_parts_of_the_training_pairs_do_not_overlap() -> None:
    loaded = load_data(data())
    every = loaded.training_pairs(data(), "listing")
    first, rest = train_taosr1.parts(data(take=50), 20)
    few, many = (loaded.training_pairs(part, "listing") for part in (first, rest))
    names = [{(pair.query, pair.item_id) for pair in pairs} for pairs in (few, many, every)]
    assert (len(few), len(many)) == (20, 30) and not names[0] & names[1] and names[0] | names[1] < names[2]
    assert train_taosr1.parts(data(), None) == (data(), data())
    with pytest.raises(ValueError, match="rationales = 5000 leave none of .* training pairs"):
        train_taosr1.rest_of(loaded, train_taosr1.parts(data(), 5000)[1], 5000)
    with pytest.raises(ValueError, match="leave nothing of data.take = 20"):
        train_taosr1.parts(data(take=20), 20)
    with pytest.raises(ValueError, match="data.skip = 100000: there are"):
        loaded.training_pairs(data(skip=100_000), "listing")


@pytest.mark.slow
def test_the_chain_trains_each_stage_from_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    given = ["rationales=120", "data.take=180", *SHOP, *SHORT, "sft.model=nano", "sft.format.max_new_tokens=64"]
    chosen = settings.load(train_taosr1.Settings, None, given)
    outcome = train_taosr1.run(chosen, tmp_path / "run", lambda record: None)
    assert outcome.model == tmp_path / "run" / "grpo" / "judge"
    assert [name for name in outcome.rows if not name.startswith("always")] == ["sft", "dpo", "judge"]
    started = {stage: json.loads((tmp_path / "run" / stage / "result.json").read_text()) for stage in ("dpo", "grpo")}
    assert all(result["updates"] == 2 for result in started.values())
    probabilities = [
        Judge.load(tmp_path / "run" / stage / "judge").probabilities([Pair("red lamp", "lamp ; color red")])
        for stage in ("sft", "dpo", "grpo")
    ]
    assert not any((a == b).all() for a, b in zip(probabilities, probabilities[1:], strict=False))
    again = train_taosr1.run(chosen, tmp_path / "run", lambda record: pytest.fail("nothing is left to train"))
    assert again.rows["judge"] == outcome.rows["judge"]

    rest = ["data.take=60", "data.skip=120", *SHOP]
    alone = [*rest, f"judge={tmp_path / 'run' / 'sft' / 'judge'}", "fit.updates=1"]
    alone += ["rollouts.prompts=4", "rollouts.group_size=4", "rollouts.max_new_tokens=64"]
    for recipe, logged in ((train_grpo, "accuracy"), (train_guided, "stuck"), (train_stepwise, "reward/step/checks")):
        seen: list[dict[str, float]] = []
        single = recipe.run(settings.load(recipe.Settings, None, alone), tmp_path / recipe.__name__, seen.append)
        assert [*single.rows][:2] == ["before", "judge"] and logged in seen[0]
        assert single.rows["before"]["pairs"] == single.rows["judge"]["pairs"]

    watched = [*rest, f"model={tmp_path / 'run' / 'sft' / 'judge'}", "samples=2", "fit.updates=3"]
    chosen = settings.load(train_step_judge.Settings, None, watched)
    steps = train_step_judge.run(chosen, tmp_path / "s", lambda record: None)
    assert [*steps.rows] == ["wants", "found", "category", "checks", "verdict", "first error"]
    train.report(steps)
    assert "first error" in capsys.readouterr().out and json.loads((tmp_path / "s" / "dev.json").read_text())
    staged = [*alone, f"step_judge={steps.model}", "pool.samples=2"]
    staged += ["stages=[{ low = 0.0, high = 1.0, outcome_weight = 0.7, critical = true }]"]
    chosen = settings.load(train_curriculum.Settings, None, staged)
    last = train_curriculum.run(chosen, tmp_path / "c", lambda record: None)
    assert (tmp_path / "c" / "stage1" / "judge").is_dir() and [*last.rows][:2] == ["before", "judge"]


def test_a_judge_of_another_scale_is_refused(tmp_path: Path) -> None:
    from goodrate.recipes.judge_folder import JudgeFormat, write_judge
    from tiny_models import causal_lm

    write_judge(causal_lm(), JudgeFormat(scale="esci"), tmp_path / "judge")
    chosen = settings.load(train_grpo.Settings, None, [*SHOP, f"judge={tmp_path / 'judge'}"])
    with pytest.raises(ValueError, match="has scale 'esci', data.scale is 'four_level'"):
        train_grpo.run(chosen, tmp_path / "run", lambda record: None)
