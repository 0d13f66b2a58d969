"""Tables of rows by id: an index, and slots (weights, an optimizer's moments) that grow and shrink together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from goodrate.models.dynamic_table.freed_memory import give_back
from goodrate.models.dynamic_table.hash_index import MAX_TAGS, HashIndex
from goodrate.models.dynamic_table.hashing import initial_values, mixed, salt_of
from goodrate.models.dynamic_table.kernels import Kernels
from goodrate.models.dynamic_table.keys import Keys
from goodrate.models.dynamic_table.policies import Eviction, IdleSteps, MaxRows, MinCount, MinNorm, Sketch, top_rows
from goodrate.models.dynamic_table.sharding import Ranks

_GROWTH, _LEAST_ROWS = 1.5, 256


@dataclass(frozen=True)
class RowSpec:
    """What tables must have in common to share a storage."""

    dim: int
    init_scale: float
    admission: MinCount | None = None
    eviction: Eviction | None = None

    @property
    def tracked(self) -> dict[str, float]:
        """The slots that the eviction reads, with what a new row has in them."""
        kinds = {IdleSteps: ("last_step",), MaxRows: ("last_step", "count")}
        return {name: {"last_step": -1.0, "count": 0.0}[name] for name in kinds.get(type(self.eviction), ())}


class Storage:
    """The rows of one or more tables of equal spec. Row r of every slot belongs to the r-th id of the index.

    names: of the tables; a key's tag is its table's position. Slots are (capacity, width); rows beyond `len` are
    uninitialised memory that the system has not handed out yet.
    """

    def __init__(self, names: Sequence[str], spec: RowSpec, seed: int, kernels: Kernels | None = None) -> None:
        if len(names) > MAX_TAGS:
            raise ValueError(f"{len(names)} tables of one spec; at most {MAX_TAGS} share a storage")
        self.names, self.spec, self.dim, self.seed = tuple(names), spec, spec.dim, seed
        self.salts = torch.tensor([salt_of("table", name) for name in names], dtype=torch.int64)
        self.index = HashIndex(self.salts, kernels)
        self._kernels = kernels
        self.slots: dict[str, Tensor] = {"weight": torch.empty(0, spec.dim)}
        self.fills: dict[str, float] = {}
        self.pending: list[tuple[Tensor, Tensor]] = []  # (rows, gradients) of each backward pass since the last step
        self.steps = 0  # optimizer steps that found gradients
        self.sketch: Sketch | None = None
        self._refused: list[Keys] = []  # keys without a row that training saw since the last step
        for name, fill in spec.tracked.items():
            self.add_slot(name, 1, fill, torch.int32)

    def __len__(self) -> int:
        """Live rows."""
        return len(self.index)

    @property
    def weight(self) -> Tensor:
        """(capacity, dim), only the first `len` rows hold something."""
        return self.slots["weight"]

    @property
    def kernels(self) -> Kernels | None:
        """The compiled kernels, where the rows are on a CPU and it is in use."""
        return self._kernels if self.device.type == "cpu" else None

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
        self._refused = [
            Keys(part.ids.to(device), part.tags.to(device), part.hashes.to(device)) for part in self._refused
        ]
        if self.sketch is not None:
            self.sketch.cells = self.sketch.cells.to(device)

    def hashed(self, ids: Tensor, tags: Tensor) -> Tensor:
        """(V,) hashes of keys."""
        if self.kernels:
            hashes = torch.empty_like(ids)
            self.kernels.mixed(ids.numpy(), tags.numpy(), self.salts.numpy(), hashes.numpy())
            return hashes
        return mixed(ids, self.salts[0] if len(self.names) == 1 else self.salts[tags])

    def add_slot(self, name: str, width: int, fill: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
        """A slot of (capacity, width) that starts at `fill` for every row; one that is there already stays."""
        if name not in self.slots:
            slot = torch.empty(len(self.weight), width, dtype=dtype, device=self.device)
            slot[: len(self)] = fill
            self.slots[name], self.fills[name] = slot, fill
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

    def seen(self, keys: Keys, update: int) -> Tensor:
        """(U,) rows of keys seen in training in this update; new ones where they are admitted, -1 elsewhere."""
        rows = self.find(keys)
        missing = (rows < 0).nonzero()[:, 0]
        if len(missing):
            new = keys[missing]
            if self.sketch is not None:
                admitted = self.sketch.admitted(new.tags, new.hashes)
                self._refused.append(new[~admitted])
                missing, new = missing[admitted], new[admitted]
            rows[missing] = self.insert(new)
        if self.spec.tracked:
            self._touch(rows[rows >= 0], update)
        return rows

    def _touch(self, rows: Tensor, update: int) -> None:
        """Note that an update saw these rows; again in the same update changes nothing."""
        last = self.slots["last_step"]
        if "count" in self.slots:
            self.slots["count"][rows] += (last[rows] != update).int()
        last[rows] = update

    def insert(self, keys: Keys) -> Tensor:
        """(U,) rows of keys that have none so far, at the values that their ids start with."""
        start, stop = len(self), len(self) + len(keys)
        self._reserve(stop)
        rows = self.index.insert(keys.ids, keys.tags, keys.hashes)
        self.weight[start:stop] = initial_values(keys.hashes, self.dim, self.seed, self.spec.init_scale)
        for name, fill in self.fills.items():
            self.slots[name][start:stop] = fill
        return rows

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these, (n,) rising; index and slots are made anew in the size of what stays."""
        keys = self.keys()[rows]
        self.index = self.index.emptied()
        self.index.insert(keys.ids, keys.tags, keys.hashes)
        for name in self.slots:
            self._resize(name, len(rows), rows)
        give_back()

    def clear(self) -> None:
        """Forget everything but the slots' names."""
        self.keep(self.salts[:0])
        self.pending, self._refused, self.steps = [], [], 0
        if self.sketch is not None:
            self.sketch.cells.zero_()

    def settle(self, ranks: Ranks) -> None:
        """Keep the rows of this rank's buckets; called when the number of ranks becomes known."""
        if len(self):
            self.keep(ranks.owned(self.keys().hashes).nonzero()[:, 0])
        if self.spec.admission is not None:
            self.sketch = Sketch(self.spec.admission, len(self.names), ranks.buckets, self.device)

    def end_update(self, update: int, ranks: Ranks) -> None:
        """Count the ids refused since the last update, and evict when it is time. update: how many are done."""
        if self.sketch is not None:
            refused, self._refused = self._refused, []
            if refused:
                keys = Keys(
                    *(torch.cat([getattr(part, name) for part in refused]) for name in ("ids", "tags", "hashes"))
                )
                pairs = torch.stack([keys.tags, keys.hashes], 1).unique(dim=0)
                self.sketch.count(pairs[:, 0], pairs[:, 1])
            self.sketch.age(update)
        if self.spec.eviction is not None and update % self.spec.eviction.every == 0:
            stays = self._stays(self.spec.eviction, update, ranks)
            if not bool(stays.all()):
                self.keep(stays.nonzero()[:, 0])

    def _stays(self, eviction: Eviction, update: int, ranks: Ranks) -> Tensor:
        """(len,) bool by row."""
        if isinstance(eviction, IdleSteps):
            return self.slots["last_step"][: len(self), 0] >= update - eviction.steps
        if isinstance(eviction, MinNorm):
            return torch.linalg.vector_norm(self.weight[: len(self)], dim=1) >= eviction.norm
        keys, scores = self.keys(), self.slots[eviction.by][: len(self), 0].long()
        return top_rows(scores, keys.hashes, keys.tags, eviction.rows, len(self.names), ranks.total)

    def _reserve(self, rows: int) -> None:
        """Room for so many rows; slot by slot, so that only one is there twice."""
        if rows <= len(self.weight):
            return
        capacity = max(rows, int(len(self.weight) * _GROWTH), _LEAST_ROWS)
        for name in self.slots:
            self._resize(name, capacity, slice(len(self)))
        give_back()

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
