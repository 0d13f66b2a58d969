"""What a file's rows are once they are read: wanted columns as they were found, and one JSON object of all others.

Catalogues with thousands of sparse attributes so never become thousands of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.images import kept_name
from goodrate.catalog.problems import BadRow

ROW = "__row__"
EXTRAS = "__extras__"
WHOLE_ROW = "(the whole row)"
TEXT_LISTS = (pl.List(pl.String), pl.List(pl.List(pl.String)))
JOINED = 200  # columns that one expression joins: the engine's time for one grows with the square of its parts

Reshape = Callable[[Path, pl.DataFrame], tuple[pl.DataFrame, tuple[str, ...]]]


@dataclass(frozen=True)
class Wanted:
    """What is made of the columns of a file.

    columns: names that stay columns; ignored: patterns (as of a shell: seo_*) of names that are left out; the others go
    to EXTRAS. rename: their name -> the one that columns and ignored mean. reshape: changes the rows (with ROW) of a
    flat table before all that, and says what it left out. pictures: columns that are left out where they hold bytes, or
    that become the names of those bytes in `kept`, which is filled.
    """

    columns: Collection[str]
    ignored: Collection[str] = ()
    rename: Callable[[str], str] = str
    reshape: Reshape | None = None
    pictures: Collection[str] = ()
    kept: dict[str, bytes] | None = None

    def dropped(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are left out."""
        return {n for n in names if n not in self.columns and any(fnmatchcase(n, pattern) for pattern in self.ignored)}

    def names(self, header: Iterable[str]) -> list[str]:
        """The names of columns, renamed but where that gives a name twice; nameless ones are numbered."""
        given = [name or f"column_{place}" for place, name in enumerate(header, start=1)]
        seen: set[str] = set()
        for place, name in enumerate(given):
            renamed = self.rename(name)
            given[place] = name if renamed in seen else renamed
            seen.add(given[place])
        return given


@dataclass(frozen=True, order=True)
class NoText:
    """A value of a wanted column that is neither text nor number. found: what it is, such as "a list"."""

    row: int
    column: str
    found: str


