"""Pairs to judge, read from a file: queries with item texts, or with item ids that a catalogue resolves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from goodrate.catalog.item_ids import IdMatch
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.raters import BY_MODEL
from goodrate.catalog.readers import as_text, query_problems
from goodrate.catalog.spreadsheet_cells import unmarked
from goodrate.catalog.tables import ROW, RawTable, read_table
from goodrate.relevance.pairs import Item, Pair, text_item
from goodrate.scale import RelevanceScale

PAIR_COLUMNS = ("query_id", "query", "item_id", "item_text", "facts", "context", "label", "rater")
ID_COLUMNS = ("query_id", "query", "item_id")  # what the verdicts are written with; item_text where there is no id
FindItems = Callable[[Sequence[str]], Mapping[str, Item]]  # item ids -> the rows of those that exist


@dataclass(frozen=True)
class PairFile:
    """The pairs of a file in row order; None for an item id that nobody knows. shown: their columns for the output.

    labels: what the file says of each pair, as it stands there; None where it says nothing. rows: their numbers in the
    file at `path`. models: the raters of labels that are models.
    """

    pairs: list[Pair | None]
    shown: pl.DataFrame
    skipped: tuple[BadRow, ...]
    labels: list[str | None]
    rows: list[int]
    path: Path
    models: tuple[str, ...] = ()

    @property
    def unknown_items(self) -> int:
        """How many rows name an item that the catalogue does not have."""
        return sum(pair is None for pair in self.pairs)

    @property
    def renamed(self) -> str:
        """What is said of item ids that the catalogue writes otherwise, "" where there are none."""
        if "item_id" not in self.shown.columns:
            return ""
        pairs = zip(self.shown["item_id"], self.pairs, strict=True)
        ids = [(theirs, pair.item.get("id", theirs)) for theirs, pair in pairs if pair is not None]
        schema = {"theirs": pl.String, "ours": pl.String}
        named = pl.DataFrame(ids, schema=schema, orient="row").unique(maintain_order=True)
        return str(IdMatch(named.filter(pl.col("theirs") != pl.col("ours"))))

    def gold(self, scale: RelevanceScale) -> list[int | None]:
        """Label positions of the rows that have a pair; None where the file has no label.

        Raises ValueError with the rows whose label is not on the scale.
        """
        positions: list[int | None] = []
        problems = []
        for row, label, pair in zip(self.rows, self.labels, self.pairs, strict=True):
            try:
                position = scale.index(label) if label else None
            except ValueError as error:
                problems.append(BadRow(row, "label", f"a label of the scale; {error}"))
                continue
            if pair is not None:
                positions.append(position)
        tolerate(self.path, problems, 0)
        return positions


def read_pairs(
    path: str | Path, mapping: dict[str, str] | None = None, find_items: FindItems | None = None, skip_bad: int = 0
) -> PairFile:
    """Read csv, tsv, jsonl or parquet with the columns query and item_text, or query and item_id.

    mapping: our name -> their column. find_items: the catalogue rows of item ids; with it item_id is used,
    without it item_text. query_id, facts, context and label are optional.
    Raises ValueError with file, row, column and what was expected, and when no item id is known.
    """
    names = pair_columns(mapping)
    table = read_table(path, set(names.values()))
    file = pairs_of(table, names, find_items, skip_bad)
    if not file.pairs:
        raise ValueError(f"{table.path} has no usable row")
    if find_items:
        require_known(file)
    return file


def pair_columns(mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Our name -> their column, of all that is read of pairs. ValueError for a mapping of another name."""
    unknown = sorted(set(mapping or {}) - set(PAIR_COLUMNS))
    if unknown:
        raise ValueError(f"--map: no column {unknown[0]!r} in pairs; ours are {', '.join(PAIR_COLUMNS)}")
    return {ours: (mapping or {}).get(ours, ours) for ours in PAIR_COLUMNS}


def pairs_of(
    table: RawTable, names: dict[str, str], find_items: FindItems | None = None, skip_bad: int = 0
) -> PairFile:
    """The pairs of a table, perhaps none. names: see pair_columns. Raises as read_pairs, but for unknown items."""
    needed = "item_id" if find_items else "item_text"
    _require(table, names, needed, {ours: theirs for ours, theirs in names.items() if ours != theirs})
    present = [ours for ours in PAIR_COLUMNS if names[ours] in table.columns]
    frame = table.frame.select(ROW, *(as_text(table.frame, names[ours]).alias(ours) for ours in present))
    frame = unmarked(frame, table.path, PAIR_COLUMNS)
    problems = [*table.problems, *table.text_problems(names), *_empty(frame, ("query", needed), names)]
    problems += query_problems(frame) if "query_id" in present else []
    skipped = tolerate(table.path, problems, skip_bad)
    frame = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped])) if skipped else frame
    items: Sequence[Item | None]
    if find_items:
        row_of = find_items(list(dict.fromkeys(frame["item_id"].to_list())))
        items = [row_of.get(item_id) for item_id in frame["item_id"]]
    else:
        items = [text_item(text) for text in frame["item_text"]]
    shown = frame.select(*(n for n in ID_COLUMNS if n in present), *([] if "item_id" in present else ["item_text"]))
    labels = frame["label"].to_list() if "label" in present else [None] * len(frame)
    models = frame.filter(BY_MODEL)["rater"].unique().sort().to_list() if {"label", "rater"} <= {*present} else []
    return PairFile(_pairs(frame, items), shown, skipped, labels, frame[ROW].to_list(), table.path, tuple(models))


def require_known(file: PairFile) -> None:
    """ValueError when all item ids of a file are unknown."""
    if file.unknown_items == len(file.pairs):
        raise ValueError(f"{file.path}: none of the item ids is in the catalogue, such as {file.shown['item_id'][0]!r}")


def _require(table: RawTable, names: dict[str, str], needed: str, mapping: dict[str, str]) -> None:
    """ValueError when a column is missing; pairs with ids alone are told where item texts come from."""
    lacks_text = needed == "item_text" and names["item_text"] not in table.columns
    if lacks_text and names["item_id"] in table.columns and "item_text" not in mapping:
        raise ValueError(
            f"{table.path} has item ids and no column {names['item_text']!r}: give --catalog FILE or --index DIR, "
            "or name the text's column with --map item_text=COLUMN"
        )
    require_columns(table.path, names, ["query", needed, *mapping], table.columns)


def _empty(frame: pl.DataFrame, columns: Sequence[str], names: dict[str, str]) -> list[BadRow]:
    """The rows in which a needed column is empty."""
    problems = []
    for ours in columns:
        rows = frame.filter(pl.col(ours).fill_null("") == "")[ROW].to_list()
        problems += [BadRow(row, names[ours], "a text, found nothing") for row in rows]
    return problems


def _pairs(frame: pl.DataFrame, items: Sequence[Item | None]) -> list[Pair | None]:
    def column(name: str) -> list[str | None]:
        return frame[name].to_list() if name in frame.columns else [None] * len(frame)

    rows = zip(frame["query"], items, column("facts"), column("context"), strict=True)
    return [None if item is None else Pair(query, item, facts or "", context) for query, item, facts, context in rows]
