"""Ragged ids: for each of N examples any number of int64 ids, and a weight for each where there are weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """One column of N examples with V ids in all.

    values: (V,) int64, any value is an id. offsets: (N + 1,) int64 from 0 to V, example n has
    values[offsets[n] : offsets[n + 1]]. weights: (V,) float or None. ValueError where that does not hold.

    >>> Ragged.of([[7, -1], [], [7]]).lengths().tolist()
    [2, 0, 1]
    """

    values: Tensor
    offsets: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in (("values", self.values), ("offsets", self.offsets)):
            if tensor.ndim != 1 or tensor.dtype != torch.int64:
                raise ValueError(f"ragged {name}: expected one axis of int64, got {tensor.dtype} {tuple(tensor.shape)}")
        if self.weights is not None and (
            self.weights.shape != self.values.shape or not self.weights.is_floating_point()
        ):
            weights = f"{self.weights.dtype} {tuple(self.weights.shape)}"
            raise ValueError(f"ragged weights: expected a float for each of {len(self.values)} values, got {weights}")
        if len(self.offsets) == 0:
            raise ValueError("ragged offsets: expected N + 1 of them, got none")
        first, last, step = (int(self.offsets[0]), int(self.offsets[-1]), self.offsets.diff())
        if first != 0 or last != len(self.values) or bool((step < 0).any()):
            raise ValueError(f"ragged offsets: expected to rise from 0 to {len(self.values)}, got {first} to {last}")

    def __len__(self) -> int:
        """N, the number of examples."""
        return len(self.offsets) - 1

    def lengths(self) -> Tensor:
        """(N,) ids of each example."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> Ragged:
        """The same column on a device."""
        if self.values.device == torch.device(device):
            return self
        weights = None if self.weights is None else self.weights.to(device)
        return Ragged(self.values.to(device), self.offsets.to(device), weights)

    @classmethod
    def of(cls, rows: Sequence[Iterable[int]]) -> Ragged:
        """From a few lists of ids; for data, read columns instead."""
        lists = [list(row) for row in rows]
        lengths = torch.tensor([0, *map(len, lists)], dtype=torch.int64)
        return cls(torch.tensor([id for row in lists for id in row], dtype=torch.int64), lengths.cumsum(0))

    @classmethod
    def single(cls, ids: Tensor) -> Ragged:
        """(N,) int64, one id for each example."""
        return cls(ids, torch.arange(len(ids) + 1, device=ids.device))


def ragged_features(features: Any) -> Mapping[str, Ragged]:
    """Features by name; a TorchRec KeyedJaggedTensor (told by its `to_dict`) is taken apart, its memory is shared."""
    if isinstance(features, Mapping):
        return features
    if not hasattr(features, "to_dict"):
        raise ValueError(f"features: expected Ragged columns by name, got {type(features).__name__}")
    return {
        name: Ragged(part.values().long(), part.offsets().long(), part.weights_or_none())
        for name, part in features.to_dict().items()
    }
