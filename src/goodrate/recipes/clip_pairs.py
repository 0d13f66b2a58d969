"""Pairs of a generator's own clips: samples of each caption, scored as wholes and tube by tube."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.content.diffusion import noise_of
from goodrate.content.labelled_clips import DIMENSIONS, Dimension
from goodrate.content.protocol import VideoGenerator
from goodrate.content.reward_model import RewardModel
from goodrate.learning.records import Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of
from goodrate.learning.video_terms import combined_reward, patch_preferences
from goodrate.run_folder import write_atomic

CAPTIONS = 8  # sampled together: memory and speed only


class PairSettings(BaseModel):
    """How pairs are made: of one caption's samples the one with the highest and the one with the lowest reward."""

    model_config = ConfigDict(extra="forbid")
    samples: int = Field(default=4, ge=2, description="clips of each caption")
    steps: int | None = Field(default=None, gt=0, description="of the sampler; null = the generator's own")
    guidance: float | None = Field(default=None, ge=0, description="of the sampler; null = the generator's own")
    dimensions: list[Dimension] | None = Field(
        default=None, min_length=1, description="whose mean is the reward; null = all; a reward with dynamic_degree in "
        "it is raised by motion alone",
    )  # fmt: skip
    margin: float = Field(default=0.1, ge=0, description="between the rewards of a pair, at least; no pair below it")
    combined: float = Field(
        default=0.0, ge=0, le=1, description="share of the tubes' mean in the reward that chooses; 0 = video alone"
    )
    patch_margin: float = Field(default=0.2, ge=0, description="a tube counts where the rewards are further apart")
    soft: float | None = Field(
        default=None, gt=0, description="gap at which a tube has its full weight; null = all that count have it"
    )
    random_patches: bool = Field(default=False, description="control: which clip has the better tube is drawn by lot")


def sampled(
    generator: VideoGenerator, captions: Sequence[str], settings: PairSettings, seed: int
) -> np.ndarray:  # fmt: skip
    """Clips uint8 (N, samples, T, H, W, 3), each of the noise that its caption's place, number and the seed give."""
    found = []
    for start in range(0, len(captions), CAPTIONS):
        rows = range(start, min(start + CAPTIONS, len(captions)))
        told = [captions[row] for row in rows for _ in range(settings.samples)]
        seeds = [seed_of(seed, "sample", row, number) for row in rows for number in range(settings.samples)]
        clips = generator.sample(told, seeds, steps=settings.steps, guidance=settings.guidance)
        found.append(clips.reshape(len(rows), settings.samples, *clips.shape[1:]))
    return np.concatenate(found)


@dataclass(frozen=True)
class ClipPairs:
    """winner, loser uint8 (N, T, H, W, 3), captions (N texts); sign, weight (N, P) of their tubes."""

    winner: np.ndarray
    loser: np.ndarray
    captions: tuple[str, ...]
    sign: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.winner)

    def write(self, path: str | Path) -> None:
        """As an npz file, whole or not at all."""
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{
            field.name: np.asarray(getattr(self, field.name)) for field in fields(self)
        })  # fmt: skip
        write_atomic(path, buffer.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> ClipPairs:
        """What `write` wrote. Raises ValueError naming a file that is cut off or something else."""
        try:
            with np.load(path, allow_pickle=False) as held:
                values = {field.name: held[field.name] for field in fields(cls)}
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise ValueError(f"{path}: no file of pairs ({error}); remove it to make them anew") from error
        return cls(**values | {"captions": tuple(values["captions"].tolist())})


def paired_clips(
    clips: np.ndarray,
    captions: Sequence[str],
    video: RewardModel,
    patch: RewardModel,
    settings: PairSettings,
    seed: int,
) -> tuple[ClipPairs, dict[str, float]]:
    """The pairs of samples (N, S, T, H, W, 3), and what became of the captions.

    A reward is the mean of the dimensions. A caption whose best and worst clip are within `margin` has no pair.
    """
    count, samples = clips.shape[:2]
    flat, told = clips.reshape(-1, *clips.shape[2:]), [text for text in captions for _ in range(samples)]
    chosen = [DIMENSIONS.index(name) for name in settings.dimensions or DIMENSIONS]
    whole = torch.from_numpy(video.scores(flat, told)[:, chosen].mean(axis=1))
    tubes = torch.from_numpy(patch.scores(flat, told)[:, :, chosen].mean(axis=2))
    reward = combined_reward(whole, tubes, settings.combined).reshape(count, samples)
    best, worst = reward.argmax(dim=1), reward.argmin(dim=1)
    each = torch.arange(count)
    kept = torch.nonzero(reward[each, best] - reward[each, worst] >= max(settings.margin, 1e-9)).ravel()
    by_clip = tubes.reshape(count, samples, -1)
    sign, weight = patch_preferences(
        by_clip[kept, best[kept]], by_clip[kept, worst[kept]], settings.patch_margin, settings.soft
    )
    facts = {"captions": count, "pairs": len(kept), "active_patches": float((weight > 0).float().mean()) if len(kept)
             else 0.0, "patches_for_the_loser": float(((sign < 0) & (weight > 0)).float().mean()) if len(kept)
             else 0.0}  # fmt: skip
    if settings.random_patches:
        drawn = np.random.default_rng(seed_of(seed, "random patches")).random(sign.shape) < 0.5
        sign = torch.from_numpy(np.where(drawn, 1.0, -1.0)).to(sign)
    rows, high, low = (index.numpy() for index in (kept, best[kept], worst[kept]))
    told = [captions[row] for row in rows.tolist()]
    return ClipPairs(clips[rows, high], clips[rows, low], tuple(told), sign.numpy(), weight.numpy()), facts


class PairSource:
    """Updates over pairs, epoch by epoch; time and noise of a pair depend on the update and the pair alone."""

    def __init__(
        self, generator: VideoGenerator, pairs: ClipPairs, terms: tuple[list[Term], list[Term]], *, batch_size: int,
        micro_pairs: int, seed: int, epochs: int,
    ) -> None:  # fmt: skip
        """Raises ValueError for no pairs."""
        self._generator, self._pairs, (self._terms, self._diagnostics) = generator, pairs, terms
        self._seed, self._micro = seed, micro_pairs
        self._order = EpochOrder([1] * len(pairs), batch_size, seed, epochs)
        self.batches_per_epoch = self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update with this number; None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        parts = [rows[i : i + self._micro] for i in range(0, len(rows), self._micro)]
        return Update([self._micro_batch(part, step) for part in parts], self._terms, diagnostics=self._diagnostics)

    def _micro_batch(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        pairs = self._pairs
        winner, loser = (
            self._generator.encode(torch.from_numpy(clips[list(rows)])) for clips in (pairs.winner, pairs.loser)
        )
        draws = [np.random.default_rng(seed_of(self._seed, step, row)).standard_normal() for row in rows]
        return {
            "winner": winner, "loser": loser,
            "noise": noise_of([seed_of(self._seed, step, row, "noise") for row in rows], winner.shape[1:]),
            "time": torch.sigmoid(torch.tensor(draws, dtype=torch.float32)),
            "captions": [pairs.captions[row] for row in rows],
            "sign": torch.from_numpy(pairs.sign[list(rows)]), "weight": torch.from_numpy(pairs.weight[list(rows)]),
            "pair": torch.ones(len(rows), dtype=torch.bool),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What the updates depend on; the position is the update's number."""
        return {"pairs": len(self._pairs), "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuses to go on with other pairs: ValueError naming what differs."""
        refuse_other_data(self.state_dict(), state)
