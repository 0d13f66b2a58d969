"""Read a catalogue from a file: every row is checked, every refusal names file, row, column and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.attribute_text import merged_objects
from goodrate.catalog.column_notes import column_notes
from goodrate.catalog.formats import (
    ITEM_FORMATS,
    Format,
    fill_row_by_row,
    find_format,
    keep_locale,
    option_for,
    resolve_columns,
)  # fmt: skip
from goodrate.catalog.html_text import without_html
from goodrate.catalog.images import Pictures, check_pictures, without_picture
from goodrate.catalog.inferred import INFERRED, checked
from goodrate.catalog.item_ids import without_point_zero
from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.catalog.lists import LISTS, list_attributes, path_texts
from goodrate.catalog.prices import EMPTY, PLAIN, PriceOptions, read_prices
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.raw_table import EXTRAS, ROW, RawTable, Wanted
from goodrate.catalog.tables import frame_wanted, read_wanted

NUMBERS = ("price", "rating")
AS_WRITTEN = PriceOptions()
MAPPED = "--map {0}, in training --set data.catalog_map.{0}"


def read_catalog(
    path: str | Path, format: str | None = None, mapping: dict[str, str] | None = None, skip_bad: int = 0,
    prices: PriceOptions = AS_WRITTEN, images: Path | None = None,
) -> Catalog:  # fmt: skip
    """The items of a file that ends in one of tables.READERS, plain or .gz or .zst.

    format: one of ITEM_FORMATS, or None for a file whose columns have our names. mapping: our name -> their column.
    skip_bad: how many bad rows to leave out; they are listed in Catalog.skipped. prices: what the file does not say of
    them. images: the folder of their pictures, which are checked (catalog.images); an item whose picture cannot be
    used counts for skip_bad and stays, without it. Columns that are not ours become attributes. Raises
    FileNotFoundError, or ValueError with file, row, column and what was expected.
    """
    return _catalog(partial(read_wanted, path), format, mapping, skip_bad, prices, images)


def is_catalog(path: str | Path, format: str | None = None, mapping: dict[str, str] | None = None) -> bool:
    """Whether a table has the columns of a catalogue, an id and a title. Raises as read_catalog for no table."""
    layout, _ = find_format(format, ITEM_FORMATS)
    candidates = resolve_columns(list(ITEM_COLUMNS), layout, mapping)
    present = set(read_wanted(path, Wanted((), (), layout.rename, layout.reshape)).columns)
    return all(present & set(candidates[name]) for name in ("id", "title"))


def frame_catalog(
    frame: Any, format: str | None = None, mapping: dict[str, str] | None = None, skip_bad: int = 0,
    prices: PriceOptions = AS_WRITTEN, images: Path | None = None,
) -> Catalog:  # fmt: skip
    """The items of a polars or pandas frame, checked like those of a file: see read_catalog. Rows count from 1."""
    return _catalog(partial(frame_wanted, "frame", frame), format, mapping, skip_bad, prices, images)


def _catalog(
    read: Callable[[Wanted], RawTable], format: str | None, mapping: dict[str, str] | None, skip_bad: int,
    prices: PriceOptions, images: Path | None,
) -> Catalog:  # fmt: skip
    """The items of a table. read: the table, given what is wanted of it."""
    layout, locale = find_format(format, ITEM_FORMATS)
    candidates = resolve_columns(list(ITEM_COLUMNS), layout, mapping)
    columns = {name for names in candidates.values() for name in names} | set(layout.locale_columns)
    kept: dict[str, bytes] | None = None if images is None else {}
    wanted = Wanted(columns, layout.ignored, layout.rename, layout.reshape, candidates["image"], kept)
    table = fill_row_by_row(read(wanted), candidates, layout)
    column_of = {ours: next((n for n in names if n in table.columns), names[0]) for ours, names in candidates.items()}
    needed = {name: column_of[name] for name in ("id", "title", *(mapping or {}))}
    option = MAPPED if format is not None else option_for(table.columns, MAPPED)
    require_columns(table.path, needed, list(needed), table.columns, option)
    frame, problems, notes = _items(table, column_of, layout, locale, prices)
    ids, told = without_point_zero(frame["id"])
    notes = (*table.notes, *column_notes(table, candidates, layout, format), *told, *notes)
    frame = frame.with_columns(ids)
    problems = [*table.problems, *problems]
    if images is not None:
        frame, pictured = _with_pictures(frame, images, table.path, kept or {})
        tolerate(table.path, [*problems, *pictured], skip_bad)
        notes = (*notes, *without_picture(pictured))
    skipped = tolerate(table.path, problems, skip_bad)
    bad = pl.col(ROW).is_in([problem.row for problem in skipped])
    usable = frame.filter(~bad) if skipped else frame
    if usable.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    skipped_ids = tuple(frame.filter(bad & (pl.col("id") != ""))["id"]) if skipped else ()
    pictures = None if images is None else Pictures(images, kept or {})
    return Catalog(usable.select(*ITEM_COLUMNS), skipped, notes, skipped_ids, plain=True, pictures=pictures)


def _with_pictures(
    frame: pl.DataFrame, folder: Path, source: Path, kept: dict[str, bytes]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """The frame with pictures as paths from their folder, none where they cannot be used, and what is wrong."""
    images, problems = check_pictures(frame, ROW, folder, source, kept)
    bad = pl.col(ROW).is_in([problem.row for problem in problems])
    return frame.with_columns(images).with_columns(image=pl.when(~bad).then("image")), problems


def _items(
    table: RawTable, column_of: dict[str, str], layout: Format, locale: str | None, prices: PriceOptions
) -> tuple[pl.DataFrame, list[BadRow], tuple[str, ...]]:
    """The rows in our columns, with ROW, what is wrong with them, and how they were read."""
    raw = keep_locale(table.frame, layout, locale)
    present = {ours: theirs for ours, theirs in column_of.items() if theirs in raw.columns}
    texts = [n for n in ITEM_COLUMNS if n in present and n not in (*NUMBERS, "attributes")]
    frame = raw.select(
        ROW,
        *(as_text(raw, present[name]).alias(name) for name in (*texts, *NUMBERS) if name in present),
    )
    problems = _text_problems(table, present, texts)
    attributes, bad = _attributes(raw, present.get("attributes"), layout)
    frame, more, notes = _plain_texts(frame.with_columns(list_attributes(attributes).alias("attributes")))
    problems += [*_identity_problems(frame), *more, *bad]
    if INFERRED in present:
        read, bad = checked(frame[INFERRED], frame[ROW])
        frame, problems = frame.with_columns(read), problems + bad
    if "price" in present:
        frame, bad, told = _with_prices(frame, table, present["price"], layout.price_factor, prices)
        problems, notes = problems + bad, (*told, *notes)
    if "rating" in present:
        frame, bad = _with_rating(frame)
        problems += bad
    missing = [pl.lit(None, dtype=d).alias(n) for n, d in ITEM_COLUMNS.items() if n not in frame.columns]
    return frame.with_columns(missing), problems, notes


def _plain_texts(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[BadRow], tuple[str, ...]]:
    """The frame with lists as one text, without HTML, and with categories as paths."""
    problems: list[BadRow] = []
    for name in (name for name in LISTS if name in frame.columns):
        read, bad = LISTS[name](frame[name], frame[ROW])
        frame, problems = frame.with_columns(read.alias(name)), problems + bad
    frame, cleaned = without_html(frame)
    counts = ", ".join(f"{name} {count:,}" for name, count in cleaned.items())
    notes = (f"HTML read as text, items changed: {counts}",) if counts else ()
    if "category" in frame.columns:
        paths, told = path_texts(frame["category"])
        frame, notes = frame.with_columns(paths.alias("category")), (*notes, *told)
    return frame, problems, notes


def as_text(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column as trimmed text; whole floats lose their ".0", because ids that once passed through pandas have it.

    NaN is no value: pandas writes it for what is not there.
    """
    dtype = frame.schema[name]
    if dtype.is_float():
        whole = (pl.col(name) % 1 == 0) & (pl.col(name).abs() < 2**53)
        return pl.when(whole).then(pl.col(name).cast(pl.Int64, strict=False).cast(pl.String)).otherwise(
            pl.col(name).fill_nan(None).cast(pl.String)
        )  # fmt: skip
    return pl.col(name).cast(pl.String).str.strip_chars()


