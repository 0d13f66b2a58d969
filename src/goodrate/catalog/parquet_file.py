"""Parquet files of anybody: one that is cut or changed is a ValueError with its name, a panic of the reader too."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl


def read_parquet(path: Path, data: bytes | None = None) -> pl.DataFrame:
    """The table of a file. data: its content, where that was read already.

    Raises ValueError for what is no parquet file, OSError for what cannot be opened.
    """
    try:
        return pl.read_parquet(io.BytesIO(path.read_bytes() if data is None else data))
    except pl.exceptions.PolarsError as error:
        raise _no_file(path, error) from error
    except BaseException as error:  # a panic of the reader over a changed footer is no Exception
        if type(error).__name__ == "PanicException":
            raise _no_file(path, error) from error
        raise


def _no_file(path: Path, error: BaseException) -> ValueError:
    reason = str(error).split("\n")[0][:200]
    return ValueError(f"{path} is not a parquet file: {reason}")
