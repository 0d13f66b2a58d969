"""Gran-DPO of a video generator on pairs of its own clips, by rewards of wholes and of tubes (after HALO, 2502.06812).

Prompts -> N samples -> video reward -> pair -> patch reward -> loss with one time and one noise a pair. The pairs are
made once, from the generator that the run starts from.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.content.labelled_clips import motion
from goodrate.content.lora import lora_off
from goodrate.content.protocol import VideoGenerator
from goodrate.content.reward_model import DEFECTIVE, RewardModel, defect_scores
from goodrate.content.video_generator import open_generator
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.reference import freeze_reference
from goodrate.learning.video_terms import PairedErrors, VideoTermSettings, video_terms
from goodrate.models.adapter import LoraSettings
from goodrate.recipes.clip_data import ShopClips, shop_items
from goodrate.recipes.clip_pairs import ClipPairs, PairSettings, PairSource, paired_clips, sampled
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.run_folder import RunFolder
from goodrate.shop.clips import caption
from goodrate.text_file import read_text

PAIRS, PAIR_FILE = "pairs", "pairs.npz"


class Settings(BaseModel):
    """Which generator and reward models, what it samples, and how it is trained."""

    model_config = ConfigDict(extra="forbid")
    generator: str = Field(description="folder of the generator to start from; it samples, and is the reference")
    video_reward: str = Field(description="folder of `goodrate train video_reward`: chooses the pairs")
    patch_reward: str = Field(description="folder of `goodrate train patch_reward`: says which tubes are better")
    captions: str | None = Field(default=None, description="a text file, a caption a line; null = of the shop's items")
    shop: ShopClips = Field(default_factory=ShopClips)
    prompts: int = Field(default=200, gt=0, description="captions to sample, the first ones")
    held: int = Field(default=16, gt=0, description="captions after those, for the table at the end")
    pairs: PairSettings = Field(default_factory=PairSettings)
    loss: VideoTermSettings = Field(default_factory=VideoTermSettings)
    lora: LoraSettings | None = Field(default=None, description="of a diffusers pipeline: train an adapter; null = all")
    optimizer: OptimizerName = Field(default="adamw")
    learning_rate: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=16, gt=0, description="pairs in one update")
    micro_pairs: int = Field(default=16, gt=0, description="pairs of a micro-batch; memory and speed only")
    epochs: int = Field(default=4, gt=0, description="passes over the pairs; fit can end it sooner")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(precision="fp32"))


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Sample, pair, train, write out/generator; its clips of held-out captions beside those of the start."""
    folder = RunFolder(out)
    folder.require_same(settings)
    told, held = _captions(settings)
    video, patch = _reward_models(settings)
    generator = _opened(settings)
    folder.begin(settings, settings.fit.seed)
    if not folder.stage_done(PAIRS):
        clips = sampled(generator, told, settings.pairs, settings.fit.seed)
        pairs, facts = paired_clips(clips, told, video, patch, settings.pairs, settings.fit.seed)
        pairs.write(folder.path / PAIR_FILE)
        folder.mark_done(PAIRS, facts)
    pairs, facts = ClipPairs.read(folder.path / PAIR_FILE), folder.stage_payload(PAIRS)
    if not len(pairs):
        apart = f"pairs.margin = {settings.pairs.margin} apart"
        raise ValueError(f"none of {facts['captions']} captions has two clips that are {apart}; lower it or raise "
                         "pairs.samples, in a new run folder")  # fmt: skip
    before = sampled_rows(generator, held, settings, video, patch)
    _fit(settings, generator, pairs, patch.card.grid, folder, progress)
    generator.save(folder.path / "generator")
    rows = {"start": before, "trained": sampled_rows(generator, held, settings, video, patch)}
    write_rows(folder.path, rows)
    note = (f"{facts['pairs']:,} pairs from {facts['captions']:,} captions; {facts['active_patches']:.0%} of their "
            f"patches count, {facts['patches_for_the_loser']:.0%} for the loser")  # fmt: skip
    return TrainingResult(folder.path / "generator", rows, (note,))


