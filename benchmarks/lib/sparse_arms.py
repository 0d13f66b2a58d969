"""Arms of the dynamic table's speed benchmark: one training step of embeddings alone, ours and torch's static ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.models.dynamic_table import SGD, Adagrad, EmbeddingEngine, EmbeddingSpec, RowWiseAdagrad, SparseAdam
from goodrate.ragged import Ragged

FEATURES, BATCH, LR = 26, 2048, 0.01
Step = Callable[[Tensor], None]  # (FEATURES, BATCH) ids -> one forward, backward and optimizer step
RULES = {"adam": SparseAdam, "row-wise Adagrad": RowWiseAdagrad, "Adagrad": Adagrad, "SGD": SGD}


@dataclass(frozen=True)
class Setting:
    """What is looked up: one id a feature and example, drawn from `ids` ids a feature."""

    dim: int
    draw: str  # uniform, or the exponent of Zipf's law
    ids: int

    @property
    def name(self) -> str:
        return f"D {self.dim}, {'uniform' if self.draw == 'uniform' else 'Zipf ' + self.draw}"

    def batches(self, count: int, seed: int) -> Iterator[Tensor]:
        """(FEATURES, BATCH) int64 each."""
        rng = np.random.default_rng(seed)
        weights = np.ones(self.ids) if self.draw == "uniform" else np.arange(1, self.ids + 1.0) ** -float(self.draw)
        steps = np.cumsum(weights / weights.sum())
        for _ in range(count):
            ranks = np.searchsorted(steps, rng.random((FEATURES, BATCH))).clip(max=self.ids - 1)
            yield torch.from_numpy(rng.permutation(self.ids)[ranks] if self.draw == "uniform" else ranks)


def goal(setting: Setting, device: str = "cpu") -> Tensor:
    """(BATCH, FEATURES * dim) the gradient that every arm gets."""
    return torch.randn(BATCH, FEATURES * setting.dim, generator=torch.Generator().manual_seed(1)).to(device)


def dynamic(setting: Setting, index: str, rule: str, warm: bool = True, device: str = "cpu") -> Step:
    """Ours. warm: every id has its row before the first step."""
    names = [f"f{i}" for i in range(FEATURES)]
    engine = EmbeddingEngine({name: EmbeddingSpec(setting.dim) for name in names}, index=index).to(device)  # type: ignore[arg-type]
    optimizer = RULES[rule](engine, lr=LR)
    gradient = goal(setting, device)
    if warm:
        everything = Ragged.single(torch.arange(setting.ids, device=device))
        engine(dict.fromkeys(names, everything))

    def step(ids: Tensor) -> None:
        out = engine({name: Ragged.single(column) for name, column in zip(names, ids, strict=True)})
        torch.cat(list(out.values()), 1).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


def separate(setting: Setting, rule: type[torch.optim.Optimizer], device: str = "cpu") -> Step:
    """A static nn.EmbeddingBag(sparse=True) a feature."""
    bags = [nn.EmbeddingBag(setting.ids, setting.dim, mode="sum", sparse=True).to(device) for _ in range(FEATURES)]
    optimizer = rule([bag.weight for bag in bags], lr=LR)  # type: ignore[call-arg]
    gradient, offsets = goal(setting, device), torch.arange(BATCH, device=device)

    def step(ids: Tensor) -> None:
        out = [bag(column, offsets) for bag, column in zip(bags, ids, strict=True)]
        torch.cat(out, 1).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


def merged(setting: Setting, rule: type[torch.optim.Optimizer], sparse: bool, device: str = "cpu") -> Step:
    """One static nn.EmbeddingBag for all features."""
    bag = nn.EmbeddingBag(FEATURES * setting.ids, setting.dim, mode="sum", sparse=sparse).to(device)
    optimizer = rule([bag.weight], lr=LR)  # type: ignore[call-arg]
    gradient = (
        goal(setting, device).view(BATCH, FEATURES, -1).transpose(0, 1).reshape(FEATURES * BATCH, -1).contiguous()
    )
    shift = torch.arange(FEATURES, device=device)[:, None] * setting.ids
    offsets = torch.arange(FEATURES * BATCH, device=device)

    def step(ids: Tensor) -> None:
        bag((ids + shift).view(-1), offsets).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


def arms(setting: Setting, device: str = "cpu") -> dict[str, Step]:
    """All warm arms that run in this environment, by name."""
    indexes = ("numba", "torch") if device == "cpu" else ("torch",)
    found = {
        f"ours, {index}, {rule}": dynamic(setting, index, rule, device=device) for rule in RULES for index in indexes
    }
    found["26 EmbeddingBag(sparse) + SparseAdam"] = separate(setting, torch.optim.SparseAdam, device)
    found["26 EmbeddingBag(sparse) + Adagrad"] = separate(setting, torch.optim.Adagrad, device)
    found["one EmbeddingBag(sparse) + SparseAdam"] = merged(setting, torch.optim.SparseAdam, True, device)
    found["one EmbeddingBag + dense Adam"] = merged(setting, torch.optim.Adam, False, device)
    return found
