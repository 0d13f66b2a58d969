"""Judgements: which label people (or an oracle) gave to a query and an item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from goodrate.catalog.formats import JUDGEMENT_FORMATS, Format, find_format, keep_locale, resolve_columns
from goodrate.catalog.item_ids import match_ids
from goodrate.catalog.items import Catalog
from goodrate.catalog.judgement_formats import FILE_FORMATS, Wanted, judgement_table, told_format
from goodrate.catalog.judgement_reports import JoinReport, ReadReport
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.query_texts import with_texts
from goodrate.catalog.raters import (
    PAIR,
    RATER_COLUMNS,
    chosen_columns,
    chosen_labels,
    label_problems,
    likely_raters,
    long_form,
    merged,
)
from goodrate.catalog.readers import as_text, query_problems
from goodrate.catalog.splits import split_by_group
from goodrate.catalog.spreadsheet_cells import unmarked
from goodrate.catalog.tables import EXTRAS, ROW, RawTable, frame_table, read_table
from goodrate.scale import LabelsBy, Merge, RelevanceScale, tell_scale

JUDGEMENT_COLUMNS = ("query_id", "query", "item_id", "label")
BLANK = ("", "null", "nan")  # what stands where nobody rated
MAPPED = "--map {0}, in training --set data.judgements_map.{0}"


class Judgements:
    """Labels of (query, item) pairs on one scale.

    frame: query_id, query, item_id, label, all text; one row a pair. skipped: bad rows that the reader left out.
    join_report: what joining with a catalogue lost, None before it. read: what the reader did, and all raters' labels.
    Raises ValueError for a missing column, a label that is not on the scale, a pair that occurs twice and a query id
    with two texts.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        scale: RelevanceScale,
        skipped: tuple[BadRow, ...] = (),
        join_report: JoinReport | None = None,
        read: ReadReport | None = None,
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
        self.read = read or ReadReport()
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
        kept = self.frame.filter(pl.col("query_id").is_in(list(query_ids)))
        return Judgements(kept, self.scale, self.skipped, self.join_report, self._read_of(kept))

    def _read_of(self, kept: pl.DataFrame, renamed: Callable[[pl.Series], pl.Series] | None = None) -> ReadReport:
        """What was read, with the ratings of these pairs. renamed: item ids as `kept` has them."""

        def of_kept(frame: pl.DataFrame) -> pl.DataFrame:
            named = frame if renamed is None else frame.with_columns(renamed(frame["item_id"]))
            return named.join(kept.select(PAIR), on=PAIR, how="semi")

        ratings, models = self.read.ratings, self.read.models
        if models is not None:
            pairs = of_kept(models.pairs)
            models = replace(models, pairs=pairs, people=len(kept) - len(pairs))
        return replace(self.read, ratings=None if ratings is None else of_kept(ratings), models=models)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that made some of the labels, as their rater is called; none where all are people's."""
        made = self.read.models
        return made.names if made is not None and len(made.pairs) else ()

    def require_one_kind(self) -> None:
        """ValueError where people labelled some pairs and a model others: no report mixes them."""
        if self.models and len(self.of_people()):
            raise ValueError(
                f"these labels are people's and those of {', '.join(self.models)}, and no report mixes them: take one "
                "of them (--labels-by people or model, in training data.labels_by, in Python labels_by=)"
            )

    def of_people(self) -> Judgements:
        """The judgements whose label is a person's."""
        if not self.models or self.read.models is None:
            return self
        kept = self.frame.join(self.read.models.pairs, on=PAIR, how="anti", maintain_order="left")
        return Judgements(kept, self.scale, self.skipped, self.join_report, self._read_of(kept))

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be said of how they were read: blank ratings, repeats, how raters were merged."""
        return self.read.lines()

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
        return Judgements(in_catalog, self.scale, self.skipped, report, self._read_of(in_catalog, match.apply))

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
    scale: RelevanceScale | None = None,
    format: str | None = None,
    mapping: dict[str, str] | None = None,
    skip_bad: int = 0,
    queries: str | None = None,
    raters: Sequence[str] = (),
    merge: Merge | None = None,
    labels_by: LabelsBy = "people",
) -> Judgements:
    """The judgements of a table (csv, tsv, jsonl, parquet, JSON list; plain, .gz or .zst) or another tool's file.

    Columns query, item_id, label and, when queries have ids, query_id; without it the query text is the id. scale:
    None = the one known scale that all labels are on. format: one of JUDGEMENT_FORMATS, None = told by the content.
    queries: a file with the texts of query ids, or "ids" where the ids are the texts. raters: columns (or patterns such
    as agent_*_rating) that hold one rater's labels each. merge: how several labels of a pair become one; None = median
    where the file names its raters, else a pair with two labels is a bad row. labels_by: whose labels, where
    some raters are models (catalog.raters.MODEL). Blank labels are left out and counted.

    Raises ValueError with file, row, column and what was expected.
    """
    path = Path(path)
    source = path / "label.csv" if path.is_dir() else path
    told = told_format(source) if format is None else None
    how = _How.of(scale, format or told, mapping, skip_bad, queries, raters, merge, labels_by)
    if raters and how.format not in FILE_FORMATS:
        how = replace(how, raters=tuple(chosen_columns(read_table(source, ()).columns, raters, source)))
    table = judgement_table(source, how.format, how.wanted_columns(), how.wanted())
    if how.format == "wands" and how.column_of(table)["query"] not in table.frame.columns:
        table = replace(table, frame=_with_wands_queries(table.frame, path, how.column_of(table)))
    return _judgements(table, how, told)


def frame_judgements(
    frame: Any, scale: RelevanceScale | None = None, format: str | None = None, mapping: dict[str, str] | None = None,
    skip_bad: int = 0, queries: str | None = None, raters: Sequence[str] = (), merge: Merge | None = None,
    labels_by: LabelsBy = "people",
) -> Judgements:  # fmt: skip
    """The judgements of a polars or pandas frame, checked like those of a file: see read_judgements."""
    how = _How.of(scale, format, mapping, skip_bad, queries, raters, merge, labels_by)
    if raters:
        how = replace(how, raters=tuple(chosen_columns(list(frame.columns), raters, "frame")))
    return _judgements(frame_table("frame", frame, how.wanted_columns()), how, None)


@dataclass(frozen=True)
class _How:
    """How to read judgements. candidates: our name -> the columns to try."""

    scale: RelevanceScale | None
    format: str | None
    layout: Format
    locale: str | None
    mapping: dict[str, str]
    candidates: dict[str, list[str]]
    skip_bad: int
    queries: str | None
    raters: tuple[str, ...]
    merge: Merge | None
    labels_by: LabelsBy

    @staticmethod
    def of(
        scale: RelevanceScale | None, format: str | None, mapping: dict[str, str] | None, skip_bad: int,
        queries: str | None, raters: Sequence[str], merge: Merge | None, labels_by: LabelsBy,
    ) -> _How:  # fmt: skip
        if labels_by not in get_args(LabelsBy):
            raise ValueError(f"labels_by {labels_by!r}: expected one of {', '.join(get_args(LabelsBy))}")
        layout, locale = find_format(format, JUDGEMENT_FORMATS)
        candidates = resolve_columns((*JUDGEMENT_COLUMNS, "rater"), layout, mapping)
        base = format.partition(":")[0] if format else None
        if base in FILE_FORMATS:
            _refuse_columns(base, mapping or {}, raters)
            candidates = {name: [name] for name in candidates}
        elif not (mapping and "rater" in mapping):
            candidates["rater"] = list(RATER_COLUMNS)
        if raters and mapping and {"label", "rater"} & set(mapping):
            raise ValueError("--raters names columns of labels; leave label and rater out of --map")
        return _How(
            scale, base, layout, locale, mapping or {}, candidates, skip_bad, queries, tuple(raters), merge, labels_by
        )  # fmt: skip

    def wanted_columns(self) -> set[str]:
        """All columns that a table has to keep."""
        names = {name for names in self.candidates.values() for name in names}
        return {*names, *self.raters, *self.layout.locale_columns}

    def wanted(self) -> Wanted:
        """What a foreign layout has to be told."""
        return Wanted(self.mapping.get("query"), self.queries is not None)

    def column_of(self, table: RawTable) -> dict[str, str]:
        """Our name -> theirs: the first that the table has."""
        return {
            ours: next((name for name in names if name in table.frame.columns), names[0])
            for ours, names in self.candidates.items()
        }


def _refuse_columns(format: str, mapping: dict[str, str], raters: Sequence[str]) -> None:
    """ValueError for what is about columns where a layout has none; an RRE or _rank_eval query has names inside."""
    allowed = {"query"} if format in ("rre", "rank_eval") else set()
    if raters or set(mapping) - allowed:
        raise ValueError(f"--map and --raters name columns; a file in the format {format} has its own")


def _judgements(table: RawTable, how: _How, told: str | None) -> Judgements:
    """The judgements of a table. told: the layout that the content told."""
    raw = keep_locale(table.frame, how.layout, how.locale)
    column_of = how.column_of(table)
    frame, problems, note = _texts(table, raw, how, column_of)
    read = len(frame)
    blank = pl.col("label").fill_null("").str.to_lowercase().is_in(BLANK)
    frame = frame.filter(~blank)
    if frame.is_empty() and not problems:
        raise ValueError(f"{table.path}: all {read:,} ratings are blank; expected labels in {column_of['label']!r}")
    scale = how.scale or _told_scale(table, frame, problems, how.skip_bad)
    frame = _canonical(frame, scale)
    rated = len(frame)
    if how.merge is None or "rater" in frame.columns:  # else rows that say the same are votes of several people
        frame = frame.unique([name for name in frame.columns if name not in (ROW, "query")], maintain_order=True)
    problems += [*query_problems(frame), *_problems(frame, scale), *label_problems(frame, how.merge)]
    skipped = tolerate(table.path, problems, how.skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped])) if skipped else frame
    if usable.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    report = ReadReport(
        told, None if how.scale else scale.name, read, read - rated, rated - len(frame), notes=(note,) if note else ()
    )
    return _merged(usable.drop(ROW), scale, skipped, report, how, table.path)


def _told_scale(table: RawTable, frame: pl.DataFrame, problems: list[BadRow], skip_bad: int) -> RelevanceScale:
    """The scale that the labels of sound rows are on; what is wrong without any scale is said first."""
    wrong = [bad.row for bad in tolerate(table.path, problems, skip_bad)]
    labels = frame.filter(~pl.col(ROW).is_in(wrong))["label"]
    if labels.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    return tell_scale(dict(labels.value_counts().rows()), str(table.path))


def _merged(
    frame: pl.DataFrame, scale: RelevanceScale, skipped: tuple[BadRow, ...], report: ReadReport, how: _How, path: Path
) -> Judgements:
    """Judgements with one label a pair, of those whose labels are wanted."""
    wanted, models = chosen_labels(frame, how.labels_by, path)
    report = replace(report, models=models)
    if "rater" not in frame.columns and how.merge is None:
        return Judgements(wanted, scale, skipped, read=report)
    pairs, done = merged(wanted, scale, how.merge or "median")
    return Judgements(pairs, scale, skipped, read=replace(report, merge=done, ratings=frame))


def _texts(
    table: RawTable, raw: pl.DataFrame, how: _How, column_of: dict[str, str]
) -> tuple[pl.DataFrame, list[BadRow], str]:
    """ROW and our columns as text, one row a rating; what is wrong so far, and what is to be said."""
    has_text = column_of["query"] in raw.columns
    ids_alone = not has_text and column_of["query_id"] in raw.columns
    mapped = [] if how.format in FILE_FORMATS else [*how.mapping]
    needed = [*([] if ids_alone else ["query"]), "item_id", *([] if how.raters else ["label"]), *mapped]
    columns = [*table.columns, *(name for name in raw.columns if name not in (*table.columns, ROW, EXTRAS))]
    alike = likely_raters(columns) if column_of["label"] not in columns and not how.raters else None
    option = f"{MAPPED}; or, if each of {alike} is one rater's: --raters '{alike}'" if alike else MAPPED
    require_columns(table.path, {name: column_of[name] for name in needed}, needed, columns, option)
    if has_text and how.queries:
        raise ValueError(f"--queries gives the texts of query ids; {table.path} has texts, in {column_of['query']!r}")
    own = ("label", "rater") if how.raters else ()
    present = [ours for ours, theirs in column_of.items() if theirs in raw.columns and ours not in own]
    frame = raw.select(ROW, *(as_text(raw, column_of[name]).alias(name) for name in present))
    frame = unmarked(frame, table.path, ("query_id", "query", "item_id"))
    problems = [*table.problems, *table.text_problems({name: column_of[name] for name in present})]
    note = ""
    if ids_alone:
        frame, lost, note = with_texts(frame, how.queries, table.path)
        problems += lost
    if "query_id" not in frame.columns:
        frame = frame.with_columns(query_id=pl.col("query"))
    frame = long_form(table, frame, how.raters) if how.raters else frame
    return frame, problems, note


def _canonical(frame: pl.DataFrame, scale: RelevanceScale) -> pl.DataFrame:
    """Labels by their names on the scale, where they are on it."""
    names = {label: scale.labels[scale.index(label)] for label in frame["label"].unique() if label in scale}
    return frame.with_columns(pl.col("label").replace(names))


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
    """Empty values and labels that are not on the scale."""
    problems = []
    for name in (name for name in frame.columns if name not in (ROW, "label")):
        empty = frame.filter(pl.col(name).is_null() | (pl.col(name) == ""))
        problems += [BadRow(row, name, f"{name} to be filled, found nothing") for row in empty[ROW]]
    expected = f"one of {scale.accepted} ({scale.name}), found "
    wrong = [label for label in frame["label"].unique() if label not in scale]
    rows = frame.filter(pl.col("label").is_in(wrong)).select(ROW, "label").rows()
    return problems + [BadRow(row, "label", f"{expected}{label!r}") for row, label in rows]
