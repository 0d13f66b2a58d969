"""Cells that a spreadsheet would take for a formula: marked with a quote when they are written, unmarked when read.

A csv is opened with a double click, and a title such as =HYPERLINK(...) then runs (OWASP, "CSV Injection"). Their way
out is ours: a quote in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

# A quote before such a cell is one more quote, so that reading gives what was written.
_FORMULA, _MARKED = r"^('*[=+\-@\t\r\n])", r"^'('*[=+\-@\t\r\n])"
TEXT_TABLES = (".csv", ".tsv", ".txt", ".xlsx")  # what spreadsheets open and write


def marked(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a quote before each text that begins as a formula does: = + - @ or a tab or line break.

    >>> marked(pl.DataFrame({"a": ["=1+1", "lamp", "'-5", "5-"]}))["a"].to_list()
    ["'=1+1", 'lamp', "''-5", '5-']
    """
    return frame.with_columns(pl.col(pl.String).str.replace(_FORMULA, "'${1}"))


def unmarked(frame: pl.DataFrame, path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The frame of a file with these columns as they were before they were marked; other kinds of files as they are."""
    if path.suffix.lower() not in TEXT_TABLES:
        return frame
    return frame.with_columns(pl.col(name).str.replace(_MARKED, "${1}") for name in columns if name in frame.columns)
