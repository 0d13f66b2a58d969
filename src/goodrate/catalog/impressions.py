"""Impressions: which item stood at which place of the results of a query, and whether it was clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.event_times import EXPECTED, event_times
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, read_table, write_table
from goodrate.catalog.ubi import CLICKED, SEEN, SIGNS, is_ubi, read_ubi

COLUMNS = ("query", "item_id", "position", "clicked")
MAPPED = "--set events_map.{0}"
TRUE, FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")


@dataclass(frozen=True)
class Impressions:
    """N impressions in the order of their file. queries, items: distinct texts. query, item (N,) int32: places in them.
    position (N,) int32, from 1. clicked (N,) bool.
    """

    queries: list[str]
    items: list[str]
    query: np.ndarray
    item: np.ndarray
    position: np.ndarray
    clicked: np.ndarray

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Impressions:
        """Of a frame with COLUMNS: texts, texts, whole numbers from 1, booleans."""
        codes, names = {}, {}
        for name in ("query", "item_id"):
            distinct = frame[name].unique(maintain_order=True)
            places = pl.DataFrame({name: distinct}).with_row_index("place")
            joined = frame.select(name).join(places, on=name, how="left", maintain_order="left")
            codes[name], names[name] = joined["place"].to_numpy().astype(np.int32), distinct.to_list()
        numbers = frame["position"].to_numpy().astype(np.int32), frame["clicked"].to_numpy().astype(bool)
        return cls(names["query"], names["item_id"], codes["query"], codes["item_id"], *numbers)


@dataclass(frozen=True)
class ImpressionLog:
    """What was shown and clicked. frame: query, item_id, position (null where nothing says it), clicked, time (UTC).

    skipped: rows that were left out and why. notes: what was taken how.
    """

    frame: pl.DataFrame
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def write(self, path: str | Path) -> None:
        """As parquet, csv or jsonl by the ending; parquet is what `stream_events` reads."""
        write_table(Path(path), self.frame, ".parquet")


def read_impressions(
    files: str | Path | Sequence[str | Path], *, mapping: Mapping[str, str] | None = None, clicks: Sequence[str] = (),
    impressions: Sequence[str] = (), skip_bad: int = 0,
) -> ImpressionLog:  # fmt: skip
    """Impressions of UBI files (queries and events), or of tables of query, item_id, position, clicked and time.

    files: one or several (csv, tsv, jsonl, parquet, ...), or a folder, all of whose files are read by name. mapping:
    our column -> the table's. clicks, impressions: names of UBI actions that are one; those of catalog/ubi.py unless
    given. Raises FileNotFoundError, and ValueError with file, row, column and what was expected: a position below 1, a
    click that is neither 0 nor 1, an empty query or item, a time that is none.
    """
    named = _files(Path(files)) if isinstance(files, str | Path) else [Path(file) for file in files]
    if not named:
        raise ValueError("no event file is named")
    if mapping is None and is_ubi(read_table(named[0], SIGNS[0] | SIGNS[1]).columns):
        read = read_ubi(named, clicks or CLICKED, impressions or SEEN, skip_bad)
        return ImpressionLog(read.frame, read.skipped, read.notes)
    if clicks or impressions:
        raise ValueError(f"{named[0]} is no UBI file, the only kind in which actions have names")
    frames = [_read(file, dict(mapping or {}), skip_bad) for file in named]
    return ImpressionLog(pl.concat(frames, how="diagonal"))


def placed_impressions(path: str | Path, mapping: dict[str, str] | None = None, skip_bad: int = 0) -> pl.DataFrame:
    """COLUMNS, and time where a file has one, of those impressions that say where the item stood: a click without a
    position teaches nothing of positions. path, mapping, errors: as read_impressions.
    """
    return read_impressions(path, mapping=mapping, skip_bad=skip_bad).frame.filter(pl.col("position").is_not_null())


def _files(path: Path) -> list[Path]:
    """The file, or those of the folder. ValueError for a folder without one."""
    found = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._") if path.is_dir() else [path]
    if not found:
        raise ValueError(f"{path} holds no event file")
    return found


def _read(path: Path, mapping: dict[str, str], skip_bad: int) -> pl.DataFrame:
    """The impressions of one file."""
    column_of = {name: mapping.get(name, name) for name in (*COLUMNS, "time")}
    table = read_table(path, set(column_of.values()))
    require_columns(table.path, column_of, [*COLUMNS, *mapping], table.columns, MAPPED)
    raw = table.frame
    texts = {name: as_text(raw, column_of[name]).str.strip_chars().fill_null("") for name in COLUMNS}
    clicked = texts["clicked"].str.to_lowercase()
    frame = raw.select(
        ROW,
        texts["query"].alias("query"),
        texts["item_id"].alias("item_id"),
        texts["position"].cast(pl.Float64, strict=False).alias("position"),
        pl.when(clicked.is_in(TRUE)).then(True).when(clicked.is_in(FALSE)).then(False).alias("clicked"),
    )
    timed = column_of["time"] in raw.columns
    if timed:
        frame = frame.with_columns(event_times(raw.select(as_text(raw, column_of["time"]).alias("time")).to_series()))
    whole = (pl.col("position") >= 1) & (pl.col("position") <= 1e6) & (pl.col("position") % 1 == 0)
    bad = {
        "query": ("query to be filled, found nothing", pl.col("query") == ""),
        "item_id": ("item_id to be filled, found nothing", pl.col("item_id") == ""),
        "position": ("a whole number from 1", ~whole.fill_null(False)),
        "clicked": ("0 or 1", pl.col("clicked").is_null()),
    }
    problems = [BadRow(row, column_of[name], told) for name, (told, is_bad) in bad.items()
                for row in frame.filter(is_bad)[ROW]]  # fmt: skip
    if timed:
        problems += [BadRow(row, column_of["time"], EXPECTED) for row in frame.filter(pl.col("time").is_null())[ROW]]
    problems += table.text_problems({name: column_of[name] for name in ("query", "item_id")})
    skipped = tolerate(table.path, [*table.problems, *problems], skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped]))
    return usable.select(*COLUMNS, *(["time"] if timed else [])).with_columns(pl.col("position").cast(pl.Int32))
