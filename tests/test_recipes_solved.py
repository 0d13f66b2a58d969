"""A judge that is right on its prompts is a success: every recipe ends cleanly, writes it, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.cli import refusal
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings
from goodrate.learning.rollout_source import NothingToLearn, RolloutSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import (
    base,
    judge_context,
    judge_curriculum,
    judge_dpo,
    judge_grpo,
    judge_guided,
    judge_sft,
    judge_stepwise,
)  # fmt: skip
from goodrate.recipes.judge_rollouts import PairSampling
from goodrate.recipes.prompt_pool import PoolSettings
from goodrate.recipes.registry import TrainingResult
from goodrate.recipes.solved import solved_notes
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.run_folder import RunFolder
from test_recipes_judge_policy import prompts
from test_recipes_language_models import TINY, toy_tokenizer
from tiny_models import causal_lm

torch.set_num_threads(1)
AS_IT_WAS = "the judge is the one it started with"


def trained_on(folder: Path, examples: list[JudgePrompt], updates: int = 150) -> Path:
    """A judge that says with certainty what these examples say."""
    tokenizer = toy_tokenizer()
    CausalLM(base.make_network(TINY, tokenizer, seed=5), tokenizer).save(folder / "start")
    how = judge_sft.Settings(
        model=str(folder / "start"), fit=FitSettings(updates=updates, precision="fp32"), batch_size=18, epochs=200,
        learning_rate=1e-2, max_tokens=64, format=JudgeFormat(max_new_tokens=3),
    )  # fmt: skip
    return judge_sft.train(how, examples, folder / "run")


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that is right and certain on every prompt."""
    return trained_on(tmp_path_factory.mktemp("sure"), [replace(p, completion=str(p.label + 1)) for p in prompts()])


def known() -> list[JudgePrompt]:
    """Prompts with a true step and a text, as the recipes ask for."""
    steps = {"checks": "checks none"}
    return [replace(p, steps=steps, context_prefix=p.prefix, context_kind="helpful") for p in prompts()]


