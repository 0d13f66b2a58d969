"""Lines of fields separated by tabs or blanks, as TREC's tools write judgements, runs and queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from goodrate.catalog.problems import BadRow
from goodrate.catalog.tables import ROW, WHOLE_ROW, unpacked_bytes, unpacked_name
from goodrate.text_file import decode

SIGNS = ("\t", None, ",", ";")  # None: blanks
TOPIC = re.compile(r"<num>\s*(?:Number:)?\s*(\S+).*?<title>\s*(?:Topic:)?\s*([^<]+)", re.DOTALL | re.IGNORECASE)


def ending(path: Path) -> str:
    """The ending of a file's name, the one below .gz or .zst where it is packed: ".txt"."""
    return unpacked_name(path).suffix.lower()


def file_text(path: Path) -> str:
    """The text of a plain or packed file. Raises FileNotFoundError, and ValueError for a folder, a broken archive, a
    wrong encoding or nothing in it."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    text = decode(path, unpacked_bytes(path)).replace("\r\n", "\n")
    if not text.strip():
        raise ValueError(f"{path} is empty; expected at least one row")
    return text


def numbered_lines(text: str) -> pl.DataFrame:
    """ROW (from 1) and line, without the blank lines."""
    lines = pl.DataFrame({"line": text.split("\n")}).with_row_index(ROW, offset=1).cast({ROW: pl.Int64})
    return lines.filter(pl.col("line").str.strip_chars() != "")


def separator_of(line: str, count: int) -> str | None:
    """What splits a line into that many fields: a tab, blanks (None), a comma or a semicolon, tried in this order.

    Where nothing does, a tab if there is one, else blanks.
    """
    fitting = [sign for sign in SIGNS if len(fields_of(line, sign)) == count]
    return fitting[0] if fitting else "\t" if "\t" in line else None


def fields_of(line: str, separator: str | None) -> list[str]:
    """The fields of one line, without blanks around them."""
    return [part.strip() for part in line.split(separator)] if separator else line.split()


def field_table(
    lines: pl.DataFrame, names: Sequence[str], separator: str | None, what: str
) -> tuple[pl.DataFrame, list[BadRow]]:
    """ROW and one text column a name, and the lines that have another number of fields, which are left out.

    what: the fields in words, for the message.
    """
    text = pl.col("line") if separator else pl.col("line").str.strip_chars().str.replace_all(r"\s+", "\t")
    split = lines.with_columns(fields=text.str.split(separator or "\t"))
    count = pl.col("fields").list.len()
    odd = split.filter(count != len(names)).select(ROW, count)
    problems = [BadRow(row, WHOLE_ROW, f"{len(names)} fields ({what}), found {found}") for row, found in odd.rows()]
    fields = [pl.col("fields").list.get(place).str.strip_chars() for place in range(len(names))]
    if separator in (",", ";"):  # quotes that a spreadsheet put round a field
        fields = [field.str.replace(r'^"(.*)"$', "$1") for field in fields]
    columns = [field.alias(name) for field, name in zip(fields, names, strict=True)]
    return split.filter(count == len(names)).select(ROW, *columns), problems


def topics(text: str) -> list[tuple[str, str]]:
    """Query id and title of TREC topics in their old tagged form."""
    return [(match[1], " ".join(match[2].split())) for match in TOPIC.finditer(text)]
