"""Tables on disk: one safetensors file a table and rank, rows sorted by bucket, loaded by any number of ranks.

FOLDER/tables.json                      what the tables are
FOLDER/<table>-00000-of-00002.safetensors   ids (n,), one tensor a slot (n, width), the admission's counts
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from goodrate.models.dynamic_table.hashing import BUCKETS, first_hash
from goodrate.models.dynamic_table.keys import Keys
from goodrate.models.dynamic_table.sharding import Ranks, first_bucket
from goodrate.models.dynamic_table.table import Table
from goodrate.run_folder import new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

if TYPE_CHECKING:
    from goodrate.models.dynamic_table.engine import EmbeddingEngine

FILE, FORMAT = "tables.json", 1
_IDS, _COUNTS = "ids", "admission_counts"
_TRACKED = ("last_step", "count")  # what evictions read
_DTYPES = {"torch.float32": torch.float32, "torch.int32": torch.int32}


@dataclass(frozen=True)
class Loaded:
    """What a rank loaded: rows, bytes that it read of the tensors, bytes of all files."""

    rows: int
    bytes_read: int
    bytes_of_files: int


def save_tables(engine: EmbeddingEngine, folder: str | Path) -> None:
    """Write all tables, an optimizer's state with them; all ranks must call it and see the same file system.

    A folder that was there is replaced when the new one is whole. OSError where it cannot be written.
    """
    ranks, error = engine.ranks, None
    with new_folder(folder) if ranks.rank == 0 else nullcontext() as beside:
        beside = Path(ranks.shared(str(beside)))
        try:
            for name, table in engine.tables.items():
                save_file(_tensors(table), beside / _file(name, ranks.rank, ranks.world))
        except Exception as failure:
            error = failure
        ranks.all_fine(error)
        if ranks.rank == 0:
            write_atomic(beside / FILE, dumps(_description(engine, ranks.world), indent=2) + "\n")
    ranks.shared(None)  # nobody goes on before the folder is in its place


def _file(table: str, rank: int, world: int) -> str:
    """The name of a rank's file of a table."""
    return f"{quote(table, safe='')}-{rank:05d}-of-{world:05d}.safetensors"


def _description(engine: EmbeddingEngine, world: int) -> dict[str, Any]:
    """What tables.json holds."""
    tables = {
        name: {
            "dim": table.storage.dim,
            "init_scale": table.storage.spec.init_scale,
            "steps": table.storage.steps,
            "slots": {slot: [*part.shape[1:], str(part.dtype)] for slot, part in table.storage.slots.items()},
            "fills": table.storage.fills,
        }
        for name, table in engine.tables.items()
    }
    return {"format": FORMAT, "seed": engine.seed, "updates": engine.updates, "world": world, "tables": tables}


def _tensors(table: Table) -> dict[str, Tensor]:
    """The rows of a table on this rank, sorted by hash, so by bucket."""
    storage, keys = table.storage, table.storage.keys()
    rows = (keys.tags == table.tag).nonzero()[:, 0]
    rows = rows[keys.hashes[rows].argsort()]
    tensors = {_IDS: keys.ids[rows], **{name: slot[rows] for name, slot in storage.slots.items()}}
    if storage.sketch is not None:
        tensors[_COUNTS] = storage.sketch.cells[table.tag]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def load_tables(engine: EmbeddingEngine, folder: str | Path, *, weights_only: bool = False) -> Loaded:
    """Put the tables of a folder in place of the engine's, on any number of ranks; each reads its own ranges.

    weights_only: without an optimizer's state, which starts anew where the engine has one. Raises ValueError,
    before the engine is touched, when the folder is of other features, seeds or slots, or a file is missing or cut.
    """
    folder, ranks = Path(folder), engine.ranks
    description = _read_description(folder)
    slots = _slots_to_read(folder, engine, description, weights_only)
    parts = {name: _files(folder, name, description["world"], ranks) for name in engine.tables}
    engine.updates = int(description["updates"])
    read = 0
    for storage in engine.storages:
        storage.clear()
        storage.steps = max(int(description["tables"][name]["steps"]) for name in storage.names)
    for name, table in engine.tables.items():
        for path, rank in parts[name]:
            read += _load_part(table, path, slots[name], first_bucket(rank, description["world"]), ranks)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Loaded(sum(map(len, engine.storages)), read, size)


def _read_description(folder: Path) -> dict[str, Any]:
    """tables.json. ValueError, FileNotFoundError when it is none."""
    path = folder / FILE
    description = read_object(path)
    if description.get("format") != FORMAT or not isinstance(description.get("tables"), dict):
        raise ValueError(f"{path}: expected tables of format {FORMAT}; save them with this version")
    return description


