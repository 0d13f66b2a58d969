"""Features of pairs on disk, by content hash: what was computed once is not computed again, in any run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from goodrate.run_folder import write_atomic

BLOCK = 256  # rows computed between two writings: what an interruption can cost


class FeatureCache:
    """Rows (D,) float32 by key, in one safetensors file.

    path: the file; made when there is something to keep. dimension: D. Raises ValueError for a file of something else.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self.path, self.dimension = path, dimension
        self._rows: dict[str, np.ndarray] = {}
        if path.is_file():
            self._rows = self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def rows(
        self, keys: Sequence[str], compute: Callable[[list[int]], np.ndarray],
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The row of each key, in order: (N, D) float32.

        compute: the rows of some of the places (n,), asked once for each key that is not kept. progress: told (done,
        of how many) that had to be computed. Each block is on disk before the next begins.
        """
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted(place for key, place in first.items() if key not in self._rows)
        for start in range(0, len(missing), BLOCK):
            places = missing[start : start + BLOCK]
            new = np.asarray(compute(places), dtype=np.float32)
            self._rows.update({keys[place]: row for place, row in zip(places, new, strict=True)})
            self._write()
            if progress:
                progress(start + len(places), len(missing))
        empty = np.empty((0, self.dimension), dtype=np.float32)
        return np.stack([self._rows[key] for key in keys]) if len(keys) else empty

    def _write(self) -> None:
        from safetensors.numpy import save

        names = json.dumps(list(self._rows))
        write_atomic(self.path, save({"rows": np.stack(list(self._rows.values()))}, metadata={"keys": names}))

    def _read(self) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="numpy") as file:
                keys, rows = json.loads((file.metadata() or {})["keys"]), file.get_tensor("rows")
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self.path} does not hold features ({error!r}); remove it to compute them anew"
            ) from error
        if rows.shape != (len(keys), self.dimension):
            raise ValueError(f"{self.path} holds rows {rows.shape}, expected {(len(keys), self.dimension)}; remove it")
        return dict(zip(keys, rows, strict=True))


def feature_key(*parts: str) -> str:
    """20 hex of sha256 over texts, each apart."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:20]
