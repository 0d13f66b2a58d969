"""One lookup for all features of a storage: their ids as one list, deduplicated once, and one segment reduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from goodrate.models.dynamic_table.kernels import Kernels
from goodrate.models.dynamic_table.keys import Keys
from goodrate.models.dynamic_table.sharding import Exchange, Ranks
from goodrate.models.dynamic_table.table import Storage
from goodrate.ragged import Ragged


@dataclass(frozen=True)
class Column:
    """A feature of a storage: its name, its table's tag, how its ids are pooled."""

    feature: str
    tag: int
    pooling: str


@dataclass(frozen=True)
class Occurrences:
    """V ids of all columns in B bags (an example of a pooled column, or one id of a column that is not pooled).

    ids, tags, hashes: (V,). offsets: (B + 1,). weights: (V,) or None where all are 1. sizes: bags of each column.
    """

    ids: Tensor
    tags: Tensor
    hashes: Tensor
    offsets: Tensor
    weights: Tensor | None
    sizes: tuple[int, ...]

    def bags(self) -> Tensor | None:
        """(V,) the bag of each occurrence; None where each is the bag of its own number."""
        lengths = self.offsets.diff()
        if len(lengths) == len(self.ids) and bool((lengths == 1).all()):
            return None
        return torch.repeat_interleave(lengths, output_size=len(self.ids))


def occurrences(storage: Storage, columns: Sequence[Column], features: Mapping[str, Ragged]) -> Occurrences:
    """The ids of the columns one after the other."""
    ragged = [features[column.feature].to(storage.device) for column in columns]
    lengths = [
        part.lengths() if c.pooling != "none" else torch.ones_like(part.values) for c, part in _pairs(columns, ragged)
    ]
    ids = torch.cat([part.values for part in ragged])
    tags = torch.tensor([column.tag for column in columns], device=ids.device).repeat_interleave(
        torch.tensor([len(part.values) for part in ragged], device=ids.device), output_size=len(ids)
    )
    offsets = F.pad(torch.cat(lengths).cumsum(0), (1, 0))
    plain = all(c.pooling != "mean" and part.weights is None for c, part in _pairs(columns, ragged))
    weights = None if plain else torch.cat([_weights(c, part) for c, part in _pairs(columns, ragged)])
    return Occurrences(ids, tags, storage.hashed(ids, tags), offsets, weights, tuple(map(len, lengths)))


def _pairs(columns: Sequence[Column], ragged: Sequence[Ragged]) -> list[tuple[Column, Ragged]]:
    return list(zip(columns, ragged, strict=True))


def _weights(column: Column, part: Ragged) -> Tensor:
    """(V,) what each id's row is multiplied by; of a mean the weights of an example sum to 1 (or are all 0)."""
    own = torch.ones(len(part.values), device=part.values.device) if part.weights is None else part.weights.float()
    if column.pooling != "mean":
        return own
    bag = torch.repeat_interleave(part.lengths())
    total = torch.zeros(len(part), device=own.device).index_add_(0, bag, own)[bag]
    return torch.where(total == 0, 0.0, own / total)


