"""The index of a table: (tag, id) -> row, open addressing with linear probing, vectorised in torch.

tag: which of the tables that share the storage an id belongs to, 0..65,534. Every int64 is an id.
"""

from __future__ import annotations

import torch
from torch import Tensor

from goodrate.models.dynamic_table.hashing import mixed
from goodrate.models.dynamic_table.kernels import Kernels

MAX_TAGS = (1 << 16) - 1
_TAG_BITS, _TAG = 16, (1 << 16) - 1
_EMPTY = -1  # as a tag it reads 65,535, which no table has
MIN_CAPACITY = 1024


def capacity_for(count: int) -> int:
    """Slots for so many entries: the least power of two that leaves half of them empty at least.

    >>> capacity_for(1000), capacity_for(1024), capacity_for(1025)
    (2048, 2048, 4096)
    """
    return max(MIN_CAPACITY, 1 << (2 * count - 1).bit_length())


class HashIndex:
    """Rows 0..len-1 of different (tag, id), numbered in the order of insertion.

    salts: (T,) int64 by tag; the hash of a key is mixed(id, salts[tag]). kernels: compiled ones, used on CPUs.
    """

    def __init__(self, salts: Tensor, kernels: Kernels | None = None) -> None:
        self._salts, self._kernels = salts, kernels
        self._slots = self._empty(MIN_CAPACITY)
        self._count = 0

    def _empty(self, capacity: int) -> Tensor:
        """(capacity, 2): the id, and row << 16 | tag or -1."""
        return torch.full((capacity, 2), _EMPTY, dtype=torch.int64, device=self._salts.device)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the slots."""
        return self._slots.nbytes

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self._salts, self._slots = self._salts.to(device), self._slots.to(device)

    def emptied(self) -> HashIndex:
        """An index of the same tables without an entry."""
        return HashIndex(self._salts, self._kernels)

    def find(self, ids: Tensor, tags: Tensor, hashes: Tensor) -> Tensor:
        """(U,) rows, -1 for what is not there. All (U,) int64."""
        rows = torch.empty_like(ids)
        if self._kernels and ids.device.type == "cpu":
            self._kernels.find(self._slots.numpy(), ids.numpy(), tags.numpy(), hashes.numpy(), rows.numpy())
            return rows
        todo: slice | Tensor = slice(None)
        slot, tried = hashes & (len(self._slots) - 1), 0
        while len(ids):
            entry = self._slots.index_select(0, slot)
            key, packed = entry[:, 0], entry[:, 1]
            hit = (key == ids) & ((packed & _TAG) == tags)
            rows[todo] = torch.where(hit, packed >> _TAG_BITS, -1)
            rest = (~hit & (packed != _EMPTY)).nonzero()[:, 0]
            todo = rest if isinstance(todo, slice) else todo.index_select(0, rest)
            ids, tags, slot = (part.index_select(0, rest) for part in (ids, tags, slot))
            tried += 1
            slot = (slot + tried) & (len(self._slots) - 1)
        return rows

    def insert(self, ids: Tensor, tags: Tensor, hashes: Tensor) -> Tensor:
        """(U,) new rows, numbered in the order given. The keys must differ and none of them be there."""
        rows = torch.arange(self._count, self._count + len(ids), device=ids.device)
        packed = rows << _TAG_BITS | tags
        if 2 * (self._count + len(ids)) > len(self._slots):
            used = self._slots[self._slots[:, 1] != _EMPTY]
            self._slots = self._empty(capacity_for(self._count + len(ids)))
            self._place(used[:, 0], used[:, 1], mixed(used[:, 0], self._salts[used[:, 1] & _TAG]))
        self._place(ids, packed, hashes)
        self._count += len(ids)
        return rows

    def _place(self, ids: Tensor, packed: Tensor, hashes: Tensor) -> None:
        """Write entries that are not there, each to the first empty slot of its sequence."""
        if self._kernels and ids.device.type == "cpu":
            self._kernels.place(self._slots.numpy(), ids.numpy(), packed.numpy(), hashes.numpy())
            return
        slot, tried = hashes & (len(self._slots) - 1), 0
        while len(ids):
            empty = (self._slots[:, 1].index_select(0, slot) == _EMPTY).nonzero()[:, 0]
            aim, claim = slot[empty], packed[empty]
            self._slots[:, 1].index_put_((aim,), claim)  # of several that aim at one slot, one stays
            won = self._slots[:, 1].index_select(0, aim) == claim
            self._slots[:, 0].index_put_((aim[won],), ids[empty[won]])
            rest = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
            rest[empty[won]] = False
            tried += 1
            ids, packed, slot = ids[rest], packed[rest], (slot[rest] + tried) & (len(self._slots) - 1)

    def entries(self) -> tuple[Tensor, Tensor]:
        """ids and tags, (len,) each, by row."""
        used = self._slots[self._slots[:, 1] != _EMPTY]
        ids, tags = torch.empty_like(used[:, 0]), torch.empty_like(used[:, 0])
        rows = used[:, 1] >> _TAG_BITS
        ids[rows], tags[rows] = used[:, 0], used[:, 1] & _TAG
        return ids, tags
