"""The engine: ragged ids of many features in, one dense tensor a feature out, rows made on first sight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodrate.models.dynamic_table.lookup import Column, Occurrences, distinct, occurrences
from goodrate.models.dynamic_table.table import Storage, Table
from goodrate.ragged import Ragged, ragged_features

Pooling = Literal["sum", "mean", "none"]
IndexKind = Literal["auto", "torch", "numba"]
POOLINGS = ("sum", "mean", "none")


@dataclass(frozen=True)
class EmbeddingSpec:
    """How a feature's ids become vectors.

    dim: D, of a row. table: the table's name, None = the feature's; features that name one table share its rows.
    pooling: "sum" and "mean" give (N, D), an example without ids is zeros; "none" gives (V, D), a row per id. Weights
    of the ids multiply the rows ("mean": and divide by their sum). init_scale: rows start uniform in [-s, s).
    """

    dim: int
    table: str | None = None
    pooling: Pooling = "sum"
    init_scale: float = 0.05
    admission: Any = None
    eviction: Any = None

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim {self.dim}: expected 1 or more")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r} is not one of {', '.join(POOLINGS)}")
        if not 0 <= self.init_scale < float("inf"):
            raise ValueError(f"init_scale {self.init_scale}: expected a number of 0 or more")

    def of_storage(self) -> tuple[Any, ...]:
        """What tables must have in common to share a storage."""
        return self.dim, self.init_scale, self.admission, self.eviction


@dataclass
class _Group:
    """A storage and the features that read it, looked up together."""

    storage: Storage
    columns: list[Column]


class EmbeddingEngine(nn.Module):
    """Embeddings of any int64 ids. In training unknown ids get rows; in evaluation they are zeros and nothing changes.

    Rows are no parameters: a sparse optimizer (SparseAdam(engine), ...) updates those that a step saw.
    specs: by feature. seed: of initial values, which depend on (seed, table, id, column) alone. index: which code
    probes, with equal results. group: the torch.distributed group whose ranks share the rows; None = all.
    """

    def __init__(
        self, specs: Mapping[str, EmbeddingSpec], seed: int = 0, index: IndexKind = "auto", group: Any = None
    ) -> None:
        super().__init__()
        self.index, self.group = index, group
        if not specs:
            raise ValueError("an embedding engine needs one feature at least")
        self.specs, self.seed = dict(specs), seed
        self.updates = 0  # optimizer steps so far
        self._groups = _grouped(self.specs, seed)
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
        found: dict[str, Tensor] = {}
        for group in self._groups:
            seen = occurrences(group.storage, group.columns, features)
            pooled = _Pooled.apply(self._anchor, group.storage, seen, self.training)
            parts = pooled.split(seen.sizes)
            found |= {column.feature: part for column, part in zip(group.columns, parts, strict=True)}
        return {name: found[name] for name in self.specs}

    def end_update(self) -> None:
        """Called by the optimizer after a step."""
        self.updates += 1


def _grouped(specs: Mapping[str, EmbeddingSpec], seed: int) -> list[_Group]:
    """Tables of equal spec into one storage, in the order of their features."""
    table_of = {feature: spec.table or feature for feature, spec in specs.items()}
    kinds: dict[str, tuple[Any, ...]] = {}
    for feature, spec in specs.items():
        if kinds.setdefault(table_of[feature], spec.of_storage()) != spec.of_storage():
            raise ValueError(f"feature {feature!r}: table {table_of[feature]!r} has another dim, init_scale or policy")
    groups = []
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name, own in kinds.items() if own == kind]
        storage = Storage(names, kind[0], kind[1], seed)
        columns = [
            Column(feature, names.index(table_of[feature]), spec.pooling)
            for feature, spec in specs.items()
            if kinds[table_of[feature]] == kind
        ]
        groups.append(_Group(storage, columns))
    return groups


class _Pooled(torch.autograd.Function):
    """Rows of the storage, pooled; its backward pass leaves the rows' gradients in storage.pending."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, storage: Storage, seen: Occurrences, training: bool) -> Tensor:  # type: ignore[override]
        keys = distinct(seen.ids, seen.tags, seen.hashes)
        rows = storage.find(keys.keys)
        missing = rows < 0
        if training and bool(missing.any()):
            rows[missing] = storage.insert(keys.keys[missing])
        ctx.storage, ctx.seen, ctx.keys, ctx.rows = storage, seen, keys, rows
        return _pooled(storage.weight, keys.spread(rows), seen.offsets, seen.weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        seen, keys, rows = ctx.seen, ctx.keys, ctx.rows
        bags = torch.repeat_interleave(seen.offsets.diff(), output_size=len(seen.ids))
        gradients = keys.summed(gradient.contiguous(), bags, seen.weights)
        known = rows >= 0
        if not bool(known.all()):
            rows, gradients = rows[known], gradients[known]
        ctx.storage.pending.append((rows, gradients))
        return None, None, None, None


def _pooled(weight: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
    """(B, dim) weighted sums of rows by bag; a row of -1 counts as zeros."""
    known = rows >= 0
    if not bool(known.all()):
        offsets = F.pad(known.cumsum(0), (1, 0))[offsets]
        rows, weights = rows[known], None if weights is None else weights[known]
    if len(rows) == 0:
        return torch.zeros(len(offsets) - 1, weight.shape[1], device=weight.device)
    return F.embedding_bag(rows, weight, offsets, mode="sum", include_last_offset=True, per_sample_weights=weights)
