"""`goodrate train judge_context`: when to trust one retrieved text (DyKnow-RAG), and the dev table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goodrate.cli.judge_examples import read_dual
from goodrate.cli.judge_stage import outcome, prepared
from goodrate.cli.train import Outcome, with_data
from goodrate.cli.training_data import DataSettings
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes import judge_context

Settings: Any = with_data(judge_context.Settings, DataSettings)


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train the judge of the settings on prompts with and without their text; measure it beside the one it was."""
    recipe = judge_context.Settings.model_validate(settings.model_dump(exclude={"data"}))

    def read(*given: Any) -> list[JudgePrompt]:
        prompts = read_dual(*given)
        if recipe.gate == "oracle" and not any(prompt.context_kind for prompt in prompts):
            raise ValueError('gate "oracle" needs to know what texts are worth: data.contexts has no column kind')
        return prompts

    stage = prepared(recipe.judge, settings.data, out, contexts=recipe.contexts, read=read)
    judge_context.train(recipe, stage.prompts, out, progress)
    return outcome(stage, settings.data, out, {"before": Path(recipe.judge)})
