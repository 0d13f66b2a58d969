"""The recipe `step_judge` as a run: a model that tells right reasoning steps from wrong ones, on other queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from goodrate.examples.data import TrainingData
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes import step_judge
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.judge_runs import policy_prompts
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.recipes.step_judge import StepScores

HELD_OUT = 0.2  # of the queries


def run(settings: step_judge.Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train on the rollouts of a judge on four fifths of the queries, measure on those of the others."""

    def parts(prompts: Sequence[JudgePrompt]) -> tuple[list[JudgePrompt], list[JudgePrompt]]:
        learned, held_out = split([prompt for prompt in prompts if prompt.steps], data.choice.split_seed)
        if not held_out:
            raise ValueError(
                "data: pairs with reasons of two queries at least; a step judge is measured on other queries"
            )
        return learned, held_out

    learned, held_out = parts(policy_prompts(settings.model, data, out, require=parts))
    folder = step_judge.train(settings, learned, out, progress)
    rollout, _ = sample_rollouts(settings.model, held_out, settings.samples, settings.fit.seed, "held out")
    scores = step_judge.evaluate(step_judge.open_step_judge(folder), held_out, rollout)
    rows = table(scores)
    write_rows(out, rows)
    return TrainingResult(folder, rows, (*data.notes, *unmeasured(scores, len(rollout.group))))


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
    held_out = set(random.Random(seed).sample(queries, count))
    return [p for p in prompts if p.prefix not in held_out], [p for p in prompts if p.prefix in held_out]


def table(scores: StepScores) -> dict[str, dict[str, float]]:
    """A row per step: precision and recall of calling it wrong; and one for the first wrong step of a rollout."""
    rows = {
        step: {"precision": precision, "recall": scores.recall[step]} for step, precision in scores.precision.items()
    }
    return {**rows, "first error": {"found": scores.first_error, "rollouts": float(scores.rollouts)}}


STEP_JUDGE = Recipe(step_judge.Settings, run)
