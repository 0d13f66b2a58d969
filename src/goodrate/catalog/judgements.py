"""Judgements: which label people (or an oracle) gave to a query and an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.catalog.formats import JUDGEMENT_FORMATS, Format, find_format, keep_locale, resolve_columns
from goodrate.catalog.item_ids import match_ids
from goodrate.catalog.items import Catalog
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text, query_problems
from goodrate.catalog.splits import split_by_group
from goodrate.catalog.tables import EXTRAS, ROW, RawTable, frame_table, read_table, records_table
from goodrate.scale import RelevanceScale
from goodrate.strict_json import kind, read

JUDGEMENT_COLUMNS = ("query_id", "query", "item_id", "label")
MAPPED = "--map {0}, in training --set data.judgements_map.{0}"


@dataclass(frozen=True)
class JoinReport:
    """What joining judgements with a catalogue kept and lost. Lost pairs are unknown, never grade 0.

    renamed: what is said of ids that the catalogue writes otherwise, "" where there are none.
    """

    pairs: int
    joined: int
    unknown_items: int
    lost_queries: int
    renamed: str = ""

    def __str__(self) -> str:
        lost = f"; {self.unknown_items:,} judged items are not in the catalogue" if self.unknown_items else ""
        queries = f" and {self.lost_queries:,} queries lost all their items" if self.lost_queries else ""
        renamed = f"; {self.renamed}" if self.renamed else ""
        return f"{self.joined:,} of {self.pairs:,} judgements join the catalogue{lost}{queries}{renamed}"


class Judgements:
    """Labels of (query, item) pairs on one scale.

    frame: query_id, query, item_id, label, all text; one row a pair. skipped: bad rows that the reader left out.
    join_report: what joining with a catalogue lost, None before it. Raises ValueError for a missing column, a label
    that is not on the scale, a pair that occurs twice and a query id with two texts.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        scale: RelevanceScale,
        skipped: tuple[BadRow, ...] = (),
        join_report: JoinReport | None = None,
    ) -> None:
        missing = [name for name in JUDGEMENT_COLUMNS if name not in frame.columns]
        if missing:
            raise ValueError(f"judgements have no column {missing[0]!r}; found: {', '.join(frame.columns)}")
        canonical = {label: scale.labels[scale.index(label)] for label in frame["label"].unique()}
        label = pl.col("label").replace_strict(canonical, default=None, return_dtype=pl.String)
        self.frame = frame.select(*(pl.col(n).cast(pl.String) for n in JUDGEMENT_COLUMNS[:3]), label)
        self.scale = scale
        self.skipped = skipped
        self.join_report = join_report
        doubled = self.frame.filter(pl.struct("query_id", "item_id").is_duplicated())
        if len(doubled):
            query, item = doubled.select("query_id", "item_id").row(0)
            raise ValueError(f"query {query!r} and item {item!r} are judged more than once")
        several = self.frame.group_by("query_id", maintain_order=True).agg(pl.col("query").unique(maintain_order=True))
        several = several.filter(pl.col("query").list.len() > 1)
        if len(several):
            query_id, texts = several.row(0)
            raise ValueError(f"query id {query_id!r} has two texts, {texts[0]!r} and {texts[1]!r}; expected one")

    def __len__(self) -> int:
        return len(self.frame)

    def label_indices(self) -> np.ndarray:
        """Label positions, 0 = worst, int64 (N,), in row order."""
        return self.scale.indices(self.frame["label"])

    def qrels(self) -> dict[str, dict[str, int]]:
        """query_id -> item_id -> label position (0 = worst)."""
        rows: dict[str, dict[str, int]] = {}
        pairs = self.frame.select("query_id", "item_id").iter_rows()
        for (query_id, item_id), index in zip(pairs, self.label_indices().tolist(), strict=True):
            rows.setdefault(query_id, {})[item_id] = index
        return rows

    def queries(self) -> dict[str, str]:
        """query_id -> query text, in the order of first appearance."""
        return dict(self.frame.select("query_id", "query").unique("query_id", keep="first", maintain_order=True).rows())

    def select(self, query_ids: Sequence[str] | set[str]) -> Judgements:
        """The judgements of these queries."""
        return Judgements(
            self.frame.filter(pl.col("query_id").is_in(list(query_ids))), self.scale, self.skipped, self.join_report
        )

    def join(self, catalog: Catalog) -> Judgements:
        """The judgements whose item is in the catalogue; `join_report` says what was lost. ValueError when none is.

        Ids that are not there as they stand are looked for without ".0" and leading zeros, and said (see item_ids).
        """
        match = match_ids(self.frame["item_id"], catalog.frame["id"])
        frame = self.frame.with_columns(match.apply(self.frame["item_id"]))
        in_catalog = frame.filter(pl.col("item_id").is_in(catalog.ids))
        if in_catalog.is_empty():
            raise ValueError(
                f"none of the {self.frame['item_id'].n_unique():,} judged items is in the catalogue: judgements name "
                f"{self.frame['item_id'].head(3).to_list()}, the catalogue {catalog.ids[:3]}"
            )
        unknown = frame.filter(~pl.col("item_id").is_in(catalog.ids))["item_id"].n_unique()
        lost = self.frame["query_id"].n_unique() - in_catalog["query_id"].n_unique()
        report = JoinReport(len(self), len(in_catalog), unknown, lost, str(match))
        return Judgements(in_catalog, self.scale, self.skipped, report)

    def split(self, *shares: float, seed: int = 0) -> tuple[Judgements, ...]:
        """Parts of these shares of the queries, such as split(0.8, 0.1, 0.1); near-identical queries stay together.

        A part can be empty where there are few queries. Raises ValueError for shares that cannot be.
        """
        names = {f"part {number}": share for number, share in enumerate(shares, start=1)}
        return tuple(self.split_by_name(names, seed).values())

    def split_by_name(self, shares: dict[str, float], seed: int = 0) -> dict[str, Judgements]:
        """Named parts of these shares of the queries, apart by query group (catalog.splits)."""
        queries = self.queries()
        texts = split_by_group(list(queries.values()), shares, seed)
        return {
            name: self.select({query_id for query_id, text in queries.items() if text in texts[name]})
            for name in shares
        }

    def __repr__(self) -> str:
        return f"Judgements of {len(self):,} pairs, {self.frame['query_id'].n_unique():,} queries, {self.scale.name}"


