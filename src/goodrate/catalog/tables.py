"""Files as tables: csv, tsv, jsonl and parquet, plain or .gz or .zst, with the row number of everything that is wrong.

A table has the wanted columns as they were found and one JSON object of all the others, so that catalogues with
thousands of sparse attributes never become thousands of columns.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.problems import BadRow, tolerate

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
CSV_BLOCK = 2**30  # bytes that are split into columns at a time; arrow takes less than 2**31, and no longer row
ROW = "__row__"
EXTRAS = "__extras__"
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that may be half of a surrogate pair


@dataclass(frozen=True)
class RawTable:
    """What a file holds. frame: ROW (i64), EXTRAS (JSON text) and the wanted columns that exist; columns: all names."""

    path: Path
    frame: pl.DataFrame
    columns: tuple[str, ...]
    problems: tuple[BadRow, ...]


def read_table(path: str | Path, columns: Collection[str], ignored: Collection[str] = ()) -> RawTable:
    """The rows of a csv, tsv, jsonl or parquet file.

    columns: their names to keep as columns; ignored: names to leave out; the others go to EXTRAS.
    Raises FileNotFoundError, or ValueError for an unknown ending, a broken archive, a wrong encoding or an empty file.
    """
    path = Path(path)
    kind = _kind(path)
    data = _bytes(path)
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise ValueError(f"{path} is empty; expected at least one row")
    table = READERS[kind](path, data, frozenset(columns), frozenset(ignored))
    if table.frame.is_empty() and table.problems:
        tolerate(path, table.problems, 0)  # nothing is left that a column could be missing from
    if table.frame.is_empty():
        raise ValueError(f"{path} has no rows; columns: {', '.join(table.columns)}")
    return table


def frame_table(name: str, frame: Any, columns: Collection[str], ignored: Collection[str] = ()) -> RawTable:
    """The rows of a polars or pandas frame, as a file of that name would give them; rows count from 1.

    Raises ValueError for a frame of another library or without rows.
    """
    if hasattr(frame, "to_dict") and not isinstance(frame, pl.DataFrame):  # pandas
        frame = pl.from_pandas(frame)
    if not isinstance(frame, pl.DataFrame):
        raise ValueError(f"expected a polars or pandas frame, found {type(frame).__name__}")
    if frame.is_empty():
        raise ValueError(f"{name} has no rows; columns: {', '.join(frame.columns)}")
    return _typed_table(Path(name), frame, frozenset(columns), frozenset(ignored))


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


def decode(path: Path, data: bytes) -> str:
    """The text of a UTF-8 file without byte-order mark. Raises ValueError with the line of the first wrong byte."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name})")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, perhaps Latin-1 or Windows-1252; "
            f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from error


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
        problems.append(BadRow(row.number, "(the whole row)", expected))
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
    first = next(iter(io.StringIO(text)))
    separator = max(separators, key=lambda sign: len(next(csv.reader([first], delimiter=sign))))
    header = next(csv.reader(io.StringIO(text), delimiter=separator))
    # Spreadsheets leave trailing separators behind: nameless columns, mostly empty.
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, start=1)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"{path}, row 1: column {doubled[0]!r} occurs twice in the header")
    return header, names, separator


def _numbered(frame: pl.DataFrame, first: int, missing: Iterable[int] = ()) -> pl.DataFrame:
    """The frame with ROW in front: numbers from `first`, leaving out the missing ones."""
    frame = frame.drop(ROW, EXTRAS, strict=False)  # our own names
    missing = set(missing)
    numbers = pl.int_range(first, first + len(frame) + len(missing), eager=True).alias(ROW)
    return frame.insert_column(0, numbers.filter(~numbers.is_in(list(missing))) if missing else numbers)


