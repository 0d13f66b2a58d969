"""A reward model of tubes, learned on from one of whole clips, whose task it goes on with beside (after HALO)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from pydantic import Field

from goodrate.content.labelled_clips import LabelledClips
from goodrate.content.reward_model import RewardModel, new_reward_model
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.source import seed_of
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.recipes.reward_learning import (
    RewardLearner,
    RewardSettings,
    RewardSource,
    labelled_clips,
    patch_rows,
    require_shape,
    reward_terms,
)
from goodrate.run_folder import RunFolder


class Settings(RewardSettings):
    """What to start from, what to learn from, and how it is trained."""

    reward: str | None = Field(
        default=None, description="folder of the video reward model to learn on from; null = from scratch, a control"
    )
    compare: str | None = Field(
        default=None, description="video reward model whose scores the table compares with; null = `reward`"
    )
    replay: float = Field(default=0.5, ge=0, description="weight of the loss on whole clips beside that on tubes")
    width: int = Field(default=16, gt=0, description="channels of the first layers, from scratch")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(precision="fp32"))


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train on the tubes of labelled clips, write out/model and measure it on items kept aside."""
    folder = RunFolder(out)
    folder.require_same(settings)
    start = RewardModel.open(settings.reward) if settings.reward else None
    compared = RewardModel.open(settings.compare) if settings.compare else start
    learned, dev = labelled_clips(settings.clips)
    for name, model in ((settings.reward, start), (settings.compare, compared)):
        if model is not None:
            _check(model, learned, name or "")
    video = None if compared is None else compared.scores(dev.clips, dev.captions)  # before it learns on
    model = _begun(settings, start, learned)
    folder.begin(settings, settings.fit.seed)
    terms = reward_terms({"patches": 1.0} | ({"video": settings.replay} if settings.replay else {}))
    source = RewardSource(learned, model, terms, settings, settings.fit.seed)
    optimizer = torch.optim.AdamW(
        model.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    learner = RewardLearner(model.network, learned.grid)
    fitted = fit(learner, source, [optimizer], budget, folder=folder, on_update=progress)
    model.network.eval().cpu()
    facts = {"clips": len(learned), "updates": fitted.updates, "reward": settings.reward}
    replace(model, card=replace(model.card, trained=facts)).save(folder.path / "model")
    rows = patch_rows(model.scores(dev.clips, dev.captions), dev, video)
    write_rows(folder.path, rows)
    note = f"{len(learned):,} clips of {learned.grid} x {learned.grid} tubes to learn from, {len(dev):,} for the table"
    return TrainingResult(folder.path / "model", rows, (note,))


def _begun(settings: Settings, start: RewardModel | None, clips: LabelledClips) -> RewardModel:
    """A patch model with the weights of the start, or new ones."""
    frames, size = clips.clips.shape[1:3]
    model = start or new_reward_model(frames, size, settings.width, seed_of(settings.fit.seed, "network"))
    return replace(model, card=replace(model.card, kind="patch", grid=clips.grid))


def _check(model: RewardModel, clips: LabelledClips, where: str) -> None:
    if model.card.kind != "video":
        raise ValueError(f"{where} is a patch reward model; expected one of whole clips (goodrate train video_reward)")
    require_shape(model, clips, where)


PATCH_REWARD = Recipe(Settings, run, needs_data=False)
