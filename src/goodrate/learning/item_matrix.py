"""The vectors of a whole catalogue under changing weights: a part is encoded anew before every update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from goodrate.models.encoder import Encoder


class ItemMatrix:
    """vectors (N, D) float32 of N items. Refreshed in turn, so that no row is older than N / refreshed updates."""

    def __init__(self, items: Sequence[str], encoder: Encoder) -> None:
        self._items, self._encoder = items, encoder
        self.vectors = encoder.encode_items(items)
        self._encoded_at = np.zeros(len(items), dtype=np.int64)  # the update before which a row was encoded
        self._next = self._number = 0

    def refresh(self, count: int, number: int) -> None:
        """Encode the next `count` items, all of them when there are fewer. number: of the update."""
        self._number = number
        if number == 0:
            return  # nothing has been learned since they were encoded
        places = (self._next + np.arange(min(count, len(self._items)))) % len(self._items)
        self._next = int((places[-1] + 1) % len(self._items))
        self.vectors[places] = self._encoder.encode_items([self._items[place] for place in places.tolist()])
        self._encoded_at[places] = number

    @property
    def age(self) -> float:
        """Mean number of updates since a row was encoded."""
        return float(self._number - self._encoded_at.mean())

    def state_dict(self) -> dict[str, Any]:
        """Vectors, their ages and whose turn it is."""
        return {
            "vectors": torch.from_numpy(self.vectors),
            "made": torch.from_numpy(self._encoded_at),
            "next": self._next,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.vectors, self._encoded_at = state["vectors"].numpy().copy(), state["made"].numpy().copy()
        self._next = int(state["next"])


def top_k(queries: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Positions (P, k) of the k items with the largest inner product, best first, ties by position."""
    scores = queries @ items.T
    k = min(k, scores.shape[1])
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    last = np.take_along_axis(scores, part, axis=1).min(axis=1)
    for row in np.flatnonzero((scores >= last[:, None]).sum(axis=1) > k):  # a tie at the edge: rare
        part[row] = np.argsort(-scores[row], kind="stable")[:k]
    part.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)
