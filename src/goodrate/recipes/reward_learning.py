"""What the recipes of reward models share: the clips, the source of updates, and the table against the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.content.labelled_clips import DIMENSIONS, LabelledClips, read_labelled_clips, shop_clips
from goodrate.content.reward_model import RewardModel, RewardNetwork, defect_scores, patch_scores
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, seed_of
from goodrate.recipes.clip_data import ShopClips, shop_items
from goodrate.recipes.registry import Rows

BROKEN = 2.5  # a label below the middle of the scale
ALIGNMENT = DIMENSIONS.index("caption_alignment")


class ClipSettings(BaseModel):
    """Which labelled clips to learn from: a file, or clips of the embedded shop with injected defects."""

    model_config = ConfigDict(extra="forbid")
    file: str | None = Field(default=None, description="npz of labelled clips; null = of the embedded shop, as below")
    count: int = Field(default=2000, gt=0, description="how many to draw")
    shop: ShopClips = Field(default_factory=ShopClips)
    frames: int = Field(default=8, gt=0)
    size: int = Field(default=32, gt=0, description="pixels of a side")
    grid: int = Field(default=2, gt=0, description="tubes along a side")
    dev_share: float = Field(default=0.2, gt=0, lt=1, description="of the items, for the table at the end")


class RewardSettings(BaseModel):
    """How to train a reward model, of whichever kind."""

    model_config = ConfigDict(extra="forbid")
    clips: ClipSettings = Field(default_factory=ClipSettings)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=16, gt=0, description="clips in one update")
    epochs: int = Field(default=10, gt=0, description="passes over the clips; fit can end it sooner")
    untold: float = Field(default=0.1, ge=0, lt=1, description="share of captions that are left out in training")


def labelled_clips(settings: ClipSettings) -> tuple[LabelledClips, LabelledClips]:
    """(to learn from, dev); no item is in both."""
    if settings.file is not None:
        return read_labelled_clips(settings.file).split(settings.dev_share)
    world = settings.shop.world()
    drawn = shop_clips(world, shop_items(settings.shop, world), settings.count, settings.shop.seed,
                       frames=settings.frames, size=settings.size, grid=settings.grid,
                       spread=settings.shop.spread)  # fmt: skip
    return drawn.split(settings.dev_share)


class RewardLearner(nn.Module):
    """The scores that the terms read: video (N, D), and patches (N, P, D) where `grid` is given."""

    def __init__(self, network: RewardNetwork, grid: int | None) -> None:
        super().__init__()
        self.network, self._grid = network, grid

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        """batch: clips uint8 (N, T, H, W, 3), caption_ids (N, L)."""
        clips, ids = batch["clips"], batch["caption_ids"]
        scores = {"video": self.network(clips, ids)}
        if self._grid is None:
            return scores
        return {**scores, "patches": patch_scores(self.network, clips, ids, self._grid)}


def reward_terms(weights: dict[str, float]) -> list[Term]:
    """Squared errors of the scores named video and patches, with their weights."""

    def error(name: str) -> Any:
        def squared(outputs: Outputs, batch: MicroBatch) -> Tensor:
            return (outputs[name] - batch[name]) ** 2

        return squared

    return [Term(name, error(name), f"{name}_counted", weight=weight) for name, weight in weights.items()]


class RewardSource:
    """Updates over labelled clips, epoch by epoch; a caption is left out now and then, and then nothing is aligned."""

    def __init__(
        self, clips: LabelledClips, model: RewardModel, terms: list[Term], settings: RewardSettings, seed: int
    ):
        self._clips, self._terms, self._seed, self._untold = clips, terms, seed, settings.untold
        self._ids = model.caption_ids(clips.captions)
        self._order = EpochOrder([1] * len(clips), settings.batch_size, seed, settings.epochs)
        self.batches_per_epoch = self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update with this number; None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        rng = np.random.default_rng(seed_of(self._seed, "untold", step))
        told = torch.from_numpy(rng.random(len(rows)) >= self._untold)
        video, patches = (torch.from_numpy(labels[rows]) for labels in (self._clips.video, self._clips.patches))
        counted = torch.ones_like(video, dtype=torch.bool)
        counted[:, ALIGNMENT] = told
        batch = {
            "clips": torch.from_numpy(self._clips.clips[rows]), "caption_ids": self._ids[rows] * told[:, None],
            "video": video, "patches": patches, "video_counted": counted,
            "patches_counted": counted[:, None].expand_as(patches),
        }  # fmt: skip
        return Update([batch], self._terms)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load: what an update holds is a function of its number."""


def spearman(scores: np.ndarray, labels: np.ndarray) -> float:
    """Rank correlation of two (N,) arrays; NaN where either is constant."""
    from scipy.stats import spearmanr

    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return float("nan")
    return float(spearmanr(scores.ravel(), labels.ravel()).statistic)


def against_labels(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Spearman of each dimension, and of the dimensions' mean; scores and labels (..., D)."""
    found = {name: spearman(scores[..., i], labels[..., i]) for i, name in enumerate(DIMENSIONS)}
    return {**found, "mean": spearman(scores.mean(-1), labels.mean(-1))}


def patch_rows(scores: np.ndarray, dev: LabelledClips, video: np.ndarray | None) -> Rows:
    """The table of a patch model's scores (N, P, D).

    `patches`: Spearman with the labels, and the area under the ROC curve of finding the broken tubes. `as video`: the
    mean of its tubes against the labels of whole clips. Where scores (N, D) of a video model are given, `consistency`:
    Spearman of the two models' means, and the Kolmogorov-Smirnov distance of their distributions.
    """
    from scipy.stats import ks_2samp

    from goodrate.evaluation.classification import area_under_curve

    broken = defect_scores(dev.patches) < BROKEN
    rows = {
        "patches": {**against_labels(scores, dev.patches),
                    "auc_broken": float(area_under_curve(broken.ravel(), -defect_scores(scores).ravel()))},
        "as video": against_labels(scores.mean(axis=1), dev.video),
    }  # fmt: skip
    if video is not None:
        mine, theirs = scores.mean(axis=(1, 2)), video.mean(axis=1)
        rows["consistency"] = {"mean": spearman(mine, theirs), "ks": float(ks_2samp(mine, theirs).statistic)}
    return rows


def require_shape(model: RewardModel, clips: LabelledClips, where: str) -> None:
    """ValueError when the clips are not of the model's frames and size."""
    frames, size = clips.clips.shape[1:3]
    if (frames, size) != (model.card.frames, model.card.size):
        read = f"{model.card.frames} frames of {model.card.size} x {model.card.size}"
        raise ValueError(f"{where} reads {read}; the clips have {frames} of {size} x {size}")
