"""Behaviour: which items shoppers chose after which query, from a file of clicks or purchases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from goodrate.catalog.impressions import FALSE, TRUE
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, read_table

MAPPED = "--set data.behaviour_map.{0}"


@dataclass(frozen=True)
class Clicks:
    """frame: query, item_id, weight, one row a pair; repeats of a pair are added up. skipped: bad rows left out."""

    frame: pl.DataFrame
    skipped: tuple[BadRow, ...] = ()


def read_clicks(path: str | Path, mapping: dict[str, str] | None = None, skip_bad: int = 0) -> Clicks:
    """Clicks of a csv, tsv, jsonl or parquet file: columns query, item_id and, if there is one, weight (else 1 a row).

    A file of impressions, with a column clicked (0 or 1) and no weight, gives the rows that were clicked. mapping: our
    column -> the file's. Raises ValueError with file, row, column and what was expected.
    """
    column_of = {name: (mapping or {}).get(name, name) for name in ("query", "item_id", "weight", "clicked")}
    table = read_table(path, set(column_of.values()))
    require_columns(table.path, column_of, ["query", "item_id", *(mapping or {})], table.columns, MAPPED)
    raw = table.frame
    weighed, shown = (column_of[name] in raw.columns for name in ("weight", "clicked"))
    weight = as_text(raw, column_of["weight"]) if weighed else pl.lit("1")
    clicked = as_text(raw, column_of["clicked"]).str.to_lowercase() if shown and not weighed else pl.lit("1")
    texts = (as_text(raw, column_of[name]).str.strip_chars().alias(name) for name in ("query", "item_id"))
    frame = raw.select(ROW, *texts, weight.cast(pl.Float64, strict=False).alias("weight"), clicked.alias("clicked"))
    problems = [
        BadRow(row, name, f"{name} to be filled, found nothing")
        for name in ("query", "item_id")
        for row in frame.filter(pl.col(name).fill_null("") == "")[ROW]
    ]
    unsound = frame.filter(~(pl.col("weight").fill_null(0.0).is_between(0, 1e12, closed="right")))
    problems += [BadRow(row, "weight", "a number above 0") for row in unsound[ROW]]
    problems += [BadRow(row, "clicked", "0 or 1") for row in frame.filter(~_is(TRUE + FALSE))[ROW]]
    problems += table.text_problems({name: column_of[name] for name in ("query", "item_id")})
    skipped = tolerate(table.path, [*table.problems, *problems], skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped]) & _is(TRUE))
    if usable.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    added = usable.group_by("query", "item_id", maintain_order=True).agg(pl.col("weight").sum())
    return Clicks(added, skipped)


def _is(words: tuple[str, ...]) -> pl.Expr:
    """Whether the column clicked is one of these words."""
    return pl.col("clicked").is_in(words).fill_null(False)
