"""Pictures as rows of numbers for a linear probe: of a frozen network, or plain statistics of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from goodrate.understanding.attribute_guess import Picture

PIXELS = "pixels"  # in place of a network's folder
_SIDE, _CELLS, _LEVELS, _DIRECTIONS = 64, 8, 4, 8
BATCH = 32


class PictureFeatures(Protocol):
    """name: how it is opened again (open_features). fingerprint: a hash of all that decides a row."""

    name: str
    fingerprint: str

    def rows(self, pictures: Sequence[Picture]) -> np.ndarray:
        """(N, F) float32; zeros for an item without a picture. Raises ValueError for one that cannot be read."""


def open_features(name: str) -> PictureFeatures:
    """PIXELS, or the folder (or hub id) of a network of pictures (models.vision)."""
    if name == PIXELS:
        return PixelStatistics()
    from goodrate.models.vision.encoder import open_vision

    return NetworkFeatures(name, open_vision(name))


class PixelStatistics:
    """Without any network: mean colours on a grid, a histogram of joint colours, and directions of edges on a grid."""

    name, fingerprint = PIXELS, "pixels-1"

    def rows(self, pictures: Sequence[Picture]) -> np.ndarray:
        """See PictureFeatures. F: 8 * 8 * 3 mean colours, 64 joint colours, 4 * 4 * 8 edges."""
        length = 3 * _CELLS**2 + _LEVELS**3 + _DIRECTIONS * (_CELLS // 2) ** 2
        found = np.zeros((len(pictures), length), dtype=np.float32)
        for start in range(0, len(pictures), BATCH):
            seen = [n for n in range(start, min(start + BATCH, len(pictures))) if pictures[n] is not None]
            if seen:
                found[seen] = _statistics(_pixels([pictures[n] for n in seen], _SIDE))
        return found


class NetworkFeatures:
    """Mean and largest of the tokens of a frozen network (models.vision.encoder.VisionEncoder)."""

    def __init__(self, name: str, encoder: Any) -> None:
        self.name, self._encoder = name, encoder
        self.fingerprint = str(encoder.fingerprint)

    def rows(self, pictures: Sequence[Picture]) -> np.ndarray:
        """See PictureFeatures. F: twice the floats of a token."""
        import torch

        encoder = self._encoder
        found = np.zeros((len(pictures), 2 * encoder.dimension), dtype=np.float32)
        for start in range(0, len(pictures), BATCH):
            seen = [n for n in range(start, min(start + BATCH, len(pictures))) if pictures[n] is not None]
            if not seen:
                continue
            with torch.inference_mode():
                pixels = torch.from_numpy(_pixels([pictures[n] for n in seen], encoder.size))
                tokens = encoder.tokens(pixels).float()
            found[seen] = torch.cat([tokens.mean(1), tokens.amax(1)], dim=-1).cpu().numpy()
        return found


def _pixels(pictures: Sequence[Picture], size: int) -> np.ndarray:
    """(N, size, size, 3) uint8."""
    from goodrate.models.vision.pixels import to_pixels

    return np.stack([to_pixels(picture, size) for picture in pictures if picture is not None])


def _statistics(pixels: np.ndarray) -> np.ndarray:
    """(N, F) float32 of pixels (N, S, S, 3) uint8."""
    count, side = len(pixels), pixels.shape[1]
    scaled = pixels.astype(np.float32) / 255
    cells = scaled.reshape(count, _CELLS, side // _CELLS, _CELLS, side // _CELLS, 3).mean(axis=(2, 4))
    level = np.minimum((scaled * _LEVELS).astype(np.int64), _LEVELS - 1)
    joint = (level[..., 0] * _LEVELS + level[..., 1]) * _LEVELS + level[..., 2]
    colours = _histograms(joint.reshape(count, -1), np.ones((count, side * side), dtype=np.float32), _LEVELS**3)
    return np.concatenate([cells.reshape(count, -1), np.sqrt(colours), _edges(scaled.mean(axis=3))], axis=1)


def _edges(grey: np.ndarray) -> np.ndarray:
    """(N, 4 * 4 * 8): how strong edges of each direction are in each cell of grey pictures (N, S, S)."""
    count, side = grey.shape[:2]
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, right)
    direction = (np.mod(np.arctan2(down, right), np.pi) / np.pi * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    cells = _CELLS // 2
    cell = np.arange(side) * cells // side
    place = (cell[:, None] * cells + cell[None, :]) * _DIRECTIONS
    found = _histograms((place[None] + direction).reshape(count, -1), strength.reshape(count, -1),
                        cells * cells * _DIRECTIONS)  # fmt: skip
    return np.sqrt(found)


def _histograms(bins: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """(N, size) float32: the weights of each bin, over the count of entries; bins and weights (N, P)."""
    count, entries = bins.shape
    flat = bins + np.arange(count)[:, None] * size
    total = np.bincount(flat.reshape(-1), weights=weights.reshape(-1), minlength=count * size)
    return (total.reshape(count, size) / entries).astype(np.float32)
