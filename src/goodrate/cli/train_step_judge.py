"""`goodrate train step_judge`: a model that tells right reasoning steps from wrong ones, measured on other queries."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from goodrate.cli.judge_stage import prepared
from goodrate.cli.train import Outcome, keep_rows, with_data
from goodrate.cli.training_data import DataSettings
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes import step_judge
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.step_judge import StepScores

Settings: Any = with_data(step_judge.Settings, DataSettings)
HELD_OUT = 0.2  # of the queries


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train on the rollouts of a judge on four fifths of the queries, measure on those of the others."""
    told = step_judge.Settings.model_validate(settings.model_dump(exclude={"data"}))
    stage = prepared(told.model, settings.data, out)
    learned, held = split([p for p in stage.prompts if p.steps], settings.data.split_seed)
    if not held:
        raise ValueError("data: pairs with reasons of two queries at least; a step judge is measured on other queries")
    folder = step_judge.train(told, learned, out, progress)
    rollout, _ = sample_rollouts(told.model, held, told.samples, told.fit.seed, "held out")
    scores = step_judge.evaluate(step_judge.open_step_judge(folder), held, rollout)
    rows = table(scores)
    keep_rows(out, rows)
    return Outcome(folder, rows, (*stage.data.notes, *unmeasured(scores, len(rollout.group))))


def unmeasured(scores: StepScores, rollouts: int) -> list[str]:
    """Why there is no number: steps that cannot be read, or a step judge that does not answer."""
    if scores.rollouts:
        return []
    if not scores.readable:
        return [f"nothing measured: the steps of none of {rollouts:,} rollouts on held-out queries could be read"]
    return [f"nothing measured: the step judge gave no verdict on {scores.readable:,} rollouts; train it longer (fit)"]


def split(prompts: Sequence[JudgePrompt], seed: int) -> tuple[list[JudgePrompt], list[JudgePrompt]]:
    """Prompts to learn of and held-out ones, apart by query; at least one query is held out where there are two."""
    queries = sorted({prompt.prefix for prompt in prompts})
    count = max(int(HELD_OUT * len(queries)), min(1, len(queries) - 1)) if queries else 0
    out = set(random.Random(seed).sample(queries, count))
    return [p for p in prompts if p.prefix not in out], [p for p in prompts if p.prefix in out]


def table(scores: StepScores) -> dict[str, dict[str, float]]:
    """A row per step: precision and recall of calling it wrong; and one for the first wrong step of a rollout."""
    rows = {
        step: {"precision": precision, "recall": scores.recall[step]} for step, precision in scores.precision.items()
    }
    return {**rows, "first error": {"found": scores.first_error, "rollouts": float(scores.rollouts)}}
