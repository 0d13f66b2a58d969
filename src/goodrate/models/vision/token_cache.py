"""Tokens of pictures on disk, by content hash: a picture goes through a frozen encoder once, in any run.

Beside relevance.feature_cache, which holds short rows and writes its file anew: rows here are a thousand times longer,
so they are appended, and read where they lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodrate.folder_lock import one_writer
from goodrate.models.precision import evaluating
from goodrate.models.vision.pixels import to_pixels
from goodrate.run_folder import write_atomic

BLOCK = 32  # pictures computed between two writings: what an interruption can cost


class TokenCache:
    """Tokens (count, dimension) float16 of one encoder, in rows.f16 and keys.txt of folder/<fingerprint>.

    A row counts when its key is written, which comes last: a cut-off row is written over. One process writes at a time,
    the others wait for it.
    """

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._encoder, self._shape = encoder, (int(encoder.count), int(encoder.dimension))
        self._folder = folder / encoder.fingerprint
        self._rows, self._keys = self._folder / "rows.f16", self._folder / "keys.txt"

    def kept(
        self, pictures: Sequence[bytes | np.ndarray], progress: Callable[[int, int], None] | None = None
    ) -> KeptTokens:
        """Tokens of pictures, in order, computed where they are not there yet. Raises ValueError naming the place of a
        picture that cannot be read. progress: told (done, of how many) that had to be computed."""
        keys = [picture_key(picture) for picture in pictures]
        with one_writer(self._folder, wait_s=3600):
            place = self._known()
            first = {key: n for n, key in reversed(list(enumerate(keys))) if key not in place}
            missing = sorted(first.values())
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                rows = encoded(self._encoder, [pictures[n] for n in block], block)
                self._append([keys[n] for n in block], rows, list(place))
                place |= {keys[n]: len(place) + i for i, n in enumerate(block)}
                if progress:
                    progress(start + len(block), len(missing))
        if not place:
            return KeptTokens(np.empty((0, *self._shape), dtype=np.float16), np.empty(0, dtype=np.int64))
        held = np.memmap(self._rows, dtype=np.float16, mode="r", shape=(len(place), *self._shape))
        return KeptTokens(held, np.asarray([place[key] for key in keys], dtype=np.int64))

    def _known(self) -> dict[str, int]:
        """The row of each key."""
        if not self._keys.is_file():
            return {}
        keys = self._keys.read_text().split("\n")[:-1]  # what follows the last line's end was cut off
        return {key: row for row, key in enumerate(keys)}

    def _append(self, keys: Sequence[str], rows: np.ndarray, known: Sequence[str]) -> None:
        """Behind the rows that are known; what was cut off behind them is written over."""
        with self._rows.open("r+b" if self._rows.is_file() else "wb") as file:
            file.seek(len(known) * int(np.prod(self._shape)) * 2)
            file.write(np.ascontiguousarray(rows, dtype=np.float16).tobytes())
            file.truncate()
        write_atomic(self._keys, "".join(f"{key}\n" for key in (*known, *keys)))


@dataclass(frozen=True)
class KeptTokens:
    """Tokens of N pictures where they lie. held: (rows, count, dimension) float16. row: (N,) that of each picture."""

    held: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: Sequence[int]) -> torch.Tensor:
        """Tokens (n, count, dimension) float32 of some pictures; zeros for a place below 0, which has no picture."""
        asked = np.asarray(places, dtype=np.int64)
        out = np.zeros((len(asked), *self.held.shape[1:]), dtype=np.float32)
        out[asked >= 0] = self.held[self.row[asked[asked >= 0]]]
        return torch.from_numpy(out)


def encoded(encoder: Any, pictures: Sequence[bytes | np.ndarray], names: Sequence[object] | None = None) -> np.ndarray:
    """(N, count, dimension) float16. ValueError naming the picture, by its place or by `names`, that cannot be read."""
    pixels = []
    for n, picture in enumerate(pictures):
        try:
            pixels.append(to_pixels(picture, encoder.size))
        except ValueError as error:
            raise ValueError(f"picture {names[n] if names is not None else n}: {error}") from error
    if not pixels:
        return np.empty((0, int(encoder.count), int(encoder.dimension)), dtype=np.float16)
    with evaluating(encoder):
        device = next(encoder.parameters()).device
        tokens = encoder.tokens(torch.from_numpy(np.stack(pixels)).to(device))
    limit = float(np.finfo(np.float16).max)
    return tokens.float().clamp(-limit, limit).cpu().numpy().astype(np.float16)


def picture_key(picture: bytes | np.ndarray) -> str:
    """20 hex of sha256 over a file's bytes, or over pixels and their shape."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()[:20]
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()[:20]