def query_problems(frame: pl.DataFrame) -> list[BadRow]:
    """Query ids that stand for two texts. frame: ROW, query_id, query."""
    told = frame.filter((pl.col("query_id").fill_null("") != "") & (pl.col("query").fill_null("") != ""))
    seen, text = (pl.col(name).first().over("query_id") for name in (ROW, "query"))  # rows are in order
    other = told.with_columns(seen=seen, text=text).filter(pl.col("query") != pl.col("text"))
    expected = "one text for query_id {!r}; row {} says {!r}, this one {!r}"
    return [
        BadRow(row, "query", expected.format(query_id, seen, text, query))
        for row, query_id, seen, text, query in other.select(ROW, "query_id", "seen", "text", "query").rows()
    ]


def _identity_problems(frame: pl.DataFrame) -> list[BadRow]:
    """Empty ids, ids that came before, empty titles."""
    problems = []
    for name in ("id", "title"):
        empty = frame.filter(pl.col(name).is_null() | (pl.col(name) == ""))
        problems += [BadRow(row, name, f"{name} to be filled, found nothing") for row in empty[ROW]]
    first = pl.col(ROW).min().over("id").alias("first")
    again = frame.filter(pl.col("id").fill_null("") != "").with_columns(first).filter(pl.col(ROW) > pl.col("first"))
    expected = "a unique id; {!r} is also in row {}"
    problems += [
        BadRow(row, "id", expected.format(value, seen)) for row, value, seen in again.select(ROW, "id", "first").rows()
    ]
    return problems