def _read_parquet(path: Path, data: bytes, columns: frozenset[str], ignored: frozenset[str]) -> RawTable:
    """A parquet file; columns keep their types, unless only JSON or text can hold their values."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} is not a parquet file: {error}") from error
    return _typed_table(path, frame, columns, ignored)


def _typed_table(path: Path, frame: pl.DataFrame, columns: frozenset[str], ignored: frozenset[str]) -> RawTable:
    """A frame whose columns have types, as a table."""
    plain = [_plain(path, column, column.name in columns) for column in frame]
    frame = pl.DataFrame([column for column in plain if column is not None])
    return _tabular(path, _numbered(frame, first=1), frame.columns, columns, ignored, [])


def _plain(path: Path, column: pl.Series, required: bool) -> pl.Series | None:
    """A parquet column as the other formats would have it: objects as JSON, bytes and lists of texts as text.

    None for a column of bytes that are no text, such as pictures: no attribute. ValueError when such a column, or one
    of other lists, is wanted.
    """
    plain: pl.Series | None = column
    if _holds_bytes(column.dtype):
        plain = _decoded(column)
    elif required and isinstance(column.dtype, pl.Struct):
        plain = column.to_frame().select(pl.when(column.is_not_null()).then(column.struct.json_encode())).to_series()
        plain = plain.alias(column.name)
    elif required and column.dtype == pl.List(pl.String):
        plain = column.list.join(" ", ignore_nulls=True)
    elif required and (column.dtype.is_nested() or column.dtype in (pl.Duration, pl.Object)):
        plain = None
    if required and plain is None:
        raise ValueError(f"{path}, column {column.name}: expected texts or numbers, found {column.dtype}")
    return plain


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
    selection = [pl.col(ROW), json_object(frame, others).alias(EXTRAS), *(pl.col(n) for n in names if n in columns)]
    return RawTable(path, frame.select(selection), tuple(names), tuple(problems))


def json_object(frame: pl.DataFrame, names: list[str]) -> pl.Expr:
    """One JSON object a row from these columns, nulls and empty texts left out, as a text expression."""
    pairs = []
    for name in names:
        value = pl.col(name)
        encoded = pl.struct(_json_ready(value, frame.schema[name]).alias(name)).struct.json_encode()
        pair = encoded.str.head(-1).str.slice(1)  # without the braces
        empty = value.is_null() | (value == "") if frame.schema[name] == pl.String else value.is_null()
        pairs.append(pl.when(~empty).then(pair))
    body = pl.concat_str(pairs, separator=",", ignore_nulls=True) if pairs else pl.lit("")
    return pl.concat_str([pl.lit("{"), body, pl.lit("}")])


def _json_ready(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Dates and other types that JSON does not know become text."""
    json_ready = dtype.is_numeric() or dtype.is_nested() or dtype in (pl.String, pl.Boolean)
    return value if json_ready else value.cast(pl.String, strict=False)


def _read_jsonl(path: Path, data: bytes, columns: frozenset[str], ignored: frozenset[str]) -> RawTable:
    """One JSON object a line. Parsed line by line: a schema for all lines would be thousands of sparse columns."""
    rows: list[dict[str, Any]] = []
    problems: list[BadRow] = []
    names: dict[str, None] = {}
    for number, line in enumerate(decode(path, data).split("\n"), start=1):
        if not line.strip():
            continue
        record = _record(line, number, problems)
        if record is None:
            continue
        names.update(dict.fromkeys(record))
        row: dict[str, Any] = {name: _cell(record[name]) for name in columns if name in record}
        others = {k: v for k, v in record.items() if k not in columns and k not in ignored and v not in (None, "")}
        row[ROW], row[EXTRAS] = number, json.dumps(others, ensure_ascii=False, separators=(",", ":"))
        rows.append(row)
    schema: dict[str, Any] = {ROW: pl.Int64, EXTRAS: pl.String, **{n: pl.String for n in names if n in columns}}
    return RawTable(path, pl.DataFrame(rows, schema=schema), tuple(names), tuple(problems))


def _record(line: str, number: int, problems: list[BadRow]) -> dict[str, Any] | None:
    """The object of one line, or None with the reason noted."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        problems.append(BadRow(number, "(the whole row)", f"a JSON object: {error}"))
        return None
    if not isinstance(record, dict):
        problems.append(BadRow(number, "(the whole row)", f"a JSON object, found {type(record).__name__}"))
        return None
    if _HALF_CHARACTER.search(line) and not _is_unicode(record):
        problems.append(BadRow(number, "(the whole row)", "whole characters, found half of a surrogate pair"))
        return None
    return record


def _is_unicode(record: dict[str, Any]) -> bool:
    """Whether every text can be written as UTF-8."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cell(value: Any) -> str | None:
    """A value as text; objects and lists stay JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


READERS = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
