"""The engine: ragged ids of many features in, one dense tensor a feature out, rows made on first sight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from goodrate.models.dynamic_table.kernels import IndexKind, Kernels, kernels_of
from goodrate.models.dynamic_table.lookup import Column, Lookup, occurrences
from goodrate.models.dynamic_table.policies import Eviction, MinCount
from goodrate.models.dynamic_table.sharding import Ranks
from goodrate.models.dynamic_table.table import RowSpec, Storage, Table
from goodrate.ragged import Ragged, ragged_features

Pooling = Literal["sum", "mean", "none"]
POOLINGS = ("sum", "mean", "none")


@dataclass(frozen=True)
class EmbeddingSpec:
    """How a feature's ids become vectors.

    dim: D, of a row. table: the table's name, None = the feature's; features that name one table share its rows.
    pooling: "sum" and "mean" give (N, D), an example without ids is zeros; "none" gives (V, D), a row per id. Weights
    of the ids multiply the rows ("mean": and divide by their sum). init_scale: rows start uniform in [-s, s).
    admission, eviction: which ids get a row, and which rows go (policies.py).
    """

    dim: int
    table: str | None = None
    pooling: Pooling = "sum"
    init_scale: float = 0.05
    admission: MinCount | None = None
    eviction: Eviction | None = None

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim {self.dim}: expected 1 or more")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r} is not one of {', '.join(POOLINGS)}")
        if not 0 <= self.init_scale < float("inf"):
            raise ValueError(f"init_scale {self.init_scale}: expected a number of 0 or more")

    @property
    def rows(self) -> RowSpec:
        """What features of one table must have in common."""
        return RowSpec(self.dim, self.init_scale, self.admission, self.eviction)


@dataclass
class _Group:
    """A storage and the features that read it, looked up together."""

    storage: Storage
    columns: list[Column]


class EmbeddingEngine(nn.Module):
    """Embeddings of any int64 ids. In training unknown ids get rows; in evaluation they are zeros and nothing changes.

    Rows are no parameters: a sparse optimizer (SparseAdam(engine), ...) updates those that a step saw.
    specs: by feature. seed: of initial values, which depend on (seed, table, id, column) alone. index: which code
    probes and updates, with equal results; auto = numba where it is installed and rows are on a CPU. group: the
    torch.distributed group whose ranks share the rows; None = all.
    """

    def __init__(
        self, specs: Mapping[str, EmbeddingSpec], seed: int = 0, index: IndexKind = "auto", group: Any = None
    ) -> None:
        super().__init__()
        self.group = group
        if not specs:
            raise ValueError("an embedding engine needs one feature at least")
        self.specs, self.seed = dict(specs), seed
        self.updates = 0  # optimizer steps so far
        self._groups = _grouped(self.specs, seed, kernels_of(index))
        self._ranks: Ranks | None = None
        self._anchor = torch.zeros((), requires_grad=True)  # makes the lookup part of the graph

    @property
    def storages(self) -> list[Storage]:
        """The storages, one for each different spec of a table."""
        return [group.storage for group in self._groups]

    @property
    def tables(self) -> dict[str, Table]:
        """Tables by name."""
        return {name: Table(storage, name) for storage in self.storages for name in storage.names}

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._anchor.device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EmbeddingEngine:
        """Follow .to(device), .cuda() and .cpu(); rows stay float32."""
        super()._apply(fn, recurse)
        device = fn(torch.zeros((), device=self.device)).device
        for storage in self.storages:
            storage.to(device)
        self._anchor = torch.zeros((), requires_grad=True, device=device)
        return self

    def forward(self, features: Mapping[str, Ragged]) -> dict[str, Tensor]:
        """(N, D) by feature, (V, D) where it is not pooled. ValueError when the features are not those of the specs."""
        features = ragged_features(features)
        if features.keys() != self.specs.keys():
            missing, unknown = self.specs.keys() - features.keys(), features.keys() - self.specs.keys()
            raise ValueError(f"features: missing {sorted(missing)[:5]}, without a spec {sorted(unknown)[:5]}")
        ranks = self.ranks
        found: dict[str, Tensor] = {}
        for group in self._groups:
            seen = occurrences(group.storage, group.columns, features)
            lookup = Lookup(group.storage, seen, self.updates if self.training else None, ranks)
            parts = _Pooled.apply(self._anchor, lookup).split(seen.sizes)
            found |= {column.feature: part for column, part in zip(group.columns, parts, strict=True)}
        return {name: found[name] for name in self.specs}

    @property
    def ranks(self) -> Ranks:
        """The ranks that share the rows. When they come up after the engine, each keeps the rows that are its own.

        RuntimeError when they are no longer those that the rows were shared out to.
        """
        ranks = Ranks.of(self.group)
        if ranks != self._ranks:
            if self._ranks is not None and self._ranks.world > 1:
                raise RuntimeError(f"the rows are shared by {self._ranks.world} ranks; save them, load them in {ranks}")
            self._ranks = ranks
            for storage in self.storages:
                storage.settle(ranks)
        return ranks

    def save_parts(self, folder: Path) -> None:
        """Write the rows to a new folder; all ranks call it. learning.fit checkpoints by this name."""
        from goodrate.models.dynamic_table.checkpoint import save_tables

        save_tables(self, folder)

    def load_parts(self, folder: Path) -> None:
        """Put back what save_parts wrote, on any number of ranks."""
        from goodrate.models.dynamic_table.checkpoint import load_tables

        load_tables(self, folder)

    def finite(self) -> bool:
        """Whether all weights are numbers, on all ranks."""
        bad = [(~storage.weight[: len(storage)].isfinite()).sum() for storage in self.storages]
        return not int(self.ranks.total(torch.stack(bad).sum()))

    def end_update(self) -> None:
        """Called by the optimizer after a step, on all ranks: counts, admits and evicts."""
        self.updates += 1
        for storage in self.storages:
            storage.end_update(self.updates, self.ranks)


def _grouped(specs: Mapping[str, EmbeddingSpec], seed: int, kernels: Kernels | None) -> list[_Group]:
    """Tables of equal spec into one storage, in the order of their features."""
    table_of = {feature: spec.table or feature for feature, spec in specs.items()}
    kinds: dict[str, RowSpec] = {}
    for feature, spec in specs.items():
        if kinds.setdefault(table_of[feature], spec.rows) != spec.rows:
            raise ValueError(f"feature {feature!r}: table {table_of[feature]!r} has another dim, init_scale or policy")
    groups = []
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name, own in kinds.items() if own == kind]
        storage = Storage(names, kind, seed, kernels)
        columns = [
            Column(feature, names.index(table_of[feature]), spec.pooling)
            for feature, spec in specs.items()
            if kinds[table_of[feature]] == kind
        ]
        groups.append(_Group(storage, columns))
    return groups


class _Pooled(torch.autograd.Function):
    """A lookup as a part of the graph; its backward pass leaves the rows' gradients with the storage."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, lookup: Lookup) -> Tensor:  # type: ignore[override]
        ctx.lookup = lookup
        return lookup.pooled()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        ctx.lookup.accumulate(gradient)
        return None, None