def _slots_to_read(
    folder: Path, engine: EmbeddingEngine, description: Mapping[str, Any], weights_only: bool
) -> dict[str, list[str]]:
    """The slots to read of each table; makes those that the engine lacks. ValueError when the tables are others."""
    path, saved = folder / FILE, description["tables"]
    if saved.keys() != engine.tables.keys():
        missing, more = engine.tables.keys() - saved.keys(), saved.keys() - engine.tables.keys()
        raise ValueError(
            f"{path}: the tables are of other features: missing {sorted(missing)}, not asked for {sorted(more)}"
        )
    if description["seed"] != engine.seed:
        raise ValueError(f"{path}: made with seed {description['seed']}, this engine has {engine.seed}")
    for name, table in engine.tables.items():
        for key, own in (("dim", table.storage.dim), ("init_scale", table.storage.spec.init_scale)):
            if saved[name][key] != own:
                raise ValueError(f"{path}: table {name!r} has {key} {saved[name][key]}, this engine has {own}")
        lacking = [slot for slot in table.storage.slots if slot not in saved[name]["slots"]]
        if lacking and not weights_only:
            raise ValueError(f"{path}: table {name!r} has no {lacking}: saved with another optimizer or eviction")
    if weights_only:
        return {name: [s for s in ("weight", *_TRACKED) if _both(saved, engine, name, s)] for name in saved}
    for name, table in engine.tables.items():
        for slot, (width, dtype) in saved[name]["slots"].items():
            table.storage.add_slot(slot, width, saved[name]["fills"].get(slot, 0.0), _DTYPES[dtype])
    return {name: list(saved[name]["slots"]) for name in saved}


def _both(saved: Mapping[str, Any], engine: EmbeddingEngine, table: str, slot: str) -> bool:
    return slot in saved[table]["slots"] and slot in engine.tables[table].storage.slots


def _files(folder: Path, table: str, world: int, ranks: Ranks) -> list[tuple[Path, int]]:
    """The files of a table that hold buckets of this rank, with the rank that wrote each. ValueError for a bad one."""
    own = ranks.buckets
    found = []
    for rank in range(world):
        if first_bucket(rank, world) < own.stop and own.start < first_bucket(rank + 1, world):
            path = folder / _file(table, rank, world)
            try:
                with safe_open(path, framework="pt") as file:
                    if _IDS not in file.keys():  # noqa: SIM118 (no mapping)
                        raise ValueError(f"{path}: no {_IDS} in it; put back a whole file")
            except (SafetensorError, FileNotFoundError) as error:
                raise ValueError(
                    f"{path}: missing, cut off or no safetensors file ({error}); put back a whole one"
                ) from None
            found.append((path, rank))
    return found


def _load_part(table: Table, path: Path, slots: list[str], written_from: int, ranks: Ranks) -> int:
    """Insert the rows of a file that belong to this rank; returns the bytes read."""
    storage, own = table.storage, ranks.buckets
    with safe_open(path, framework="pt") as file:
        ids = file.get_slice(_IDS)
        start, stop = (_position(table, ids, bucket) for bucket in (own.start, own.stop))
        found = ids[start:stop].to(storage.device)
        tags = torch.full_like(found, table.tag)
        rows = storage.insert(Keys(found, tags, storage.hashed(found, tags)))
        read = found.nbytes
        for name in slots:
            values = file.get_slice(name)[start:stop]
            storage.slots[name][rows] = values.to(storage.device)
            read += values.nbytes
        if storage.sketch is not None and _COUNTS in file.keys():  # noqa: SIM118
            read += _load_counts(storage.sketch.cells[table.tag], file.get_slice(_COUNTS), written_from, own)
    return read


def _position(table: Table, ids: Any, bucket: int) -> int:
    """Where a bucket begins among ids sorted by hash, by bisection: it reads a few ids only."""
    low, high = 0, ids.get_shape()[0]
    if bucket >= BUCKETS:
        return high
    while low < high:
        middle = (low + high) // 2
        one = ids[middle : middle + 1].to(table.storage.device)
        if int(table.storage.hashed(one, torch.full_like(one, table.tag))) < first_hash(bucket):
            low = middle + 1
        else:
            high = middle
    return low


def _load_counts(cells: Tensor, saved: Any, written_from: int, own: range) -> int:
    """The admission's counts of own buckets. ValueError where the sketch has another size."""
    shape = saved.get_shape()
    if list(shape[1:]) != list(cells.shape[1:]):
        raise ValueError(
            f"the admission's counts have {shape[1:]} cells a bucket, this engine's {list(cells.shape[1:])}"
        )
    start, stop = max(own.start, written_from), min(own.stop, written_from + shape[0])
    part = saved[start - written_from : stop - written_from]
    cells[start - own.start : stop - own.start] = part.to(cells.device)
    return part.nbytes
