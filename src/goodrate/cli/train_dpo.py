"""`goodrate train judge_dpo`: pairs of the judge's own samples, DPO, and the dev table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goodrate.cli.judge_stage import outcome, prepared
from goodrate.cli.train import Outcome, with_data
from goodrate.cli.training_data import DataSettings
from goodrate.recipes import judge_dpo

Settings: Any = with_data(judge_dpo.Settings, DataSettings)


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train the judge of the settings by DPO; measure it beside the one it was."""
    recipe = judge_dpo.Settings.model_validate(settings.model_dump(exclude={"data"}))
    stage = prepared(recipe.judge, settings.data, out)
    judge_dpo.train(recipe, stage.prompts, out, progress)
    return outcome(stage, settings.data, out, {"before": Path(recipe.judge)})
