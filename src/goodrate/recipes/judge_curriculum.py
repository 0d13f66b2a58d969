"""A curriculum for a judge: stages from prompts it mostly gets right to those it mostly gets wrong.

SHE (arXiv 2510.07972) trains in several stages "for progressive skill acquisition"; windows, weights and the share that
comes back are our design (papers/taosr_she.md section 9).
"""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes import judge_stepwise
from goodrate.recipes.judge_policy import write_unchanged
from goodrate.recipes.prompt_pool import PoolSettings, Window, above_window, inside_window, prompt_stats
from goodrate.recipes.solved import solved_judge
from goodrate.run_folder import RunFolder, new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

log = logging.getLogger(__name__)


class CurriculumStage(Window):
    """Which prompts, by the share of right rollouts of the judge that enters the stage, and how they are rewarded."""

    outcome_weight: float = Field(ge=0)
    critical: bool


STAGES = (
    CurriculumStage(low=0.5, high=0.9, outcome_weight=0.3, critical=False),
    CurriculumStage(low=0.2, high=0.6, outcome_weight=0.7, critical=False),
    CurriculumStage(low=0.01, high=0.3, outcome_weight=1.0, critical=True),
)


class Settings(judge_stepwise.Settings):
    """How to train which judge in stages; every stage has its own reference, the judge that enters it.

    The window of `pool` is the stage's.
    """

    stages: list[CurriculumStage] = Field(default=list(STAGES), min_length=1)
    revisited: float = Field(default=0.15, ge=0, lt=1, description="share of a stage's prompts from the stages before")

    @model_validator(mode="after")
    def _is_enough(self) -> Self:
        if self.fit.updates is not None and self.fit.updates < len(self.stages):
            raise ValueError(f"fit.updates: one for each of {len(self.stages)} stages at least, not {self.fit.updates}")
        return self


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write `out/judge`, each stage in `out/stage<n>`; a killed run resumes. Raises Collapsed.

    The budget that is left is divided evenly among the stages that are left; a stage's rollouts for its window are part
    of its seconds. A stage without a prompt inside its window is passed over. Where all are, the judge is written as it
    was if it is right on what lies above them (see solved_notes), else ValueError.
    """
    run = RunFolder(out)
    run.begin(settings, settings.fit.seed)
    if (done := solved_judge(run)) is not None:
        return done
    judge, past, by_id = Path(settings.judge), list[str](), {prompt.example_id: prompt for prompt in prompts}
    updates, seconds = settings.fit.updates, settings.fit.seconds
    for number, stage in enumerate(settings.stages, 1):
        folder, stages_left = Path(out) / f"stage{number}", len(settings.stages) - number + 1
        own, spent = _pool(settings, stage, judge, prompts, folder, number)
        if not own:
            log.warning("stage %d: no prompt has %g to %g of its rollouts right", number, stage.low, stage.high)
            continue
        share = {"updates": updates and updates // stages_left, "seconds": seconds and seconds / stages_left}
        updates = updates and updates - updates // stages_left
        seconds = seconds and seconds - seconds / stages_left
        revisited = _revisited(past, own, settings, number)
        past += own
        if not (folder / "judge").is_dir():
            stage_settings = _of_stage(settings, stage, judge, share, spent)
            judge_stepwise.train(stage_settings, [by_id[name] for name in (*own, *revisited)], folder, progress)
        judge = folder / "judge"
    if not past:
        return _without_prompts(settings, len(prompts), Path(out))
    if not (Path(out) / "judge").is_dir():
        with new_folder(Path(out) / "judge") as beside:
            shutil.copytree(judge, beside, dirs_exist_ok=True)
    return Path(out) / "judge"


def _without_prompts(settings: Settings, count: int, out: Path) -> Path:
    """The judge as it was, where every stage found it right; ValueError where no stage has a prompt and it is not."""
    files = [out / f"stage{number}.pool.json" for number in range(1, len(settings.stages) + 1)]
    said: list[Any] = [read_object(file).get("solved") for file in files if file.is_file()]
    if not said or not all(said):
        raise ValueError(f"stages: none of {count} prompts is inside the window of any stage")
    return write_unchanged(settings, settings.judge, out, said[-1])


def _pool(
    settings: Settings, stage: CurriculumStage, judge: Path, prompts: Sequence[JudgePrompt], folder: Path, number: int
) -> tuple[list[str], float]:
    """The prompts of a stage by name, chosen by the judge that enters it, and the seconds it took; kept in a file."""
    file = folder.with_suffix(".pool.json")
    if not file.is_file():
        began = time.perf_counter()
        pool = settings.pool or PoolSettings(diverse=1.0)
        window = pool.model_copy(update={"low": stage.low, "high": stage.high})
        stats = prompt_stats(judge, prompts, pool.samples, settings.fit.seed + number)
        names = [prompt.example_id for prompt in inside_window(prompts, stats, window)]
        tally = above_window(prompts, stats, max(stage.high for stage in settings.stages))
        solved = tally.says() if tally.solved else None
        facts = {"prompts": names, "seconds": time.perf_counter() - began, "solved": solved}
        write_atomic(file, dumps(facts))
    pool_file = read_object(file)
    return pool_file["prompts"], pool_file["seconds"]


def _revisited(past: Sequence[str], own: Sequence[str], settings: Settings, number: int) -> list[str]:
    """Prompts of earlier stages that are not the stage's own, so many that they are the revisited share of it."""
    others = sorted(set(past) - set(own))
    count = min(len(others), round(settings.revisited / (1 - settings.revisited) * len(own)))
    return random.Random(settings.fit.seed + number).sample(others, count)


def _of_stage(
    settings: Settings, stage: CurriculumStage, judge: Path, share: dict[str, Any], spent: float
) -> judge_stepwise.Settings:
    """The settings of one stage: its weights, and its share of the budget less the seconds that its pool took."""
    unchanged = {name: getattr(settings, name) for name in judge_stepwise.Settings.model_fields}
    changed = {
        "judge": str(judge), "outcome_weight": stage.outcome_weight, "critical": stage.critical, "pool": None,
        "fit": settings.fit.model_copy(update=share).after(spent),
    }  # fmt: skip
    return judge_stepwise.Settings(**{**unchanged, **changed})