def _fit(
    settings: Settings, generator: VideoGenerator, pairs: ClipPairs, grid: int, folder: RunFolder, progress: Progress
) -> None:
    """Train the generator in place; a killed run goes on from its folder."""
    source = PairSource(
        generator, pairs, video_terms(settings.loss), batch_size=settings.batch_size, micro_pairs=settings.micro_pairs,
        seed=settings.fit.seed, epochs=settings.epochs,
    )  # fmt: skip
    network = generator.network
    if getattr(generator, "lora", None):
        model = PairedErrors(generator, None, grid, lambda: lora_off(network))
    else:
        model = PairedErrors(generator, frozen(generator), grid)
    optimizers = make_optimizers(network, settings.optimizer, settings.learning_rate)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fit(model, source, optimizers, budget, folder=folder, on_update=progress)
    network.eval()


def frozen(generator: VideoGenerator) -> VideoGenerator:
    """A copy whose network stays as it is, wherever the copy refers to it."""
    network = generator.network
    return copy.deepcopy(generator, {id(network): freeze_reference(network)})


def _opened(settings: Settings) -> VideoGenerator:
    """The generator, with an adapter where one is to be trained. ValueError for an adapter in the house's own."""
    generator = open_generator(settings.generator)
    if settings.lora is None:
        return generator
    from goodrate.content.diffusers_generator import DiffusersGenerator

    if not isinstance(generator, DiffusersGenerator):
        raise ValueError(f"{settings.generator} is no diffusers pipeline: its weights are trained without `lora`")
    return DiffusersGenerator.open(settings.generator, lora=settings.lora, seed=settings.fit.seed)


def _reward_models(settings: Settings) -> tuple[RewardModel, RewardModel]:
    found = []
    for name, kind in (("video_reward", "video"), ("patch_reward", "patch")):
        model = RewardModel.open(getattr(settings, name))
        if model.card.kind != kind:
            raise ValueError(
                f"{name} {model.folder}: a {model.card.kind} reward model; expected one of the recipe {name}"
            )
        found.append(model)
    return found[0], found[1]


def _captions(settings: Settings) -> tuple[list[str], list[str]]:
    """(to sample, held out), distinct and in order. ValueError where there are too few."""
    if settings.captions is not None:
        told = [line.strip() for line in read_text(Path(settings.captions)).splitlines()]
        source = settings.captions
    else:
        world = settings.shop.world()
        told = [caption(world, item) for item in shop_items(settings.shop, world)]
        source = f"shop.items = {settings.shop.items}"
    distinct = [text for text in dict.fromkeys(told) if text]
    wanted = settings.prompts + settings.held
    if len(distinct) < wanted:
        raise ValueError(f"{source}: {len(distinct)} captions; prompts + held = {wanted} are needed")
    return distinct[: settings.prompts], distinct[settings.prompts : wanted]


def sampled_rows(
    generator: VideoGenerator, captions: list[str], settings: Settings, video: RewardModel, patch: RewardModel
) -> dict[str, float]:
    """What the reward models say of one clip of each caption, and their motion; the rewards are those trained on."""
    one = settings.pairs.model_copy(update={"samples": 1})
    clips = sampled(generator, captions, one, settings.fit.seed + 1)[:, 0]
    return clip_measures(clips, captions, video, patch)


def clip_measures(
    clips: np.ndarray, captions: list[str], video: RewardModel, patch: RewardModel
) -> dict[str, Any]:  # fmt: skip
    """Means over clips: video_reward, patch_reward, the share of defective tubes, the worst tube, motion in levels."""
    tubes = patch.scores(clips, captions)
    defects = defect_scores(tubes)
    return {
        "video_reward": float(video.scores(clips, captions).mean()), "patch_reward": float(tubes.mean()),
        "defect_rate": float((defects < DEFECTIVE).mean()), "worst_patch": float(defects.min(axis=1).mean()),
        "motion": float(motion(clips).mean() * 255),
    }  # fmt: skip


VIDEO_DPO = Recipe(Settings, run, needs_data=False)
