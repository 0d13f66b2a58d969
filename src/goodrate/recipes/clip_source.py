"""Updates for a video generator: clips with captions at random times and noises, and the error of its predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.content.diffusion import noise_of
from goodrate.content.protocol import VideoGenerator
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of


class DenoisingError(nn.Module):
    """forward: micro-batch -> {"error": (B,)}, the mean square over channels, frames and pixels of each clip's latents.

    The micro-batch holds latents, noise (B, C, T, H, W), time (B,) and conditions.
    """

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        self.network = generator.network  # registers the weights; the generator reads the same module
        self._generator = generator

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        clean, noise, time = batch["latents"], batch["noise"], batch["time"]
        said = self._generator.predict(self._generator.noised(clean, noise, time), time, batch["conditions"])
        return {"error": (said.float() - self._generator.target(clean, noise, time)).square().flatten(1).mean(1)}


def _error(outputs: Outputs, batch: MicroBatch) -> Tensor:
    return outputs["error"]


DENOISING = Term("denoising", _error, mask="mask")


class ClipSource:
    """Endless epochs over N clips; times, noises and which captions are left out depend on update and clip alone."""

    def __init__(
        self,
        generator: VideoGenerator,
        clips: np.ndarray,
        captions: Sequence[Sequence[str]],
        *,
        batch_size: int,
        micro_clips: int,
        unspoken: float,
        seed: int,
        time_mean: float = 0.8,
        time_spread: float = 1.0,
    ) -> None:
        """clips uint8 (N, T, H, W, 3). captions: one or more of each clip, of which every update draws one.

        unspoken: share of captions that are left out, for classifier-free guidance. time_mean, time_spread: times are
        the logistic function of a normal number of this mean and deviation (arXiv 2403.03206): mostly noisy ones.
        Raises ValueError for no clips.
        """
        self._generator, self._clips, self._captions = generator, clips, captions
        self._micro, self._unspoken, self._seed = micro_clips, unspoken, seed
        self._mean, self._spread = time_mean, time_spread
        self._order = EpochOrder([1] * len(clips), batch_size, seed)
        digest = hashlib.sha256(clips.tobytes() + repr([list(c) for c in captions]).encode()).hexdigest()
        self._identity = {"clips": digest, "seed": seed, "batch_size": batch_size}

    def next(self, step: int) -> Update:
        """The update with this number."""
        rows = self._order.rows(step)
        assert rows is not None
        parts = [rows[i : i + self._micro] for i in range(0, len(rows), self._micro)]
        return Update([self._micro_batch(part, step) for part in parts], [DENOISING])

    def _micro_batch(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        draws = [np.random.default_rng(seed_of(self._seed, step, row)) for row in rows]
        spoken = [self._caption(row, rng) for row, rng in zip(rows, draws, strict=True)]
        times = [1 / (1 + np.exp(-self._mean - self._spread * rng.standard_normal())) for rng in draws]
        latents = self._generator.encode(torch.from_numpy(self._clips[list(rows)]))
        return {
            "latents": latents,
            "noise": noise_of([seed_of(self._seed, step, row, "noise") for row in rows], latents.shape[1:]),
            "time": torch.tensor(times, dtype=torch.float32),
            "conditions": self._generator.conditions(spoken),
            "mask": torch.ones(len(rows), dtype=torch.bool),
        }

    def _caption(self, row: int, rng: np.random.Generator) -> str:
        told = self._captions[row]
        chosen = told[int(rng.integers(len(told)))]
        return "" if rng.random() < self._unspoken else chosen

    def state_dict(self) -> dict[str, Any]:
        """What the updates depend on; the position is the update's number."""
        return dict(self._identity)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuses to go on with other data: ValueError naming what differs."""
        refuse_other_data(self._identity, state)
