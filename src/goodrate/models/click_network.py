"""The network of a click ranker: a factorization machine and a perceptron over embeddings and numbers (DeepFM).

DeepFM: arXiv 1703.04247. Here the numbers go into the perceptron and into the linear part; the embeddings come from
outside, so that they can lie in tables that grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClickNetwork(nn.Module):
    """Logit of a click on an item that is seen."""

    def __init__(self, sparse: int, dim: int, numbers: int, hidden: Sequence[int]) -> None:
        """sparse: S embedded features. dim: D of an embedding, beside its weight in the linear part. numbers: F."""
        super().__init__()
        self.linear = nn.Linear(numbers, 1)
        sizes = [sparse * dim + numbers, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.out = nn.Linear(sizes[-1], 1, bias=False)

    def forward(self, embedded: Tensor, numbers: Tensor) -> Tensor:
        """Logits (N,). embedded: (N, S, 1 + D), first the linear weight; zeros for no id. numbers: (N, F)."""
        weights, vectors = embedded[..., 0], embedded[..., 1:]
        total = vectors.sum(1)
        pairs = 0.5 * (total.square() - vectors.square().sum(1)).sum(1)
        deep = torch.cat([vectors.flatten(1), numbers], dim=1)
        for layer in self.hidden:
            deep = torch.relu(layer(deep))
        return self.linear(numbers).squeeze(1) + weights.sum(1) + pairs + self.out(deep).squeeze(1)


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
        below = torch.zeros(positions - 1)
        self.below = nn.Parameter(below) if given is None else None
        self.register_buffer("given", None if given is None else torch.tensor(given).log(), persistent=False)

    def forward(self, position: Tensor) -> Tensor:
        """(N,) of places (N,) int64 from 1 on; places beyond the last are like the last."""
        each = self.given if self.below is None else torch.cat([self.below.new_zeros(1), F.logsigmoid(self.below)])
        return each[position.clamp(max=len(each)) - 1]


class ClickModel(nn.Module):
    """Embeddings, network and what takes position bias out, as they are trained together."""

    def __init__(self, engine: nn.Module | None, network: ClickNetwork, places: Mapping[str, nn.Module]) -> None:
        """engine: ids by feature -> (N, 1 + D) by feature; None without ids. places: output -> of the position."""
        super().__init__()
        self.engine, self.network, self.places = engine, network, nn.ModuleDict(dict(places))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """ "logits" (N,), and what each of `places` gives. batch: ids by feature, numbers (N, F), position (N,)."""
        numbers = batch["numbers"]
        parts = [] if self.engine is None else [*self.engine(batch["ids"]).values()]
        embedded = torch.stack(parts, dim=1) if parts else numbers.new_zeros(len(numbers), 0, 1)
        outputs = {"logits": self.network(embedded, numbers)}
        return outputs | {name: place(batch["position"]) for name, place in self.places.items()}
