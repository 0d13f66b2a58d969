"""The LanceDB table of an index: how it is opened, what its rows look like, and what its damage is called."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from goodrate.catalog.items import ITEM_COLUMNS
from goodrate.retrieval.manifest import TABLE_FOLDER, way_out
from goodrate.retrieval.remote import address, storage_options

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = TABLE_FOLDER.removesuffix(".lance")
REMOTE_LOOK = timedelta(seconds=1)
# What the engine says when a file is missing, cut or overwritten; everything else is about what was asked of it.
_DAMAGE = re.compile(
    r"Not found: |Table '\w+' was not found|LanceError\(IO\)|a Lance file|[Cc]orrupt|failed to fill|os error"
    r"|failed to decode|metadata region|in data file"
    r"|No field named id\b|FTS field path|column vector does not exist"  # a table that has lost its columns
)
# The engine read nonsense and gave up: in a call that waits for its answer, or in a task behind one that does not.
_PANICS = ("PanicException", "RustPanic")
# A full disk, no permission, too many open files, a read-only file system, a quota: the files are as they were.
_REFUSED = re.compile(r"\(os error (28|13|24|30|122)\)")


class IndexDamaged(ValueError):
    """A file of the index is missing, cut or overwritten."""


@contextlib.contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Turn what the engine says of broken files, panics included, into IndexDamaged with the folder and the way out."""
    try:
        yield
    except IndexDamaged:
        raise
    except BaseException as error:  # a panic of the engine is no Exception
        if not _is_of_files(error):
            raise
        raise _named(error, folder) from error


def _is_of_files(error: BaseException) -> bool:
    """Whether the engine means its files, not the question."""
    if type(error).__name__ in _PANICS:
        return True
    return isinstance(error, (ValueError, RuntimeError, OSError)) and bool(_DAMAGE.search(str(error)))


def _named(error: BaseException, folder: Path) -> Exception:
    """The error for a reader of the command line: which folder, what is wrong, what to do."""
    reason, place = _first_line(error), folder / TABLE_FOLDER
    refused = _REFUSED.search(reason)
    if refused:
        return OSError(int(refused[1]), os.strerror(int(refused[1])), str(place))
    mend = f"any goodrate index --out {folder} mends it" if "_indices/" in reason else way_out(folder)
    return IndexDamaged(f"{place} is damaged: {reason}; {mend}")


def _first_line(error: BaseException) -> str:
    """The engine's reason without where in its own sources it found it."""
    return re.sub(r",? ?/\S+\.rs:\d+(:\d+)?", "", str(error).split("\n")[0]).removeprefix("lance error: ")


def create_table(folder: Path, dimension: int | None) -> Any:
    """A new, empty table in the place of one that was left unfinished."""
    shutil.rmtree(folder / TABLE_FOLDER, ignore_errors=True)
    database = _connect(folder)
    if address(folder) is not None:
        database.drop_table(TABLE, ignore_missing=True)
    return database.create_table(TABLE, schema=schema(dimension), mode="overwrite")


def open_table(folder: Path, dimension: int | None, version: int | None = None) -> Any:
    """The table of an index. version: an older state, for reading only; ValueError for one that is not kept."""
    with damage_named(folder):
        if address(folder) is None and not (folder / TABLE_FOLDER).is_dir():
            raise _named(ValueError("there is no such folder"), folder)
        table = _connect(folder).open_table(TABLE)
        missing = [name for name in schema(dimension).names if name not in table.schema.names]
        if missing:
            raise _named(ValueError(f"it has no column {missing[0]}"), folder)
        if version is not None:
            versions = [entry["version"] for entry in table.list_versions()]
            if version not in versions:
                raise ValueError(f"{folder} has no version {version}; it keeps {versions[0]} to {versions[-1]}")
            table.checkout(version)
    return table


def _connect(folder: Path) -> Any:
    """The LanceDB database of a folder; what others write to it is seen by the next read (half a millisecond).

    On S3 it is seen after REMOTE_LOOK at the latest: each look is a request.
    """
    # Its engine logs "no existing dataset" as a warning whenever a table is made.
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    place = address(folder)
    if place is not None:
        return lancedb.connect(place, read_consistency_interval=REMOTE_LOOK, storage_options=storage_options())
    # Whole, or the engine takes a name with a colon for an address.
    return lancedb.connect(str(Path(folder).absolute()), read_consistency_interval=timedelta(0))


def schema(dimension: int | None) -> pa.Schema:
    """The columns of the table."""
    import pyarrow as pa

    numbers = {"price", "rating"}
    fields = [(name, pa.float64() if name in numbers else pa.string()) for name in ITEM_COLUMNS]
    vector = [("vector", pa.list_(pa.float32(), dimension))] if dimension else []
    texts = ("text", "attribute_text", "identifiers", "text_hash", "title_normal")
    lists = [(name, pa.list_(pa.string())) for name in ("tags", "facets")]
    return pa.schema([*fields, *((name, pa.string()) for name in texts), *lists, *vector])


def rows(frame: pl.DataFrame, vectors: np.ndarray | None) -> pa.Table:
    """An Arrow table for one commit; without vectors it has no column of them."""
    import pyarrow as pa

    wanted = schema(None if vectors is None else vectors.shape[1])
    columns = {name: frame[name].to_arrow().cast(wanted.field(name).type) for name in frame.columns}
    if vectors is not None:
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table([columns[name] for name in wanted.names], schema=wanted)


def id_condition(ids: list[str]) -> str:
    """SQL that is true for these ids."""
    return "id IN (" + ", ".join("'" + item.replace("'", "''") + "'" for item in ids) + ")"
