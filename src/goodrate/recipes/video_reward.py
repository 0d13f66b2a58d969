"""A reward model of whole clips: visual quality, temporal consistency, dynamic degree, caption alignment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from pydantic import Field

from goodrate.content.reward_model import new_reward_model
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.source import seed_of
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.recipes.reward_learning import (
    RewardLearner,
    RewardSettings,
    RewardSource,
    against_labels,
    labelled_clips,
    reward_terms,
)
from goodrate.run_folder import RunFolder


class Settings(RewardSettings):
    """What to learn from, how large, and how it is trained."""

    width: int = Field(default=16, gt=0, description="channels of the first layers")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(precision="fp32"))


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train on labelled clips, write out/model and measure it on items kept aside."""
    folder = RunFolder(out)
    folder.require_same(settings)
    learned, dev = labelled_clips(settings.clips)
    frames, size = learned.clips.shape[1:3]
    model = new_reward_model(frames, size, settings.width, seed_of(settings.fit.seed, "network"))
    folder.begin(settings, settings.fit.seed)
    source = RewardSource(learned, model, reward_terms({"video": 1.0}), settings, settings.fit.seed)
    optimizer = torch.optim.AdamW(
        model.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fitted = fit(RewardLearner(model.network, None), source, [optimizer], budget, folder=folder, on_update=progress)
    model.network.eval().cpu()
    facts = {"clips": len(learned), "updates": fitted.updates}
    replace(model, card=replace(model.card, trained=facts)).save(folder.path / "model")
    rows = {"video": against_labels(model.scores(dev.clips, dev.captions), dev.video)}
    write_rows(folder.path, rows)
    return TrainingResult(folder.path / "model", rows, (f"{len(learned):,} clips to learn from, {len(dev):,} of other "
                                                        "items for the table: Spearman with the labels",))  # fmt: skip


VIDEO_REWARD = Recipe(Settings, run, needs_data=False)
