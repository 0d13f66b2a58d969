"""A model of clicks: DeepFM for what is wanted, and beside it what the place on the page does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodrate.models.deepfm import DeepFM


class PositionTower(nn.Module):
    """What the place on the page adds to the logit of a click; 0 at the top. It is dropped when the ranker serves."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.below = nn.Parameter(torch.zeros(positions - 1))

    def forward(self, position: Tensor) -> Tensor:
        """(N,) of places (N,) int64 from 1 on; places beyond the last are like the last."""
        each = torch.cat([self.below.new_zeros(1), self.below])
        return each[position.clamp(max=len(each)) - 1]


class Examination(nn.Module):
    """Log of the chance that a place is looked at: 0 at the top, learned below unless it is given."""

    def __init__(self, positions: int, given: Sequence[float] | None = None) -> None:
        """given: propensities (P,) of all places; None = learned for so many, from 1/2 on."""
        super().__init__()
        self.below = nn.Parameter(torch.zeros(positions - 1)) if given is None else None
        self._given = None if given is None else torch.tensor(given).log()

    def forward(self, position: Tensor) -> Tensor:
        """(N,) of places (N,) int64 from 1 on; places beyond the last are like the last."""
        if self.below is not None:
            each = torch.cat([self.below.new_zeros(1), F.logsigmoid(self.below)])
        else:
            assert self._given is not None
            each = self._given.to(position.device)
        return each[position.clamp(max=len(each)) - 1]


class ClickModel(nn.Module):
    """The logit of a click on what is seen, and what takes position bias out, as they are trained together."""

    def __init__(self, wanted: DeepFM, places: Mapping[str, nn.Module]) -> None:
        """places: output -> a module of the position (N,)."""
        super().__init__()
        self.wanted, self.places = wanted, nn.ModuleDict(dict(places))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """logits (N,), and what each of `places` gives (N,). batch: what DeepFM reads, and position (N,) from 1."""
        return self.wanted(batch) | {name: place(batch["position"]) for name, place in self.places.items()}
