"""Files as tables: csv, tsv, jsonl and parquet, plain or .gz or .zst, with the row number of everything that is wrong.

A table has the wanted columns as they were found and one JSON object of all the others, so that catalogues with
thousands of sparse attributes never become thousands of columns.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.problems import BadRow, tolerate
from goodrate.strict_json import compact, kind, parse
from goodrate.text_file import decode

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
CSV_BLOCK = 2**30  # bytes that are split into columns at a time; arrow takes less than 2**31, and no longer row
ROW = "__row__"
EXTRAS = "__extras__"
WHOLE_ROW = "(the whole row)"
TEXT_LISTS = (pl.List(pl.String), pl.List(pl.List(pl.String)))
JOINED = 200  # columns that one expression joins: the engine's time for one grows with the square of its parts


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
    whose value is a number in JSON; a typed file says so in the types of its frame.
    """

    path: Path
    frame: pl.DataFrame
    columns: tuple[str, ...]
    problems: tuple[BadRow, ...]
    no_texts: tuple[NoText, ...] = ()
    numbers: Mapping[str, list[int]] = field(default_factory=dict)

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


def read_table(
    path: str | Path, columns: Collection[str], ignored: Collection[str] = (), pictures: Collection[str] = ()
) -> RawTable:
    """The rows of a csv, tsv, jsonl or parquet file.

    columns: their names to keep as columns; ignored: names to leave out; the others go to EXTRAS. pictures: columns
    that are left out where they hold bytes. Raises FileNotFoundError, or ValueError for an unknown ending, a broken
    archive, a wrong encoding or an empty file.
    """
    path = Path(path)
    kind = _kind(path)
    data = _bytes(path)
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise ValueError(f"{path} is empty; expected at least one row")
    if kind == ".parquet":
        table = _read_parquet(path, data, frozenset(columns), frozenset(ignored), pictures)
    else:
        table = READERS[kind](path, data, frozenset(columns), frozenset(ignored))
    if table.frame.is_empty() and table.problems:
        tolerate(path, table.problems, 0)  # nothing is left that a column could be missing from
    if table.frame.is_empty():
        raise ValueError(f"{path} has no rows; columns: {', '.join(table.columns)}")
    return table


def frame_table(
    name: str, frame: Any, columns: Collection[str], ignored: Collection[str] = (), pictures: Collection[str] = ()
) -> RawTable:
    """The rows of a polars or pandas frame, as a file of that name would give them; rows count from 1.

    Raises ValueError for a frame of another library or without rows.
    """
    if hasattr(frame, "to_dict") and not isinstance(frame, pl.DataFrame):  # pandas
        frame = pl.from_pandas(frame)
    if not isinstance(frame, pl.DataFrame):
        raise ValueError(f"expected a polars or pandas frame, found {type(frame).__name__}")
    if frame.is_empty():
        raise ValueError(f"{name} has no rows; columns: {', '.join(frame.columns)}")
    return _typed_table(Path(name), frame, frozenset(columns), frozenset(ignored), pictures)


