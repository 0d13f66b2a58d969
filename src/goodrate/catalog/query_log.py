"""What shoppers typed: queries and how often, from a file."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, read_table


def read_query_log(
    path: str | Path, mapping: dict[str, str] | None = None, skip_bad: int = 0
) -> list[tuple[str, float]]:
    """(query, count) of a csv, tsv, jsonl or parquet file: columns query and, if there is one, count (else 1 a row).

    Counts of equal queries are added up; the order is that of the file. mapping: our column -> the file's. Raises
    ValueError with file, row, column and what was expected.
    """
    column_of = {name: (mapping or {}).get(name, name) for name in ("query", "count")}
    table = read_table(path, set(column_of.values()))
    require_columns(table.path, column_of, ["query", *(mapping or {})], table.columns)
    raw = table.frame
    count = as_text(raw, column_of["count"]) if column_of["count"] in raw.columns else pl.lit("1")
    frame = raw.select(
        ROW, as_text(raw, column_of["query"]).alias("query"), count.cast(pl.Float64, strict=False).alias("count")
    )
    problems = [
        *(BadRow(row, "query", "a query, found nothing") for row in _rows(frame, pl.col("query").fill_null("") == "")),
        *(
            BadRow(row, "count", "a number above 0")
            for row in _rows(frame, ~pl.col("count").fill_null(0.0).is_between(0, 1e12, closed="right"))
        ),
    ]
    skipped = tolerate(table.path, [*table.problems, *problems], skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped]))
    added = usable.group_by("query", maintain_order=True).agg(pl.col("count").sum())
    return list(zip(added["query"].to_list(), added["count"].to_list(), strict=True))


def _rows(frame: pl.DataFrame, wrong: pl.Expr) -> list[int]:
    """The row numbers where a condition holds."""
    return frame.filter(wrong)[ROW].to_list()
