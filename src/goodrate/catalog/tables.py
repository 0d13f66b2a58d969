"""Files as tables: text tables, JSON, parquet, workbooks and feeds, plain or .gz or .zst, with the row number of
everything that is wrong."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.delimited import read_delimited
from goodrate.catalog.feeds import read_feed
from goodrate.catalog.json_files import read_json, read_json_lines, records_table
from goodrate.catalog.parquet_file import read_parquet
from goodrate.catalog.problems import tolerate
from goodrate.catalog.raw_table import (
    EXTRAS,
    ROW,
    WHOLE_ROW,
    NoText,
    RawTable,
    Wanted,
    json_objects,
    typed_table,
)  # fmt: skip
from goodrate.catalog.spreadsheet_cells import marked
from goodrate.catalog.workbooks import read_workbook
from goodrate.run_folder import write_atomic

__all__ = [
    "EXTRAS", "ROW", "WHOLE_ROW", "NoText", "RawTable", "frame_table", "json_objects", "read_table", "records_table",
    "unpacked_bytes", "unpacked_name", "write_table",
]  # fmt: skip

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def read_table(path: str | Path, columns: Collection[str], ignored: Collection[str] = ()) -> RawTable:
    """The rows of a file that ends in one of READERS.

    columns: their names to keep as columns; ignored: names to leave out; the others go to EXTRAS. Raises
    FileNotFoundError, or ValueError for an unknown ending, a broken archive, a wrong encoding or an empty file.
    """
    return read_wanted(path, Wanted(frozenset(columns), frozenset(ignored)))


def read_wanted(path: str | Path, wanted: Wanted) -> RawTable:
    """The rows of a file as read_table gives them, with all that can be wanted of them."""
    path = Path(path)
    kind = _kind(path)
    data = unpacked_bytes(path)
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise ValueError(f"{path} is empty; expected at least one row")
    table = READERS[kind](path, data, wanted)
    if table.frame.is_empty() and table.problems:
        tolerate(path, table.problems, 0)  # nothing is left that a column could be missing from
    if table.frame.is_empty():
        raise ValueError(f"{path} has no rows; columns: {', '.join(table.columns)}")
    return table


def frame_table(name: str, frame: Any, columns: Collection[str], ignored: Collection[str] = ()) -> RawTable:
    """The rows of a polars or pandas frame, as a file of that name would give them; rows count from 1.

    Raises ValueError for a frame of another library or without rows.
    """
    return frame_wanted(name, frame, Wanted(frozenset(columns), frozenset(ignored)))


def frame_wanted(name: str, frame: Any, wanted: Wanted) -> RawTable:
    """The rows of a frame as frame_table gives them, with all that can be wanted of them."""
    if hasattr(frame, "to_dict") and not isinstance(frame, pl.DataFrame):  # pandas
        frame = pl.from_pandas(frame)
    if not isinstance(frame, pl.DataFrame):
        raise ValueError(f"expected a polars or pandas frame, found {type(frame).__name__}")
    if frame.is_empty():
        raise ValueError(f"{name} has no rows; columns: {', '.join(frame.columns)}")
    return typed_table(Path(name), frame, wanted)


def write_table(path: Path, frame: pl.DataFrame, otherwise: str = ".csv") -> None:
    """Write a .csv, .parquet or .jsonl file, whole or not at all. otherwise: the form of a file with another ending.

    In a csv, cells that a spreadsheet would run as a formula get a quote in front (catalog.spreadsheet_cells).
    """
    buffer = io.BytesIO()
    writers: dict[str, Callable[..., Any]] = {
        ".csv": marked(frame).write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson,
    }  # fmt: skip
    writers.get(path.suffix.lower(), writers[otherwise])(buffer)
    write_atomic(path, buffer.getvalue())


def unpacked_name(path: Path) -> Path:
    """The path without the ending of an archive."""
    return path.with_suffix("") if path.suffix in COMPRESSIONS else path


def _kind(path: Path) -> str:
    """The ending that says what is inside, below .gz or .zst."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    inner = unpacked_name(path)
    if inner.suffix.lower() not in READERS:
        raise ValueError(f"{path}: cannot read {inner.suffix or 'a name without ending'!r}; expected "
                         f"{', '.join(READERS)}, each also with .gz or .zst")  # fmt: skip
    return inner.suffix.lower()


def unpacked_bytes(path: Path) -> bytes:
    """The unpacked content. Raises ValueError when the archive is broken or cut off."""
    if path.suffix not in COMPRESSIONS:
        return path.read_bytes()
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix]) as stream:
            return stream.read()
    except (OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole {COMPRESSIONS[path.suffix]} file: {error}") from error


def _read_parquet(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """A parquet file; columns keep their types, unless only JSON or text can hold their values."""
    return typed_table(path, read_parquet(path, data), wanted)


READERS: dict[str, Callable[[Path, bytes, Wanted], RawTable]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".txt": read_delimited,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": _read_parquet,
    ".xlsx": read_workbook,
    ".xml": read_feed,
}