@dataclass(frozen=True)
class RawTable:
    """What a file holds. frame: ROW (i64), EXTRAS (JSON text) and the wanted columns that exist; columns: all names.

    no_texts: lists, objects, true and false in wanted columns; there they stand as JSON. numbers: wanted column -> rows
    whose value is a number in JSON; a typed file says so in the types of its frame. notes: what a person should know of
    how the file was read, a line each.
    """

    path: Path
    frame: pl.DataFrame
    columns: tuple[str, ...]
    problems: tuple[BadRow, ...]
    no_texts: tuple[NoText, ...] = ()
    numbers: Mapping[str, list[int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def text_problems(self, column_of: Mapping[str, str], lists: Collection[str] = ()) -> list[BadRow]:
        """What is wrong with columns that must hold texts or numbers. column_of: our name -> theirs.

        lists: those of our names that may hold lists.
        """
        ours_of = {theirs: ours for ours, theirs in column_of.items()}
        return [
            BadRow(bad.row, ours_of[bad.column], f"a text or a number, found {bad.found}")
            for bad in self.no_texts
            if bad.column in ours_of and not (bad.found == "a list" and ours_of[bad.column] in lists)
        ]


def numbered(frame: pl.DataFrame, first: int, missing: Iterable[int] = ()) -> pl.DataFrame:
    """The frame with ROW in front: numbers from `first`, leaving out the missing ones."""
    frame = frame.drop(ROW, EXTRAS, strict=False)  # our own names
    missing = set(missing)
    numbers = pl.int_range(first, first + len(frame) + len(missing), eager=True).alias(ROW)
    return frame.insert_column(0, numbers.filter(~numbers.is_in(list(missing))) if missing else numbers)


def typed_table(path: Path, frame: pl.DataFrame, wanted: Wanted, first: int = 1) -> RawTable:
    """A frame whose columns have types, as a table. first: the number of its first row."""
    frame = frame.rename(dict(zip(frame.columns, wanted.names(frame.columns), strict=True)))
    drawn = [column for column in frame if column.name in wanted.pictures and _is_picture(column)]
    frame = frame.drop(column.name for column in drawn)
    if wanted.kept is not None:
        frame = frame.with_columns(_kept(column, wanted.kept) for column in drawn)
    no_texts = tuple(bad for column in frame if column.name in wanted.columns for bad in _no_texts(column, first))
    plain = [_plain(path, column, column.name in wanted.columns) for column in frame]
    frame = pl.DataFrame([column for column in plain if column is not None])
    return replace(tabular(path, numbered(frame, first=first), frame.columns, wanted), no_texts=no_texts)


def _no_texts(column: pl.Series, first: int) -> list[NoText]:
    """The values of a typed column when its type holds neither texts nor numbers. first: number of the first row."""
    found = {pl.Boolean: "true or false", pl.Struct: "an object", pl.List: "a list", pl.Array: "a list"}
    word = found.get(column.dtype.base_type())
    filled = column.is_not_null() if word else pl.Series([], dtype=pl.Boolean)
    return [NoText(row, column.name, word) for row in (filled.arg_true() + first).to_list()] if word else []


def _plain(path: Path, column: pl.Series, required: bool) -> pl.Series | None:
    """A parquet column as the other formats would have it: objects as JSON, bytes and lists of texts as text.

    None for a column of bytes that are no text, such as pictures: no attribute. ValueError when such a column, or one
    of other lists, is wanted.
    """
    plain: pl.Series | None = column
    if _holds_bytes(column.dtype):
        plain = _decoded(column)
    elif required and (isinstance(column.dtype, pl.Struct) or column.dtype in TEXT_LISTS):
        plain = _as_json(column)
    elif required and (column.dtype.is_nested() or column.dtype in (pl.Duration, pl.Object)):
        plain = None
    if required and plain is None:
        raise ValueError(f"{path}, column {column.name}: expected texts or numbers, found {column.dtype}")
    return plain


def _is_picture(column: pl.Series) -> bool:
    """Whether a column holds bytes that are no text."""
    return _holds_bytes(column.dtype) and _decoded(column) is None


def _kept(column: pl.Series, kept: dict[str, bytes]) -> pl.Series:
    """The names of the bytes of a column, or of its objects' field `bytes`, which go into `kept` by those names."""
    held = column
    if isinstance(column.dtype, pl.Struct) and "bytes" in [field.name for field in column.dtype.fields]:
        held = column.struct.field("bytes")
    if held.dtype != pl.Binary:
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    names = [kept_name(content) if content else None for content in held]
    kept.update((name, content) for name, content in zip(names, held, strict=True) if name is not None)
    return pl.Series(column.name, names, dtype=pl.String)


def _as_json(column: pl.Series) -> pl.Series:
    """Lists and objects as JSON."""
    whole = pl.struct(pl.col(column.name).alias("v")).struct.json_encode()  # {"v":...}
    filled = pl.when(pl.col(column.name).is_not_null()).then(whole.str.slice(5).str.head(-1))
    return column.to_frame().select(filled.alias(column.name)).to_series()


def _holds_bytes(dtype: Any) -> bool:
    """Whether there are bytes anywhere in values of this type."""
    inner = [field.dtype for field in dtype.fields] if isinstance(dtype, pl.Struct) else [getattr(dtype, "inner", None)]
    return dtype == pl.Binary or any(_holds_bytes(part) for part in inner if part is not None)


def _decoded(column: pl.Series) -> pl.Series | None:
    """Bytes as text: old programs write parquet without saying that bytes are text. None when they are not."""
    try:
        return column.cast(pl.String) if column.dtype == pl.Binary else None
    except pl.exceptions.ComputeError:
        return None


def tabular(
    path: Path, frame: pl.DataFrame, names: list[str], wanted: Wanted, problems: Iterable[BadRow] = ()
) -> RawTable:  # fmt: skip
    """A RawTable from a frame with ROW: unwanted columns become one JSON object. names: of its columns, in order."""
    notes: tuple[str, ...] = ()
    if wanted.reshape is not None:
        frame, notes = wanted.reshape(path, frame)
        names = frame.columns
    names = [name for name in names if name not in (ROW, EXTRAS)]
    dropped = wanted.dropped(names)
    others = [name for name in names if name not in wanted.columns and name not in dropped]
    extras = json_objects(frame, others).alias(EXTRAS)
    chosen = frame.select(ROW, *(name for name in names if name in wanted.columns)).insert_column(1, extras)
    return RawTable(path, chosen, tuple(names), tuple(problems), notes=notes)


def json_objects(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    """One JSON object a row from these columns as text; nulls, empty texts and what is no number (NaN) left out."""
    schema = frame.schema
    parts = [names[start : start + JOINED] for start in range(0, len(names), JOINED)]
    bodies = [frame.select(_joined([_json_pair(name, schema[name]) for name in part])).to_series() for part in parts]
    while len(bodies) > 1:  # no part is joined with itself again and again
        pairs = [pl.DataFrame({str(i): body for i, body in enumerate(bodies[n : n + JOINED])})
                 for n in range(0, len(bodies), JOINED)]  # fmt: skip
        bodies = [pair.select(_joined([_filled(pl.col(name)) for name in pair.columns])).to_series() for pair in pairs]
    body = bodies[0] if bodies else pl.Series([""]).new_from_index(0, len(frame))
    return ("{" + body + "}").alias("attributes")


def _joined(pairs: list[pl.Expr]) -> pl.Expr:
    return pl.concat_str(pairs, separator=",", ignore_nulls=True)


def _filled(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def _json_pair(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as `"name":value`, null where it is empty."""
    value = _json_ready(pl.col(name), dtype)
    pair = pl.struct(value.alias(name)).struct.json_encode().str.head(-1).str.slice(1)  # without the braces
    filled = value.is_not_null() & (value != "") if dtype == pl.String else value.is_not_null()
    return pl.when(filled).then(pair)


def _json_ready(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Dates and other types that JSON does not know become text, NaN and infinities null."""
    if dtype.is_float():
        return pl.when(value.is_finite()).then(value)
    json_ready = dtype.is_numeric() or dtype.is_nested() or dtype in (pl.String, pl.Boolean)
    return value if json_ready else value.cast(pl.String, strict=False)
