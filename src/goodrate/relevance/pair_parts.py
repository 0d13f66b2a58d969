"""A pair file read in parts, so that a large one is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from goodrate.catalog.raw_table import Wanted, typed_table
from goodrate.relevance.pair_file import FindItems, PairFile, pair_columns, pairs_of, read_pairs, require_known


def read_pair_parts(
    path: str | Path, mapping: dict[str, str] | None = None, find_items: FindItems | None = None, skip_bad: int = 0,
    rows: int = 200_000,
) -> Iterator[PairFile]:  # fmt: skip
    """The pairs of a parquet file in parts of so many rows; any other file is one part, and so is a short one.

    The arguments are those of read_pairs, and so is what is raised: where the file is wrong, as it is come to.
    """
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix.lower() != ".parquet" or not path.is_file() or _rows(path) <= rows:
        yield read_pairs(path, mapping, find_items, skip_bad)
        return
    names, left, known, part = pair_columns(mapping), skip_bad, False, None
    for first, frame in _frames(path, set(names.values()), rows):
        table = typed_table(path, frame, Wanted(frozenset(names.values())), first)
        table = replace(table, columns=tuple(pq.read_schema(path).names))
        part = pairs_of(table, names, find_items, left)
        left -= len({problem.row for problem in part.skipped})
        known = known or part.unknown_items < len(part.pairs)
        yield part
    if not known and part is not None and part.pairs:
        require_known(part)


def _rows(path: Path) -> int:
    """How many rows a parquet file has; 0 for what is none, which the reader names."""
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowException

    try:
        return int(pq.read_metadata(path).num_rows)
    except (ArrowException, OSError):
        return 0


def _frames(path: Path, wanted: set[str], rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of the first row, rows) of each part, in the columns that are wanted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 1
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in wanted]
        for batch in file.iter_batches(rows, columns=columns):
            frame = pl.DataFrame(pa.table(batch))
            yield first, frame
            first += len(frame)