def _kind(path: Path) -> str:
    """The ending that says what is inside, below .gz or .zst."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    inner = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    if inner.suffix.lower() not in READERS:
        raise ValueError(f"{path}: cannot read {inner.suffix or 'a name without ending'!r}; expected "
                         f"{', '.join(READERS)}, each also with .gz or .zst")  # fmt: skip
    return inner.suffix.lower()


def _bytes(path: Path) -> bytes:
    """The unpacked content. Raises ValueError when the archive is broken or cut off."""
    if path.suffix not in COMPRESSIONS:
        return path.read_bytes()
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix]) as stream:
            return stream.read()
    except (OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole {COMPRESSIONS[path.suffix]} file: {error}") from error


def _read_delimited(path: Path, data: bytes, columns: frozenset[str], ignored: frozenset[str]) -> RawTable:
    """Comma, semicolon or tab separated text with a header; quotes may hold separators and line breaks."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    text = decode(path, data)
    text = text.replace("\r", "\n") if "\n" not in text else text  # old Mac line ends
    header, names, separator = _header(path, text)
    problems: list[BadRow] = []

    def refuse(row: Any) -> str:
        expected = f"{row.expected_columns} fields, found {row.actual_columns}"
        problems.append(BadRow(row.number, WHOLE_ROW, expected))
        return "skip"

    try:
        table = arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            # One thread: only then does arrow know the numbers of the rows that it refuses.
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=min(len(data) + 1024, CSV_BLOCK)),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=refuse
            ),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a table separated by {separator!r}: {error}") from error
    frame = pl.DataFrame(table.rename_columns(names))
    frame = _numbered(frame, first=2, missing=[problem.row for problem in problems])
    _refuse_open_quote(path, text, frame)
    frame = frame.filter(pl.any_horizontal(pl.exclude(ROW).fill_null("").str.strip_chars() != ""))
    return _tabular(path, frame, names, columns, ignored, problems)


def _refuse_open_quote(path: Path, text: str, frame: pl.DataFrame) -> None:
    """ValueError when a quote swallowed the rest of the file: the last row holds line breaks, quotes are odd."""
    last = "".join(value or "" for value in frame.drop(ROW).row(-1)) if len(frame) else ""
    if "\n" in last and text.count('"') % 2:
        raise ValueError(f'{path}, row {frame[ROW][-1]}: a quote opens and never closes; expected one more "')


def _header(path: Path, text: str) -> tuple[list[str], list[str], str]:
    """The first row as it stands, the column names it gives, and the separator that splits it into most columns."""
    separators = ["\t"] if ".tsv" in path.suffixes else [",", "\t", ";"]
    rows = {sign: _first_row(text, sign) for sign in separators}
    separator = max(separators, key=lambda sign: len(rows[sign] or ()))
    header = rows[separator]
    if header is None:
        raise ValueError(
            f"{path}, row 1: no header that can be read: a carriage return inside it, a quote that never closes, or a "
            "name of more than 131,072 characters; expected names and line ends of one kind"
        )
    # Spreadsheets leave trailing separators behind: nameless columns, mostly empty.
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, start=1)]
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise ValueError(f"{path}, row 1: column {doubled[0]!r} occurs twice in the header")
    return header, names, separator


def _first_row(text: str, separator: str) -> list[str] | None:
    """The fields of the first row; None where it has none with this separator."""
    try:
        return next(csv.reader(io.StringIO(text), delimiter=separator), None)
    except csv.Error:
        return None


def _numbered(frame: pl.DataFrame, first: int, missing: Iterable[int] = ()) -> pl.DataFrame:
    """The frame with ROW in front: numbers from `first`, leaving out the missing ones."""
    frame = frame.drop(ROW, EXTRAS, strict=False)  # our own names
    missing = set(missing)
    numbers = pl.int_range(first, first + len(frame) + len(missing), eager=True).alias(ROW)
    return frame.insert_column(0, numbers.filter(~numbers.is_in(list(missing))) if missing else numbers)


