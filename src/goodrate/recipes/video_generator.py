"""A video generator from scratch: flow matching or noise prediction on clips with captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.content.generator import VideoShape
from goodrate.content.video_generator import ShopGenerator, new_generator
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.recipes.clip_data import ClipData, ShopClips, catalog_clips, shop_clips
from goodrate.recipes.clip_source import ClipSource, DenoisingError
from goodrate.recipes.registry import Progress, Recipe, Rows, TrainingResult, write_rows
from goodrate.run_folder import RunFolder
from goodrate.shop.clips import CLIP_ATTRIBUTES

SAMPLED = 16  # clips of the table at the end


class Settings(BaseModel):
    """What to learn from and how."""

    model_config = ConfigDict(extra="forbid")
    catalog: str | None = Field(default=None, description="a catalogue with a column clip; null = the shop's items")
    attributes: list[str] = Field(default=list(CLIP_ATTRIBUTES), description="told in captions, in this order")
    shop: ShopClips = Field(default_factory=ShopClips)
    network: VideoShape = Field(default_factory=lambda: VideoShape(size=16, width=96, caption_length=16))
    optimizer: OptimizerName = Field(default="muon")
    learning_rate: float = Field(default=2e-3, gt=0, description="AdamW's peak rate; Muon's follows from it")
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=32, gt=0, description="clips in one update")
    micro_clips: int = Field(default=32, gt=0, description="clips of a micro-batch; memory and speed only")
    unspoken: float = Field(default=0.1, ge=0, lt=1, description="share of captions left out, for guidance")
    dev_share: float = Field(default=0.05, gt=0, lt=1, description="of the clips, for the table at the end")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(updates=1500, precision="fp32", warmup=0.02))


def read_clips(settings: Settings) -> ClipData:
    """The clips that the settings name, in the size and length of the network."""
    shape = settings.network
    if settings.catalog is None:
        return shop_clips(settings.shop, shape.frames, shape.size)
    return catalog_clips(settings.catalog, settings.attributes, shape.frames, shape.size)


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train, write out/generator, and compare its clips of held-out captions with the true ones."""
    folder = RunFolder(out)
    folder.require_same(settings)
    learned, held = read_clips(settings).split(settings.dev_share, settings.fit.seed)
    facts = {"attributes": settings.attributes, "trained": {"clips": len(learned), "seed": settings.fit.seed}}
    generator = new_generator(settings.network, settings.fit.seed, facts)
    folder.begin(settings, settings.fit.seed)
    source = ClipSource(
        generator, learned.frames, learned.captions, batch_size=settings.batch_size, micro_clips=settings.micro_clips,
        unspoken=settings.unspoken, seed=settings.fit.seed,
    )  # fmt: skip
    optimizers = make_optimizers(generator.network, settings.optimizer, settings.learning_rate, settings.weight_decay)
    fit(DenoisingError(generator), source, optimizers, settings.fit, folder=folder, on_update=progress)
    generator.save(out / "generator")
    rows = dev_rows(generator, learned, held)
    write_rows(out, rows)
    return TrainingResult(out / "generator", rows, (f"{len(learned):,} clips learned from, {len(held):,} kept aside",))


def dev_rows(generator: ShopGenerator, learned: ClipData, held: ClipData) -> Rows:
    """Mean absolute difference from the true clip, and motion, the mean absolute change between frames; grey levels.

    Beside the generator: the mean of all learned clips, the clip of another item, and the true clips themselves.
    """
    true = held.frames[:SAMPLED].astype(np.float32)
    captions = [told[0] for told in held.captions[:SAMPLED]]
    systems = {
        "generator": generator.sample(captions, range(len(true))),
        "mean clip": np.broadcast_to(learned.frames.mean(0), true.shape),
        "another item": learned.frames[np.arange(len(true)) % len(learned)],
        "true clip": true,
    }
    return {name: _levels(clips.astype(np.float32), true) for name, clips in systems.items()}


def _levels(clips: np.ndarray, true: np.ndarray) -> dict[str, float]:
    motion = float(np.abs(np.diff(clips, axis=1)).mean()) if clips.shape[1] > 1 else 0.0
    return {"difference": float(np.abs(clips - true).mean()), "motion": motion}


VIDEO_GENERATOR = Recipe(Settings, run, needs_data=False)
