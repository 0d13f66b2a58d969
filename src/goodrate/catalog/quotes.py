"""Quotes that swallow rows: a quote that someone typed begins a field, which ends at the next quote, rows later.

What such a field holds tells it from a text of several lines: either something follows the quote that closes it, or the
lines in it are rows of the file, with as many fields as the header and the form that each column has elsewhere.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from goodrate.catalog.problems import SHOWN
from goodrate.catalog.raw_table import ROW

SAMPLE = 500  # rows that the form of a column is taken from
LINES = 50  # lines of a field that are looked at
MOST = 0.95  # of the values of a column have what is called its form
FEW_VALUES = 20  # a column of so many different values in ten times as many rows has no others
_NUMBER = re.compile(r"\W{0,3}\d[\d.,' ]*\W{0,3}")
_FORMS = {
    "a number": _NUMBER.fullmatch,
    "a digit": re.compile(r"\d").search,
    "a letter first": re.compile(r"[^\W\d_]").match,
    "no blank": re.compile(r"\S*").fullmatch,
}
WAY_OUT = (
    'remove the quote, or close it, or double it ("") where it is a part of a quoted text; a text that is meant to '
    "hold such lines can be given as .jsonl"
)


def refuse_stray_quotes(path: Path, text: str, separator: str, frame: pl.DataFrame, header_row: int) -> None:
    """ValueError that names the rows where a quote opens that swallows rows, or that never closes.

    text: from the header on. frame: its rows as they were split, with ROW. header_row: the number of the header's row.
    """
    rows = _Rows(separator, frame.drop(ROW))
    strays = [
        f"{path}, {_place(field, rows, header_row)}: {reason}"
        for field in _long_fields(text, separator)
        if (reason := _reason(field, rows))
    ]
    if strays:
        more = [f"... and {len(strays) - SHOWN:,} more"] if len(strays) > SHOWN else []
        head = [f"{path} has {len(strays):,} quotes that swallow rows:"] if len(strays) > 1 else []
        raise ValueError("\n".join([*head, *strays[:SHOWN], *more]) + f"; {WAY_OUT}")


@dataclass(frozen=True)
class _Field:
    """A quoted field of several lines. row, line: below the header's first line; before, after: what stands beside it
    in its first and last line."""

    row: int
    line: int
    before: str
    content: str
    after: str
    closed: bool


def _long_fields(text: str, separator: str) -> Iterator[_Field]:
    """The quoted fields that hold line breaks, in order, split as the reader splits them."""
    quoted = re.compile(rf'(?:(?<=[{re.escape(separator)}\r\n])|\A)"([^"]*+(?:""[^"]*+)*+)("|\Z)')
    line, counted, inside = 0, 0, 0  # lines before `counted`, and those of them that began inside a field
    for match in quoted.finditer(text):
        breaks = match[1].count("\n")
        if not breaks:
            continue
        line += text.count("\n", counted, match.start())
        end = text.find("\n", match.end())
        yield _Field(
            line - inside, line, text[text.rfind("\n", 0, match.start()) + 1 : match.start()], match[1],
            text[match.end() : end if end >= 0 else len(text)].rstrip("\r"), bool(match[2]),
        )  # fmt: skip
        line, inside, counted = line + breaks, inside + breaks, match.end()


def _reason(field: _Field, rows: _Rows) -> str | None:
    """What is wrong with a field, None for a text of several lines."""
    lines = field.content.split("\n")
    taken = f"takes in {len(lines) - 1:,} more line{'s' if len(lines) > 2 else ''} as one field"
    if not field.closed:
        return 'a quote opens and never closes; expected one more "'
    if field.after and not field.after.startswith(rows.separator):
        return f"a quote opens and {taken}, and text follows the quote that ends it: {field.after[:20]!r}"
    first, last = field.before + lines[0], lines[-1] + field.after
    ends = not field.after or rows.looks_like_one(last)  # a text that begins with a line break has nothing behind it
    if ends and rows.looks_like_one(first) and rows.are_rows([*lines[1:-1][:LINES], last]):
        return f"a quote opens and {taken}; they look like rows of the file, such as {lines[1][:40]!r}"
    return None


def _place(field: _Field, rows: _Rows, header_row: int) -> str:
    """The row that a field begins in, its line where that is another number, and its column where it can be told."""
    line = f" (line {field.line + header_row})" if field.line != field.row else ""
    place = max(len(rows.split(field.before)) - 1, 0)
    column = f", column {rows.names[place]}" if place < len(rows.names) else ""
    return f"row {field.row + header_row}{line}{column}"


@dataclass(frozen=True)
class _Column:
    """What the values of a column have in common. filled: hardly any is empty; known: its values, if they are few."""

    filled: bool
    forms: tuple[str, ...]
    known: frozenset[str] | None

    @classmethod
    def of(cls, column: pl.Series) -> _Column:
        """The form of a column by its first values that stand on one line; nothing is said of fewer than three."""
        text = column.fill_null("").str.strip_chars()
        sample = text.filter(~text.str.contains("\n", literal=True)).head(SAMPLE)
        values = sample.filter(sample != "").to_list()
        if len(values) < 3:
            return cls(False, (), None)
        known = frozenset(values)
        few = len(known) <= FEW_VALUES and len(values) >= 10 * len(known)
        forms = [name for name, has in _FORMS.items() if sum(map(bool, map(has, values))) >= MOST * len(values)]
        return cls(len(values) >= MOST * len(sample), tuple(forms), known if few else None)

    @property
    def tells(self) -> bool:
        """Whether it tells a value of its own from any text."""
        return bool(self.forms) or self.known is not None

    def fits(self, value: str) -> bool:
        """Whether a value could be one of the column."""
        if not value:
            return not self.filled
        return all(_FORMS[form](value) for form in self.forms) and (self.known is None or value in self.known)


class _Rows:
    """What a row of the file looks like."""

    def __init__(self, separator: str, frame: pl.DataFrame) -> None:
        self.separator, self.names, self._frame = separator, frame.columns, frame

    @cached_property
    def columns(self) -> list[_Column]:
        """The form of each column."""
        return [_Column.of(column) for column in self._frame]

    def split(self, line: str) -> list[str]:
        """The fields of a line, none where it cannot be split."""
        try:
            return next(csv.reader([line], delimiter=self.separator), [])
        except csv.Error:
            return []

    def are_rows(self, lines: list[str]) -> bool:
        """Whether most of these lines are rows; where no column has a form, three or more of three columns or more."""
        filled = [line for line in lines if line.strip()]
        alike = sum(self.looks_like_one(line) for line in filled)
        sure = any(column.tells for column in self.columns) or (alike >= 3 and len(self.names) >= 3)
        return alike > 0 and alike >= len(filled) / 2 and sure

    def looks_like_one(self, line: str) -> bool:
        """Whether a line has the fields of a row, each in the form of its column."""
        if len(self.names) < 2 or line.count(self.separator) < len(self.names) - 1:
            return False
        fields = self.split(line)
        if len(fields) != len(self.names):
            return False
        return all(column.fits(field.strip()) for field, column in zip(fields, self.columns, strict=True))