def read_judgements(
    path: str | Path,
    scale: RelevanceScale,
    format: str | None = None,
    mapping: dict[str, str] | None = None,
    skip_bad: int = 0,
) -> Judgements:
    """The judgements of a csv, tsv, jsonl or parquet file, plain or .gz or .zst, or of a nested .json list.

    Columns query, item_id, label and, when queries have ids, query_id; without it the query text is the id. format:
    esci (examples parquet), wands (label.csv with query.csv beside it), chorus (ratings.csv). Equal repeats of a pair
    are dropped; a pair with two labels and a query id with another text than before are bad rows. Raises ValueError
    with file, row, column and what was expected.
    """
    path = Path(path)
    layout, locale, column_of = _columns(format, mapping)
    table = _table(path, {*column_of.values(), *layout.locale_columns})
    if format == "wands" and column_of["query"] not in table.frame.columns:
        table = replace(table, frame=_with_wands_queries(table.frame, path, column_of))
    return _judgements(table, scale, layout, locale, column_of, list(mapping or {}), skip_bad)


def frame_judgements(
    frame: Any, scale: RelevanceScale, format: str | None = None, mapping: dict[str, str] | None = None,
    skip_bad: int = 0,
) -> Judgements:  # fmt: skip
    """The judgements of a polars or pandas frame, checked like those of a file: see read_judgements."""
    layout, locale, column_of = _columns(format, mapping)
    table = frame_table("frame", frame, {*column_of.values(), *layout.locale_columns})
    return _judgements(table, scale, layout, locale, column_of, list(mapping or {}), skip_bad)


def _columns(format: str | None, mapping: dict[str, str] | None) -> tuple[Format, str | None, dict[str, str]]:
    """The layout of a format, its locale, and our name -> their column."""
    layout, locale = find_format(format, JUDGEMENT_FORMATS)
    candidates = resolve_columns(JUDGEMENT_COLUMNS, layout, mapping)
    return layout, locale, {ours: names[0] for ours, names in candidates.items()}


