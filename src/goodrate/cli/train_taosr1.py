"""`goodrate train taosr1`: SFT, then DPO, then GRPO, each from the judge before it (arXiv 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from goodrate.cli import train_judge
from goodrate.cli.judge_stage import outcome, prepared
from goodrate.cli.train import Outcome
from goodrate.cli.training_data import DataSettings, TrainingData, load_data
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft


class Settings(BaseModel):
    """The data and the three stages."""

    model_config = ConfigDict(extra="forbid")
    data: DataSettings
    rationales: int | None = Field(
        default=None,
        gt=0,
        description="pairs that SFT reads, with their reasons; DPO and GRPO read the labels of the rest",
    )
    sft: judge_sft.Settings
    dpo: judge_dpo.Training = Field(default_factory=judge_dpo.Training)
    grpo: judge_grpo.Training = Field(default_factory=judge_grpo.Training)


def run(settings: Settings, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train the chain, each stage in a folder of its own; a stage that is done is not done again."""
    first, rest = parts(settings.data, settings.rationales)
    data = load_data(rest)
    rest_of(data, rest, settings.rationales)
    folders = {name: out / name / "judge" for name in ("sft", "dpo", "grpo")}
    sft = train_judge.with_data(judge_sft.Settings, DataSettings).model_validate(
        {**settings.sft.model_dump(), "data": first.model_dump()}
    )
    train_judge.run(sft, out / "sft", progress)
    stage = prepared(str(folders["sft"]), rest, out / "dpo", data)
    recipe = judge_dpo.Settings(judge=str(folders["sft"]), **settings.dpo.model_dump())
    judge_dpo.train(recipe, stage.prompts, out / "dpo", progress)
    outcome(stage, rest, out / "dpo", {})
    stage = prepared(str(folders["dpo"]), rest, out / "grpo", data)
    last = judge_grpo.Settings(judge=str(folders["dpo"]), **settings.grpo.model_dump())
    judge_grpo.train(last, stage.prompts, out / "grpo", progress)
    return outcome(stage, rest, out / "grpo", {"sft": folders["sft"], "dpo": folders["dpo"]})


def rest_of(data: TrainingData, rest: DataSettings, rationales: int | None) -> None:
    """ValueError when the first `rationales` training pairs leave none for the later stages: said before SFT."""
    every = len(data.parts["train"])
    if rationales is not None and rest.skip >= every:
        raise ValueError(f"rationales = {rationales} leave none of {every:,} training pairs for DPO and GRPO")


def parts(data: DataSettings, rationales: int | None) -> tuple[DataSettings, DataSettings]:
    """What SFT reads and what the later stages read: the first `rationales` training pairs, and those after them.

    None: every stage reads all.
    """
    if rationales is None:
        return data, data
    left = None if data.take is None else data.take - rationales
    if left is not None and left < 1:
        raise ValueError(f"rationales = {rationales} leave nothing of data.take = {data.take} for DPO and GRPO")
    rest = {"skip": data.skip + rationales, "take": left}
    return data.model_copy(update={"take": rationales}), data.model_copy(update=rest)