def _text_problems(table: RawTable, present: dict[str, str], texts: list[str]) -> list[BadRow]:
    """Lists, objects, true and false where a text or a number has to stand; brands and categories may be lists."""
    kept = set(table.frame[ROW])
    problems = table.text_problems({ours: present[ours] for ours in texts if ours != "image"}, lists=LISTS)
    return [problem for problem in problems if problem.row in kept]


def _with_prices(
    frame: pl.DataFrame, table: RawTable, column: str, factor: float, options: PriceOptions
) -> tuple[pl.DataFrame, list[BadRow], tuple[str, ...]]:
    """The frame with prices as numbers and their currencies. column: theirs. factor: into whole currency units."""
    numbers = pl.Series([table.frame.schema[column].is_numeric()]).new_from_index(0, len(frame))
    if column in table.numbers:
        numbers = frame[ROW].is_in(table.numbers[column])
    named = frame["currency"] if "currency" in frame.columns and _is_filled(frame["currency"]) else None
    place = f"{table.path}, column {column}"
    read = read_prices(frame["price"], frame[ROW], options, numbers, named, place)
    scaled = (read.prices * factor).round(4) if factor != 1.0 else read.prices
    return frame.with_columns(price=scaled, currency=read.currencies), read.problems, read.notes


def _is_filled(texts: pl.Series) -> bool:
    """Whether any row has a text."""
    return bool((texts.fill_null("") != "").any())


def _with_rating(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[BadRow]]:
    """The text column rating as numbers; anything that is not a finite number from 0 on is a problem.

    A decimal comma is read where the column has no decimal point; ratings have no thousands.
    """
    text = pl.when(~pl.col("rating").str.to_lowercase().is_in(EMPTY)).then(pl.col("rating"))
    points = frame["rating"].str.contains(".", literal=True).any()
    number = (text if points else text.str.replace(r"^(\d+),(\d+)$", "${1}.${2}")).cast(pl.Float64, strict=False)
    usable = number.is_finite() & (number >= 0)
    wrong = frame.filter(text.is_not_null() & ~usable.fill_null(False)).select(ROW, "rating")
    problems = [BadRow(row, "rating", f"{PLAIN}, found {value!r}") for row, value in wrong.rows()]
    return frame.with_columns(rating=pl.when(usable).then(number)), problems


def _attributes(raw: pl.DataFrame, column: str | None, layout: Format) -> tuple[pl.Series, list[BadRow]]:
    """The JSON object of each row: their attributes column and all columns that are not ours."""
    extras = raw[EXTRAS]
    if column is None:
        return extras, []
    parsed, problems = _parsed(raw[column].cast(pl.String), raw[ROW], layout.parse_attributes)
    return merged_objects(pl.Series(parsed, dtype=pl.String), extras), problems


def _parsed(texts: pl.Series, rows: pl.Series, parse: Callable[[str], str] | None) -> tuple[list[str], list[BadRow]]:
    """Every attributes text as a compact JSON object, with the texts that cannot be read."""
    assert parse is not None
    parsed, problems = [], []
    for row, text in zip(rows, texts, strict=True):
        try:
            parsed.append(parse(text) if text else "{}")
        except (ValueError, AttributeError) as error:
            parsed.append("{}")
            reason = f" ({str(error).rpartition(': not valid JSON: ')[2]})" if "not valid JSON" in str(error) else ""
            expected = f'an object such as {{"color": "red"}}, found {text[:40]!r}{reason}'
            problems.append(BadRow(row, "attributes", expected))
    return parsed, problems