ROLLOUTS = RolloutSettings(prompts=6, group_size=4, temperature=0.05, max_new_tokens=3)
FIT = FitSettings(updates=20, precision="fp32")
SCREENED = ROLLOUTS.model_copy(update={"screening": 2, "rest": 2})
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "grpo": (judge_grpo, {"rollouts": ROLLOUTS}),
    "grpo, screened": (judge_grpo, {"rollouts": SCREENED}),
    "grpo, of what it is unsure of": (judge_grpo, {"rollouts": ROLLOUTS, "pool_confidence": 0.5}),
    "guided": (judge_guided, {"rollouts": ROLLOUTS}),
    "stepwise": (judge_stepwise, {"rollouts": ROLLOUTS}),
    "stepwise, of a pool": (judge_stepwise, {"rollouts": ROLLOUTS, "pool": PoolSettings(samples=4)}),
    "curriculum": (judge_curriculum, {"rollouts": ROLLOUTS, "pool": PoolSettings(samples=4)}),
    "context": (judge_context, {"rollouts": ROLLOUTS}),
    "dpo": (judge_dpo, {"sampling": PairSampling(samples=4, temperature=0.05, max_new_tokens=3)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_whose_prompts_are_solved_writes_the_judge_and_says_so(case: str, sure: Path, tmp_path: Path) -> None:
    module, changes = CASES[case]
    how = module.Settings(judge=str(sure), fit=FIT, **changes)
    folder = module.train(how, known(), tmp_path / "run", lambda record: pytest.fail("there is nothing to train on"))
    assert (folder / "model.safetensors").read_bytes() == (sure / "model.safetensors").read_bytes()
    card = json.loads((folder / "judge.json").read_text())
    assert card["kind"] == "lm"
    (says,) = solved_notes(tmp_path / "run")
    assert "solved: 18 of 18 prompts are answered right" in says and says.endswith(f"; {AS_IT_WAS}")
    (folder / "mine.txt").write_text("kept")  # finished: neither sampled nor written again
    assert module.train(how, known(), tmp_path / "run") == folder and (folder / "mine.txt").is_file()
    assert solved_notes(tmp_path / "run") == [says]


@pytest.mark.parametrize("case", ["grpo", "stepwise, of a pool", "dpo"])
def test_a_run_killed_before_its_solved_judge_is_written_writes_it(
    case: str, sure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, changes = CASES[case]
    how = module.Settings(judge=str(sure), fit=FIT, **changes)
    with monkeypatch.context() as killed:
        for place in ("judge_policy", "judge_dpo"):
            killed.setattr(f"goodrate.recipes.{place}.write_judge", interrupt)
        with pytest.raises(KeyboardInterrupt):
            module.train(how, known(), tmp_path / "run")
    assert module.train(how, known(), tmp_path / "run").is_dir() and len(solved_notes(tmp_path / "run")) == 1


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_judge_that_solves_its_prompts_on_the_way_is_written_as_trained(sure: Path, tmp_path: Path) -> None:
    """An unsure judge learns the toy task long before its updates are spent."""
    unsure = trained_on(tmp_path, [replace(p, completion=said) for p in prompts() for said in ("1", "4")], 60)
    seen: list[dict[str, Any]] = []
    how = judge_grpo.Settings(
        judge=str(unsure), learning_rate=1e-2, loss={"kl": 0.0},
        rollouts=RolloutSettings(prompts=8, group_size=6, max_new_tokens=3, screening=2),
        fit=FitSettings(updates=400, precision="fp32", schedule="constant"),
    )  # fmt: skip
    judge_grpo.train(how, prompts(), tmp_path / "grpo", seen.append)
    assert 3 < len(seen) < 400
    (says,) = solved_notes(tmp_path / "grpo")
    assert says == (
        f"solved: 18 of 18 prompts are answered right by every sample; the judge is as trained in {len(seen)} updates"
    )
    assert RunFolder(tmp_path / "grpo").metrics()[-1]["update"] == len(seen)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "grpo": (judge_grpo, {"rollouts": ROLLOUTS}, r"Too hard: no sample is right\. Start from"),
    "cut off": (
        judge_grpo,
        {"rollouts": ROLLOUTS.model_copy(update={"max_new_tokens": 1})},
        r"100% of the completions cannot be read, 100% are cut off\. Raise rollouts\.max_new_tokens",
    ),
    "dpo": (judge_dpo, CASES["dpo"][1], r"no preference pairs: 18 declined\. A pair needs a right and a wrong sample"),
    "pool": (judge_stepwise, CASES["stepwise, of a pool"][1], r"pool: none of 18 prompts .* 0 have more\. Widen"),
    "unsure": (judge_grpo, {"rollouts": ROLLOUTS, "pool_confidence": 0.5}, "surer of every one .* right on 0: raise"),
    "curriculum": (judge_curriculum, CASES["curriculum"][1], "none of 18 prompts is inside the window of any stage"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_judge_that_is_wrong_everywhere_is_an_error_with_advice(case: str, sure: Path, tmp_path: Path) -> None:
    module, changes, told = WRONG[case]
    how = module.Settings(judge=str(sure), fit=FIT, **changes)
    with pytest.raises(ValueError, match=told) as raised:
        module.train(how, [replace(p, label=3 - p.label) for p in known()], tmp_path / "run")
    assert refusal(raised.value) and not (tmp_path / "run" / "judge").exists()
    assert solved_notes(tmp_path / "run") == []


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Own files: every pair is related; and a tiny base."""
    folder = tmp_path_factory.mktemp("one")
    nouns = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]
    rows = [(f"red {noun}", f"i{n}", "related") for noun in nouns for n in (0, 1)]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(folder / "labels.csv")
    pl.DataFrame({"id": ["i0", "i1"], "title": ["Lamp", "Kettle"]}).write_csv(folder / "items.csv")
    causal_lm().save(folder / "base")
    return {
        "data.catalog": str(folder / "items.csv"), "data.judgements": str(folder / "labels.csv"),
        "base": str(folder / "base"),
    }  # fmt: skip


def trained(recipe: str, given: dict[str, Any], out: Path, progress: Callable[..., object]) -> TrainingResult:
    """The recipe as `goodrate train` runs it."""
    overrides = [f"{key}={value}" for key, value in given.items()]
    return run_from_settings(recipe, settings.load(settings_with_data(recipe), None, overrides), out, progress)


def test_a_chain_goes_on_after_a_stage_that_is_solved(one_label: dict[str, str], tmp_path: Path) -> None:
    given: dict[str, Any] = {key: value for key, value in one_label.items() if key != "base"}
    given |= {"sft.model": one_label["base"], "sft.fit.updates": 60, "sft.epochs": 100, "sft.batch_size": 8}
    given |= {"sft.format.max_new_tokens": 4, "dpo.sampling.temperature": 0.05, "dpo.sampling.max_new_tokens": 3}
    given |= {"grpo.rollouts.temperature": 0.05, "grpo.rollouts.max_new_tokens": 3, "sft.learning_rate": 1e-2}
    given |= {"grpo.rollouts.prompts": 4, "dpo.lora.rank": 4, "grpo.fit.updates": 5}
    first = trained("taosr1", given, tmp_path / "run", lambda record: None)
    said = [note for note in first.notes if "solved: " in note]
    assert [note.split("; ")[1] for note in said] == [AS_IT_WAS] * 2 and said[0].startswith("dpo: solved: ")
    assert first.rows["judge"]["accuracy"] == first.rows["sft"]["accuracy"] == 1.0
    assert (tmp_path / "run" / "grpo" / "dev.json").is_file()
    again = trained("taosr1", given, tmp_path / "run", lambda record: pytest.fail("it is finished"))
    assert (again.rows, again.notes) == (first.rows, first.notes)


def test_the_command_of_a_solved_run_ends_well(
    one_label: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from goodrate.cli import main

    data = {key: value for key, value in one_label.items() if key != "base"}
    sft = {**data, "model": one_label["base"], "fit.updates": 60, "epochs": 100, "batch_size": 8}
    sft |= {"format.max_new_tokens": 4, "learning_rate": 1e-2}
    judge = trained("judge_sft", sft, tmp_path / "sft", lambda record: None).folder
    given = {**data, "judge": str(judge), "rollouts.temperature": 0.05, "rollouts.max_new_tokens": 3}
    arguments = ["goodrate", "train", "judge_grpo", "--out", str(tmp_path / "run")]
    arguments += [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert not ended.value.code and "judge" in told.out
        assert f"answered right by every sample; {AS_IT_WAS}" in " ".join(told.err.split())


def test_nothing_to_learn_is_no_success() -> None:
    assert (refusal(NothingToLearn("update 0: none")) or "").startswith("update 0: none")
