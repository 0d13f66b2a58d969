"""Tables of rows by id: an index, and slots (weights, an optimizer's moments) that grow and shrink together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from goodrate.models.dynamic_table.hash_index import MAX_TAGS, HashIndex
from goodrate.models.dynamic_table.hashing import initial_values, mixed, salt_of

_GROWTH, _LEAST_ROWS = 1.5, 256


@dataclass(frozen=True)
class Keys:
    """U different keys of a table: ids, tags (which of the tables that share the storage) and hashes, (U,) int64."""

    ids: Tensor
    tags: Tensor
    hashes: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, pick: Tensor) -> Keys:
        """The keys picked by a mask or by positions."""
        return Keys(self.ids[pick], self.tags[pick], self.hashes[pick])


class Storage:
    """The rows of one or more tables of equal spec. Row r of every slot belongs to the r-th id of the index.

    names: of the tables; a key's tag is its table's position. Slots are (capacity, width); rows beyond `len` are
    uninitialised memory that the system has not handed out yet.
    """

    def __init__(self, names: Sequence[str], dim: int, init_scale: float, seed: int) -> None:
        if len(names) > MAX_TAGS:
            raise ValueError(f"{len(names)} tables of one spec; at most {MAX_TAGS} share a storage")
        self.names, self.dim, self.init_scale, self.seed = tuple(names), dim, init_scale, seed
        self.salts = torch.tensor([salt_of("table", name) for name in names], dtype=torch.int64)
        self.index = HashIndex(self.salts)
        self.slots: dict[str, Tensor] = {"weight": torch.empty(0, dim)}
        self._fills: dict[str, float] = {}
        self.pending: list[tuple[Tensor, Tensor]] = []  # (rows, gradients) of each backward pass since the last step
        self.steps = 0  # optimizer steps that found gradients

    def __len__(self) -> int:
        """Live rows."""
        return len(self.index)

    @property
    def weight(self) -> Tensor:
        """(capacity, dim), only the first `len` rows hold something."""
        return self.slots["weight"]

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def to(self, device: torch.device) -> None:
        """Move everything to a device."""
        if device == self.device:
            return
        self.salts = self.salts.to(device)
        self.index.to(device)
        self.slots = {name: slot.to(device) for name, slot in self.slots.items()}
        self.pending = [(rows.to(device), gradients.to(device)) for rows, gradients in self.pending]

    def hashed(self, ids: Tensor, tags: Tensor) -> Tensor:
        """(V,) hashes of keys."""
        return mixed(ids, self.salts[0] if len(self.names) == 1 else self.salts[tags])

    def add_slot(self, name: str, width: int, fill: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
        """A slot of (capacity, width) that starts at `fill` for every row; one that is there already stays."""
        if name not in self.slots:
            slot = torch.empty(len(self.weight), width, dtype=dtype, device=self.device)
            slot[: len(self)] = fill
            self.slots[name], self._fills[name] = slot, fill
        elif self.slots[name].shape[1] != width:
            raise ValueError(f"slot {name!r} has width {self.slots[name].shape[1]}, not {width}")
        return self.slots[name]

    def gradients(self) -> tuple[Tensor, Tensor]:
        """(U,) different rows and (U, dim) the gradients of all backward passes since the last step, summed."""
        if len(self.pending) > 1:
            rows, inverse = torch.unique(torch.cat([rows for rows, _ in self.pending]), return_inverse=True)
            total = torch.zeros(len(rows), self.dim, device=self.device)
            total.index_add_(0, inverse, torch.cat([gradients for _, gradients in self.pending]))
            self.pending = [(rows, total)]
        return self.pending[0] if self.pending else (self.salts[:0], self.weight[:0])

    def find(self, keys: Keys) -> Tensor:
        """(U,) rows, -1 for keys without one."""
        return self.index.find(keys.ids, keys.tags, keys.hashes)

    def insert(self, keys: Keys) -> Tensor:
        """(U,) rows of keys that have none so far, at the values that their ids start with."""
        start, stop = len(self), len(self) + len(keys)
        self._reserve(stop)
        rows = self.index.insert(keys.ids, keys.tags, keys.hashes)
        self.weight[start:stop] = initial_values(keys.hashes, self.dim, self.seed, self.init_scale)
        for name, fill in self._fills.items():
            self.slots[name][start:stop] = fill
        return rows

    def _reserve(self, rows: int) -> None:
        """Room for so many rows; slot by slot, so that only one is there twice."""
        if rows <= len(self.weight):
            return
        capacity = max(rows, int(len(self.weight) * _GROWTH), _LEAST_ROWS)
        for name in self.slots:
            self._resize(name, capacity, slice(len(self)))

    def _resize(self, name: str, capacity: int, keep: slice | Tensor) -> None:
        """A slot of another capacity that begins with the rows to keep."""
        old = self.slots[name][keep]
        new = torch.empty(capacity, old.shape[1], dtype=old.dtype, device=old.device)
        new[: len(old)] = old
        self.slots[name] = new

    def keys(self) -> Keys:
        """The keys of all live rows, by row."""
        ids, tags = self.index.entries()
        return Keys(ids, tags, self.hashed(ids, tags))

    @property
    def nbytes(self) -> int:
        """Bytes of index and live rows."""
        return self.index.nbytes + sum(len(self) * slot[:1].nbytes for slot in self.slots.values() if len(slot))


@dataclass(frozen=True)
class Table:
    """One table by name: the view of its rows in the storage that it may share with others of equal spec."""

    storage: Storage
    name: str

    @property
    def tag(self) -> int:
        """Its position in the storage."""
        return self.storage.names.index(self.name)

    def __len__(self) -> int:
        """Live ids on this process."""
        return int(self._rows().sum()) if len(self.storage.names) > 1 else len(self.storage)

    def _rows(self) -> Tensor:
        return self.storage.index.entries()[1] == self.tag

    def ids(self) -> Tensor:
        """(len,) live ids on this process, in no order of meaning."""
        keys = self.storage.keys()
        return keys.ids[keys.tags == self.tag]

    def find(self, ids: Tensor) -> Tensor:
        """(U,) rows of the storage's slots, -1 for ids that are not there. ids: (U,) int64."""
        tags = torch.full_like(ids, self.tag)
        return self.storage.find(Keys(ids, tags, self.storage.hashed(ids, tags)))

    def slot(self, ids: Tensor, name: str = "weight") -> Tensor:
        """(U, width) values of a slot by id; an id that is not there is zeros."""
        rows = self.find(ids)
        if not len(self.storage):
            return torch.zeros(len(ids), self.storage.slots[name].shape[1], device=self.storage.device)
        return self.storage.slots[name][rows.clamp(min=0)].masked_fill_(rows[:, None] < 0, 0)
