"""Rows over ranks: every rank owns a range of hash buckets; ids go to their owner, rows and gradients come and go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from goodrate.models.dynamic_table.hashing import BUCKETS, bucket_of
from goodrate.models.dynamic_table.keys import Keys

T = TypeVar("T")


def first_bucket(rank: int, world: int) -> int:
    """The first bucket that a rank owns; bucket b belongs to rank b * world >> 16.

    >>> [first_bucket(rank, 3) for rank in range(4)]
    [0, 21846, 43691, 65536]
    """
    return -(-rank * BUCKETS // world)


@dataclass(frozen=True)
class Ranks:
    """The processes that share the rows; alone where torch.distributed is not in use."""

    rank: int = 0
    world: int = 1
    group: Any = None

    @classmethod
    def of(cls, group: Any = None) -> Ranks:
        """Those of a group; None = all processes."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(group), distributed.get_world_size(group), group)

    @cached_property
    def buckets(self) -> range:
        """The buckets of this rank."""
        return range(first_bucket(self.rank, self.world), first_bucket(self.rank + 1, self.world))

    def owned(self, hashes: Tensor) -> Tensor:
        """Where a hash belongs to this rank."""
        return self.owner(hashes) == self.rank

    def owner(self, hashes: Tensor) -> Tensor:
        """The rank that each hash belongs to."""
        return bucket_of(hashes) * self.world >> 16

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks; the same on all."""
        if self.world > 1:
            values = values.clone()
            distributed.all_reduce(values, group=self.group)
        return values

    def shared(self, value: T) -> T:
        """What the first rank has; also a point that all must reach."""
        if self.world == 1:
            return value
        box = [value]
        group: Any = self.group or distributed.group.WORLD
        distributed.broadcast_object_list(box, distributed.get_global_rank(group, 0), group)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """What each rank has, in their order; the same on all."""
        found: list[Any] = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(found, value, self.group)
        return found

    def all_fine(self, error: BaseException | None) -> None:
        """Raise the own error, or RuntimeError when another rank has one: none waits for one that failed."""
        errors = self.gathered(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        others = [f"rank {rank}: {text}" for rank, text in enumerate(errors) if text]
        if others:
            raise RuntimeError("; ".join(others))


class Exchange:
    """Who asked whom for which keys in one lookup. Three collectives forward (counts, keys, rows), one backward."""

    def __init__(self, keys: Keys, ranks: Ranks) -> None:
        """keys: (U,) different ones, sorted by hash, so that those of one owner are neighbours."""
        self._ranks = ranks
        counts = torch.bincount(ranks.owner(keys.hashes), minlength=ranks.world)
        asked = torch.empty_like(counts)
        distributed.all_to_all_single(asked, counts, group=ranks.group)
        self._sent, self._asked = counts.tolist(), asked.tolist()
        received = self.to_owners(torch.stack([keys.ids, keys.tags], 1))
        self.ids, self.tags = received[:, 0].contiguous(), received[:, 1].contiguous()

    def to_owners(self, values: Tensor) -> Tensor:
        """(U, width) by own key to (R, width) by key asked for, R from all ranks."""
        return self._moved(values, self._sent, self._asked)

    def to_askers(self, values: Tensor) -> Tensor:
        """(R, width) by key asked for to (U, width) by own key."""
        return self._moved(values, self._asked, self._sent)

    def _moved(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        out = values.new_empty(sum(received), values.shape[1])
        distributed.all_to_all_single(out, values.contiguous(), received, sent, group=self._ranks.group)
        return out