def _read_parquet(
    path: Path, data: bytes, columns: frozenset[str], ignored: frozenset[str], pictures: Collection[str] = ()
) -> RawTable:
    """A parquet file; columns keep their types, unless only JSON or text can hold their values."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} is not a parquet file: {error}") from error
    return _typed_table(path, frame, columns, ignored, pictures)


def _typed_table(
    path: Path, frame: pl.DataFrame, columns: frozenset[str], ignored: frozenset[str], pictures: Collection[str]
) -> RawTable:
    """A frame whose columns have types, as a table."""
    frame = frame.drop(column.name for column in frame if column.name in pictures and _is_picture(column))
    no_texts = tuple(bad for column in frame if column.name in columns for bad in _no_texts(column))
    plain = [_plain(path, column, column.name in columns) for column in frame]
    frame = pl.DataFrame([column for column in plain if column is not None])
    return replace(_tabular(path, _numbered(frame, first=1), frame.columns, columns, ignored, []), no_texts=no_texts)


def _no_texts(column: pl.Series) -> list[NoText]:
    """The values of a typed column when its type holds neither texts nor numbers."""
    found = {pl.Boolean: "true or false", pl.Struct: "an object", pl.List: "a list", pl.Array: "a list"}
    word = found.get(column.dtype.base_type())
    filled = column.is_not_null() if word else pl.Series([], dtype=pl.Boolean)
    return [NoText(row, column.name, word) for row in (filled.arg_true() + 1).to_list()] if word else []


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


def _tabular(
    path: Path, frame: pl.DataFrame, names: list[str], columns: frozenset[str], ignored: frozenset[str],
    problems: list[BadRow],
) -> RawTable:  # fmt: skip
    """A RawTable from a frame: unwanted columns become one JSON object."""
    names = [name for name in names if name not in (ROW, EXTRAS)]
    others = [name for name in names if name not in columns and name not in ignored]
    extras = json_objects(frame, others).alias(EXTRAS)
    chosen = frame.select(ROW, *(name for name in names if name in columns)).insert_column(1, extras)
    return RawTable(path, chosen, tuple(names), tuple(problems))


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


def _read_jsonl(path: Path, data: bytes, columns: frozenset[str], ignored: frozenset[str]) -> RawTable:
    """One JSON object a line. Parsed line by line: a schema for all lines would be thousands of sparse columns."""
    problems: list[BadRow] = []
    lines = enumerate(decode(path, data).split("\n"), start=1)
    records = ((number, _record(line, number, problems)) for number, line in lines if line.strip())
    table = records_table(path, ((n, record) for n, record in records if record is not None), columns, ignored)
    return replace(table, problems=tuple(problems))


def records_table(
    path: Path, records: Iterable[tuple[int, dict[str, Any]]], columns: Collection[str], ignored: Collection[str] = ()
) -> RawTable:
    """Numbered JSON objects as a table."""
    rows: list[dict[str, Any]] = []
    numbers: dict[str, list[int]] = {}
    no_texts: list[NoText] = []
    names: dict[str, None] = {}
    for number, record in records:
        names.update(dict.fromkeys(record))
        wanted = {name: record[name] for name in columns if name in record}
        row = {name: _cell(value) for name, value in wanted.items()}
        if any(isinstance(value, (bool, list, dict)) for value in wanted.values()):
            no_texts += [NoText(number, n, kind(v)) for n, v in wanted.items() if isinstance(v, (bool, list, dict))]
        for name in (name for name, value in wanted.items() if isinstance(value, (int, float))):
            numbers.setdefault(name, []).append(number)
        others = {k: v for k, v in record.items() if k not in columns and k not in ignored and v not in (None, "")}
        rows.append({**row, ROW: number, EXTRAS: compact(others)})
    schema: dict[str, Any] = {ROW: pl.Int64, EXTRAS: pl.String, **{n: pl.String for n in names if n in columns}}
    return RawTable(path, pl.DataFrame(rows, schema=schema), tuple(names), (), tuple(no_texts), numbers)


def _record(line: str, number: int, problems: list[BadRow]) -> dict[str, Any] | None:
    """The object of one line, or None with the reason noted."""
    try:
        record = parse(line)
    except ValueError as error:
        problems.append(BadRow(number, WHOLE_ROW, f"a JSON object: {error}"))
        return None
    if not isinstance(record, dict):
        problems.append(BadRow(number, WHOLE_ROW, f"a JSON object, found {kind(record)}"))
        return None
    return record


def _cell(value: Any) -> str | None:
    """A value as text; objects and lists stay JSON."""
    return value if value is None or isinstance(value, str) else compact(value)


READERS = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
