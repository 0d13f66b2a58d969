"""A table that is written part by part, and is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import polars as pl


@contextlib.contextmanager
def growing_file(path: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """What appends rows to a .csv or .jsonl file that appears at `path` when the block ends without an error.

    Every part must have the columns of the first. Raises OSError naming the file where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield lambda frame: _append(file, frame, path.suffix.lower() == ".csv")
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)  # mkstemp makes files that only the owner can read
        os.replace(beside, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        Path(beside).unlink(missing_ok=True)


def _append(file: BinaryIO, frame: pl.DataFrame, csv: bool) -> None:
    if csv:
        from goodrate.catalog.spreadsheet_cells import marked

        marked(frame).write_csv(file, include_header=file.tell() == 0)
    else:
        frame.write_ndjson(file)
