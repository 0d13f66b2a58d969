"""One vector for a picture, by which the same thing is found in other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from goodrate.models.precision import evaluating
from goodrate.models.vision.pixels import to_pixels

BATCH = 16
POOLING = "mean"  # part of the fingerprint: another pooling is another space


class PictureVectors:
    """The mean of a VisionEncoder's tokens, at length 1. fingerprint: of the encoder and of how it is pooled."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.dimension, self.fingerprint = int(encoder.dimension), f"{encoder.fingerprint}-{POOLING}"

    def encode(self, pictures: Sequence[bytes | np.ndarray]) -> np.ndarray:
        """Vectors (N, dimension) float32 of files' bytes or of uint8 (H, W, 3). ValueError for what is no picture."""
        rows = [np.empty((0, self.dimension), dtype=np.float32)]
        device = next(self._encoder.parameters()).device
        for start in range(0, len(pictures), BATCH):
            pixels = np.stack([to_pixels(picture, self._encoder.size) for picture in pictures[start : start + BATCH]])
            with evaluating(self._encoder):
                tokens = self._encoder.tokens(torch.from_numpy(pixels).to(device))
            pooled = tokens.float().mean(dim=1)
            rows.append(torch.nn.functional.normalize(pooled, dim=1).cpu().numpy())
        return np.concatenate(rows)
