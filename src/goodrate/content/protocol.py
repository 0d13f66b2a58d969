"""What training and sampling ask of a video generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

CARD = "generator.json"  # of a generator's folder
FORMAT = 1
Conditions = Mapping[str, Any]  # what the network reads of B captions


class VideoGenerator(Protocol):
    """A video diffusion model behind which it does not matter whose it is.

    network: what trains. encode, noised, target and predict are what a loss needs: the error of a clip at a time and a
    noise is (predict(noised(latents, noise, time), time, conditions) - target(latents, noise, time)) ** 2, and
    latents are (B, C, T', H', W') with T', H', W' in proportion to the clip.
    """

    @property
    def network(self) -> nn.Module: ...

    def conditions(self, captions: Sequence[str]) -> Conditions:
        """What the network reads of B captions; "" is no caption. For these captions in this order, in one batch."""
        ...

    def encode(self, clips: Tensor) -> Tensor:
        """The latents (B, C, T', H', W') of clips uint8 (B, T, H, W, 3)."""
        ...

    def noised(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Latents and noise of one shape mixed at the times (B,), 0 (clean) to 1 (noise)."""
        ...

    def target(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the network should predict there."""
        ...

    def predict(self, noisy: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        """What it predicts, with a graph: of the shape of noisy."""
        ...

    def sample(
        self, captions: Sequence[str], seeds: Sequence[int], *, steps: int | None = None, guidance: float | None = None,
        frames: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Clips uint8 (B, T, H, W, 3), one of each caption and seed; None = the model's own choice."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the folder that open_generator reads."""
        ...
