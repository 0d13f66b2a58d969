"""DeepFM: how likely a click is, from embedded ids and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def log_scaled(numbers: Tensor) -> Tensor:
    """(N, 2F) from (N, F) with NaN where a number is missing: sign(x) log(1 + |x|), 0 where missing; then the flags of
    what is missing, 1 or 0.

    >>> log_scaled(torch.tensor([[-1.0, float("nan")]])).tolist()
    [[-0.693147, 0.0, 0.0, 1.0]]
    """
    missing = numbers.isnan()
    known = numbers.masked_fill(missing, 0.0)
    return torch.cat([known.sign() * known.abs().log1p(), missing.to(numbers.dtype)], dim=1)


def factorised_pairs(factors: Tensor) -> Tensor:
    """(N,) sum over pairs i < j of <v_i, v_j>, from vectors (N, F, K): (|sum v|^2 - sum |v|^2) / 2."""
    total = factors.sum(dim=1)
    return 0.5 * (total.square() - factors.square().sum(dim=1)).sum(dim=1)


class DeepFM(nn.Module):
    """First-order weights + factorised pairs + a multilayer perceptron, added up to one logit. arXiv 1703.04247.

    embed: ids by feature -> (N, 1 + factors) by feature, such as an EmbeddingEngine: the first column is the
    first-order weight, the others the vector. Unlike in the paper, numbers have no vectors of their own: they go into
    the linear part and the perceptron, log-scaled, with a flag each that says what is missing.
    """

    def __init__(
        self, embed: nn.Module, features: Sequence[str], factors: int, numbers: int = 0,
        hidden: Sequence[int] = (64, 32), dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, self.features, self.factors = embed, tuple(features), factors
        widths = [len(self.features) * factors + 2 * numbers, *hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.deep = nn.Sequential(nn.Dropout(dropout), *layers, nn.Linear(widths[-1], 1))
        self.linear = nn.Linear(2 * numbers, 1)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """logits: (N,). batch: ids, Ragged by feature; numbers (N, F), NaN = missing."""
        embedded = self.embed(batch["ids"])
        rows = torch.stack([embedded[name] for name in self.features], dim=1)  # (N, features, 1 + factors)
        factors, dense = rows[:, :, 1:], log_scaled(batch["numbers"])
        deep = self.deep(torch.cat([factors.flatten(1), dense], dim=1)).squeeze(1)
        linear = self.linear(dense).squeeze(1) + rows[:, :, 0].sum(dim=1)
        return {"logits": linear + factorised_pairs(factors) + deep}