@dataclass(frozen=True)
class Distinct:
    """The U different keys among V occurrences.

    keys: U of them, in the order of their hashes or of first sight. order: (V,) the occurrences by key, those of one
    key in their own order.
    starts: (U,) where each key's occurrences begin in `order`. key_of: (V,) the key of each occurrence, where known.
    """

    keys: Keys
    order: Tensor
    starts: Tensor
    key_of: Tensor | None = None

    def spread(self, values: Tensor) -> Tensor:
        """(V,) by occurrence what is given by key."""
        if self.key_of is not None:
            return values.index_select(0, self.key_of)
        counts = self.starts.diff(append=self.starts.new_tensor([len(self.order)]))
        out = torch.empty(len(self.order), dtype=values.dtype, device=values.device)
        out[self.order] = values.repeat_interleave(counts, output_size=len(self.order))
        return out

    def summed(self, gradients: Tensor, source: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """(U, dim) sums over each key's occurrences of gradients[source] * weights; source None: occurrence itself."""
        picks = self.order if source is None else source.index_select(0, self.order)
        scale = None if weights is None else weights.index_select(0, self.order)
        return F.embedding_bag(picks, gradients, self.starts, mode="sum", per_sample_weights=scale)


def distinct(ids: Tensor, tags: Tensor, hashes: Tensor, kernels: Kernels | None = None) -> Distinct:
    """Keys by one sort by hash; those that differ and have one hash (two tables can) are told apart by a second one.

    kernels: compiled; then keys are in the order of first sight, found by hashing.
    """
    if kernels is not None:
        key_of, order = torch.empty_like(ids), torch.empty_like(ids)
        found = kernels.distinct(tags.numpy(), hashes.numpy(), key_of.numpy(), order.numpy())
        starts, first = map(torch.from_numpy, found)
        return Distinct(Keys(ids, tags, hashes)[first], order, starts, key_of)
    ordered, order = torch.sort(hashes, stable=True)
    same_hash = ordered[1:] == ordered[:-1]
    sorted_tags = tags.index_select(0, order)
    same_tag = sorted_tags[1:] == sorted_tags[:-1]
    if bool((same_hash & ~same_tag).any()):
        order = torch.sort(tags, stable=True).indices
        order = order[torch.sort(hashes[order], stable=True).indices]
        same_tag = tags[order[1:]] == tags[order[:-1]]
    first = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    torch.logical_not(same_hash & same_tag, out=first[1:])
    starts = first.nonzero()[:, 0]
    return Distinct(Keys(ids, tags, hashes)[order.index_select(0, starts)], order, starts)


class Lookup:
    """One lookup: pooled rows forward, gradients of rows backward, the owners of the rows being other ranks or not."""

    def __init__(self, storage: Storage, seen: Occurrences, update: int | None, ranks: Ranks) -> None:
        """update: the number of the update that trains on it; None = read only."""
        self._storage, self._seen, self._world = storage, seen, ranks.world
        in_order = ranks.world > 1  # keys of one owner must be neighbours
        self._own = distinct(seen.ids, seen.tags, seen.hashes, None if in_order else storage.kernels)
        self._asked, self._exchange = self._own, None
        if ranks.world > 1:
            self._exchange = Exchange(self._own.keys, ranks)
            ids, tags = self._exchange.ids, self._exchange.tags
            self._asked = distinct(ids, tags, storage.hashed(ids, tags), storage.kernels)
        keys = self._asked.keys
        self._rows = storage.find(keys) if update is None else storage.seen(keys, update)

    def pooled(self) -> Tensor:
        """(B, dim)"""
        storage, seen = self._storage, self._seen
        rows = self._asked.spread(self._rows)
        if self._exchange is None:
            return pooled(storage.weight, rows, seen.offsets, seen.weights)
        one_each = torch.arange(len(rows) + 1, device=rows.device)
        values = self._exchange.to_askers(pooled(storage.weight, rows, one_each, None))
        places = self._own.spread(torch.arange(len(values), device=rows.device))
        return pooled(values, places, seen.offsets, seen.weights)

    def accumulate(self, gradient: Tensor) -> None:
        """Leave the gradients of this rank's rows with the storage. gradient: (B, dim) of what was pooled."""
        seen, rows = self._seen, self._rows
        gradients = self._own.summed(gradient.contiguous(), seen.bags(), seen.weights)
        if self._exchange is not None:  # the mean over ranks, as of dense gradients
            gradients = self._asked.summed(self._exchange.to_owners(gradients)) / self._world
        known = rows >= 0
        if not bool(known.all()):
            rows, gradients = rows[known], gradients[known]
        self._storage.pending.append((rows, gradients))


def pooled(weight: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
    """(B, dim) weighted sums of rows by bag; a row of -1 counts as zeros."""
    known = rows >= 0
    if not bool(known.all()):
        offsets = F.pad(known.cumsum(0), (1, 0))[offsets]
        rows, weights = rows[known], None if weights is None else weights[known]
    if len(rows) == 0:
        return torch.zeros(len(offsets) - 1, weight.shape[1], device=weight.device)
    return F.embedding_bag(rows, weight, offsets, mode="sum", include_last_offset=True, per_sample_weights=weights)
