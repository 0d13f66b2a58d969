"""People's labels as a judge folder: known pairs get the label that people gave, others are unknown."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from goodrate.examples.data import TrainingData
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.relevance.human_judge import write_human_judge
from goodrate.run_folder import RunFolder


class Settings(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Write the labels of the training part; no dev pair is among them, so there is nothing to measure."""
    models = data.parts["train"].models
    if models:
        raise ValueError(
            f"a judge of people's labels takes none of a model ({', '.join(models)}): data.labels_by = people"
        )
    require_same_data(out, data).begin(data.choice, data.choice.split_seed)
    RunFolder(out).begin(settings, data.choice.split_seed)
    folder = write_human_judge(out / "judge", data.parts["train"])
    return TrainingResult(folder, {}, (*data.notes, f"{len(data.parts['train']):,} labels of people"))


JUDGE_HUMAN = Recipe(Settings, run)