def _judgements(
    table: RawTable, scale: RelevanceScale, layout: Format, locale: str | None, column_of: dict[str, str],
    mapped: list[str], skip_bad: int,
) -> Judgements:  # fmt: skip
    """The judgements of a table. mapped: our names that the user mapped by hand."""
    raw = keep_locale(table.frame, layout, locale)
    columns = [*table.columns, *(name for name in raw.columns if name not in (*table.columns, ROW, EXTRAS))]
    require_columns(table.path, column_of, ["query", "item_id", "label", *mapped], columns, MAPPED)
    if column_of["query_id"] not in raw.columns:
        raw = raw.with_columns(pl.col(column_of["query"]).alias(column_of["query_id"]))
    frame = raw.select(ROW, *(as_text(raw, column_of[name]).alias(name) for name in JUDGEMENT_COLUMNS))
    problems = [*table.problems, *table.text_problems(column_of), *query_problems(frame)]
    frame = frame.unique(["query_id", "item_id", "label"], keep="first", maintain_order=True)
    skipped = tolerate(table.path, [*problems, *_problems(frame, scale)], skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped])) if skipped else frame
    if usable.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    return Judgements(usable.drop(ROW), scale, skipped)


def _table(path: Path, columns: set[str]) -> RawTable:
    """The rows of the file; a folder means its label.csv, a .json file a list of queries with their judgements."""
    if path.is_dir():
        path = path / "label.csv"
    return _nested_json(path, columns) if path.suffix == ".json" and path.is_file() else read_table(path, columns)


def _nested_json(path: Path, columns: set[str]) -> RawTable:
    """A list of {query, judgments: [{product_id, esci_label, ...}]} as one row a pair; ROW counts the pairs."""
    lists = read(path)
    if not isinstance(lists, list) or not lists:
        raise ValueError(f"{path} is not a list of objects with query and judgments, found {kind(lists)}")
    return records_table(path, enumerate(_nested_pairs(path, lists), start=1), columns)


def _nested_pairs(path: Path, lists: list[Any]) -> Iterator[dict[str, Any]]:
    """One record for each judgement, with what its query says. Raises ValueError with the entry's number."""
    expected = 'expected an object such as {"query": "lamp", "judgments": [{"item_id": "a", "label": 4}]}'
    for number, entry in enumerate(lists, start=1):
        judged = entry.get("judgments") if isinstance(entry, dict) else None
        if not isinstance(judged, list) or not all(isinstance(pair, dict) for pair in judged):
            raise ValueError(f"{path}, entry {number} of the list: {expected}")
        of_query = {name: value for name, value in entry.items() if name != "judgments"}
        yield from ({**of_query, **pair} for pair in judged)


def _with_wands_queries(raw: pl.DataFrame, path: Path, column_of: dict[str, str]) -> pl.DataFrame:
    """WANDS keeps the query texts in query.csv, beside label.csv."""
    beside = (path if path.is_dir() else path.parent) / "query.csv"
    if not beside.is_file():
        raise FileNotFoundError(f"no such file: {beside}; WANDS labels need it for the text of the queries")
    texts = read_table(beside, {"query_id", "query"})
    require_columns(beside, {"query_id": "query_id", "query": "query"}, ["query_id", "query"], texts.columns)
    query_texts = texts.frame.select(
        pl.col("query_id").alias(column_of["query_id"]), pl.col("query").alias(column_of["query"])
    )
    return raw.join(query_texts, on=column_of["query_id"], how="left", maintain_order="left")


def _problems(frame: pl.DataFrame, scale: RelevanceScale) -> list[BadRow]:
    """Empty values, labels that are not on the scale, pairs with two labels."""
    problems = []
    for name in JUDGEMENT_COLUMNS:
        empty = frame.filter(pl.col(name).is_null() | (pl.col(name) == ""))
        problems += [BadRow(row, name, f"{name} to be filled, found nothing") for row in empty[ROW]]
    accepted = ", ".join([*scale.labels, *scale.aliases])
    for label in frame["label"].drop_nulls().unique().sort():
        if label and not _on_scale(label, scale):
            rows = frame.filter(pl.col("label") == label)[ROW]
            problems += [BadRow(row, "label", f"one of {accepted} ({scale.name}), found {label!r}") for row in rows]
    first = pl.col(ROW).min().over("query_id", "item_id").alias("first")
    other = frame.with_columns(first).filter(pl.col(ROW) > pl.col("first"))
    twice = "one label a pair; row {} gives another"
    return problems + [BadRow(row, "label", twice.format(seen)) for row, seen in other.select(ROW, "first").rows()]


def _on_scale(label: str, scale: RelevanceScale) -> bool:
    """Whether the scale knows the label."""
    try:
        scale.index(label)
    except ValueError:
        return False
    return True
