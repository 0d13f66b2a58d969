"""The chain of TaoSR1: SFT, then DPO, then GRPO, each from the judge before it (arXiv 2508.12365)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.data import TrainingData
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_runs import finished, policy_prompts, run_sft
from goodrate.recipes.registry import Progress, Recipe, TrainingResult
from goodrate.recipes.solved import solved_notes
from goodrate.run_folder import run_lock

STAGES = ("sft", "dpo", "grpo")


class Settings(BaseModel):
    """The three stages."""

    model_config = ConfigDict(extra="forbid")
    rationales: int | None = Field(
        default=None,
        gt=0,
        description="pairs that SFT reads, with their reasons; DPO and GRPO read the labels of the rest",
    )
    sft: judge_sft.Settings
    dpo: judge_dpo.Training = Field(default_factory=judge_dpo.Training)
    grpo: judge_grpo.Training = Field(default_factory=judge_grpo.Training)


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train the chain, each stage in a folder of its own; a stage that is done is not done again.

    A stage that has nothing to learn because its judge is right hands that judge on.
    """
    first, rest = data_of_stages(data, settings.rationales)
    with ExitStack() as held:
        for stage in STAGES:
            held.enter_context(run_lock(out / stage))
        return _run(settings, first, rest, out, progress)


def _run(
    settings: Settings, first: TrainingData, rest: TrainingData, out: Path, progress: Progress
) -> TrainingResult:  # fmt: skip
    """The stages one after the other. first: what SFT reads; rest: what the others read."""
    folders = {stage: out / stage / "judge" for stage in STAGES}
    run_sft(settings.sft, first, out / "sft", progress)
    prompts = policy_prompts(str(folders["sft"]), rest, out / "dpo")
    dpo = judge_dpo.Settings(judge=str(folders["sft"]), **settings.dpo.model_dump())
    judge_dpo.train(dpo, prompts, out / "dpo", progress)
    finished(out / "dpo", rest, {})
    prompts = policy_prompts(str(folders["dpo"]), rest, out / "grpo")
    grpo = judge_grpo.Settings(judge=str(folders["dpo"]), **settings.grpo.model_dump())
    judge_grpo.train(grpo, prompts, out / "grpo", progress)
    notes = [f"dpo: {says}" for says in solved_notes(out / "dpo")]
    return finished(out / "grpo", rest, {"sft": folders["sft"], "dpo": folders["dpo"]}, notes)


def data_of_stages(data: TrainingData, rationales: int | None) -> tuple[TrainingData, TrainingData]:
    """What SFT reads and what the later stages read: the first `rationales` training pairs, and those after them.

    None: every stage reads all. Raises ValueError when nothing is left for the later stages: said before SFT.
    """
    if rationales is None:
        return data, data
    skip, take = data.choice.skip, data.choice.take
    left = None if take is None else take - rationales
    if left is not None and left < 1:
        raise ValueError(f"rationales = {rationales} leave nothing of data.take = {take} for DPO and GRPO")
    every = len(data.parts["train"])
    if skip + rationales >= every:
        raise ValueError(f"rationales = {rationales} leave none of {every:,} training pairs for DPO and GRPO")
    return data.part_of_training(skip, rationales), data.part_of_training(skip + rationales, left)


TAOSR1 = Recipe(Settings, run)
