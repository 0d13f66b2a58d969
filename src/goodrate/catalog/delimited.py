"""Text tables: fields between commas, semicolons, tabs or pipes, with a header; quotes may hold all of these."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.problems import BadRow
from goodrate.catalog.quotes import refuse_stray_quotes
from goodrate.catalog.raw_table import ROW, WHOLE_ROW, RawTable, Wanted, numbered, tabular
from goodrate.text_file import decode

BLOCK = 2**30  # bytes that are split into columns at a time; arrow takes less than 2**31, and no longer row
SEPARATORS = (",", "\t", ";", "|")
_SAID = re.compile(r'\A"?sep=([^"\r\n])"?[ \t]*\r?\n', re.IGNORECASE)  # what Excel writes and reads as a first line


def read_delimited(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """The rows of a text table. Raises ValueError for a header that cannot be read and for quotes that swallow rows."""
    text = decode(path, data)
    text = text.replace("\r", "\n") if "\n" not in text else text  # old Mac line ends
    said = _SAID.match(text)
    text = text[said.end() :] if said else text
    separators = (said[1],) if said else ("\t",) if ".tsv" in path.suffixes else SEPARATORS
    first = 2 if said else 1  # the number of the header's row
    header, names, separator = _header(path, text, separators, first, wanted)
    table, refused = _split(path, text, header, separator, len(data))
    frame = pl.DataFrame(table.rename_columns(names))
    frame = numbered(frame, first=2, missing=[problem.row for problem in refused])
    if text.rstrip("\r\n").count("\n") != len(frame) + len(refused):  # some row spans lines
        refuse_stray_quotes(path, text, separator, frame, first)
    problems = [BadRow(problem.row + first - 1, problem.column, problem.expected) for problem in refused]
    frame = frame.with_columns(pl.col(ROW) + (first - 1))
    frame = frame.filter(pl.any_horizontal(pl.exclude(ROW).fill_null("").str.strip_chars() != ""))
    return tabular(path, frame, names, wanted, problems)


def _split(path: Path, text: str, header: list[str], separator: str, size: int) -> tuple[Any, list[BadRow]]:
    """An arrow table of texts, and the rows with too many or too few fields; the header is row 1. size: in bytes."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    refused: list[BadRow] = []

    def refuse(row: Any) -> str:
        refused.append(BadRow(row.number, WHOLE_ROW, f"{row.expected_columns} fields, found {row.actual_columns}"))
        return "skip"

    try:
        table = arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            # One thread: only then does arrow know the numbers of the rows that it refuses.
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=min(size + 1024, BLOCK)),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=refuse
            ),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a table separated by {separator!r}: {error}") from error
    return table, refused


def _header(
    path: Path, text: str, separators: tuple[str, ...], number: int, wanted: Wanted
) -> tuple[list[str], list[str], str]:
    """The header as it stands, the column names it gives, and the separator that splits it into most columns."""
    rows = {sign: _first_row(text, sign) for sign in separators}
    separator = max(separators, key=lambda sign: len(rows[sign] or ()))
    header = rows[separator]
    if header is None:
        raise ValueError(
            f"{path}, row {number}: no header that can be read: a carriage return inside it, a quote that never "
            "closes, or a name of more than 131,072 characters; expected names and line ends of one kind"
        )
    if not header:
        raise ValueError(f"{path}, row {number}: an empty line; expected the names of the columns")
    return header, checked_names(path, header, number, wanted), separator


def checked_names(path: Path, header: Iterable[str], number: int, wanted: Wanted) -> list[str]:
    """The column names of a header. Raises ValueError for one that occurs twice. number: of its row."""
    # Spreadsheets leave trailing separators behind: nameless columns, mostly empty.
    names = wanted.names(name.strip() for name in header)
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise ValueError(f"{path}, row {number}: column {doubled[0]!r} occurs twice in the header")
    return names


def _first_row(text: str, separator: str) -> list[str] | None:
    """The fields of the first row; None where it has none with this separator."""
    try:
        return next(csv.reader(io.StringIO(text), delimiter=separator), None)
    except csv.Error:
        return None
