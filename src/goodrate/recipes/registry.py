"""Every recipe by name: what settings it takes, and how it is run on training data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from goodrate.run_folder import RunFolder
from goodrate.settings import nearest
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.examples.data import TrainingData

Progress = Callable[[dict[str, Any]], None]
Rows = Mapping[str, Mapping[str, float]]

# recipe -> "module:name" of its Recipe. Imported only when it is asked for: recipes import torch.
RECIPES = {
    "base": "goodrate.recipes.base_run:BASE",
    "judge_encoder": "goodrate.recipes.judge_encoder:JUDGE_ENCODER",
    "judge_zero_shot": "goodrate.recipes.judge_zero_shot:JUDGE_ZERO_SHOT",
    "judge_cross_encoder": "goodrate.recipes.judge_cross_encoder:JUDGE_CROSS_ENCODER",
    "judge_ensemble": "goodrate.recipes.judge_ensemble:JUDGE_ENSEMBLE",
    "judge_unlabelled": "goodrate.recipes.judge_unlabelled:JUDGE_UNLABELLED",
    "judge_human": "goodrate.recipes.judge_human:JUDGE_HUMAN",
    "judge_entity": "goodrate.recipes.judge_entity:JUDGE_ENTITY",
    "judge_seeing": "goodrate.recipes.judge_seeing:JUDGE_SEEING",
    "judge_sft": "goodrate.recipes.judge_runs:JUDGE_SFT",
    "judge_dpo": "goodrate.recipes.judge_runs:JUDGE_DPO",
    "judge_grpo": "goodrate.recipes.judge_runs:JUDGE_GRPO",
    "judge_guided": "goodrate.recipes.judge_runs:JUDGE_GUIDED",
    "judge_stepwise": "goodrate.recipes.judge_runs:JUDGE_STEPWISE",
    "judge_curriculum": "goodrate.recipes.judge_runs:JUDGE_CURRICULUM",
    "judge_context": "goodrate.recipes.judge_runs:JUDGE_CONTEXT",
    "step_judge": "goodrate.recipes.step_judge_run:STEP_JUDGE",
    "taosr1": "goodrate.recipes.taosr1:TAOSR1",
    "retriever_contrastive": "goodrate.recipes.retriever_runs:RETRIEVER_CONTRASTIVE",
    "retriever_grpo": "goodrate.recipes.retriever_runs:RETRIEVER_GRPO",
    "video_reward": "goodrate.recipes.video_reward:VIDEO_REWARD",
    "patch_reward": "goodrate.recipes.patch_reward:PATCH_REWARD",
    "video_dpo": "goodrate.recipes.video_dpo:VIDEO_DPO",
    "click_ranker": "goodrate.recipes.click_ranker:CLICK_RANKER",
    "video_generator": "goodrate.recipes.video_generator:VIDEO_GENERATOR",
    "product_vision_language": "goodrate.recipes.product_vision_language:PRODUCT_VISION_LANGUAGE",
}


@dataclass(frozen=True)
class TrainingResult:
    """What a run left: the trained folder, dev numbers by system (the trivial predictor's among them), and notes.

    warnings: what has to be known before the model is used.
    """

    folder: Path
    rows: Rows
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """settings: without data. run: (settings, data, run folder, progress) -> result. needs_data: base has none."""

    settings: type[BaseModel]
    run: Callable[[Any, Any, Path, Progress], TrainingResult]
    needs_data: bool = True


def get_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError with the nearest and all known ones."""
    if name not in RECIPES:
        known = list(RECIPES)
        raise ValueError(f"unknown recipe {name!r}; did you mean {nearest(name, known)!r}? known: {', '.join(known)}")
    module, _, attribute = RECIPES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def write_rows(out: Path, rows: Rows) -> None:
    """The table as dev.json of the run folder `out`; null where there is no number."""
    RunFolder(out).write("dev.json", dumps(rows, indent=2) + "\n")


def require_same_data(out: Path, data: TrainingData) -> RunFolder:
    """The folder that remembers the data of a run. ValueError when `out` was begun on other data."""
    folder = RunFolder(out / "data")
    folder.require_same(data.choice)
    return folder
