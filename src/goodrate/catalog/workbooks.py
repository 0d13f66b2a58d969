"""Workbooks (.xlsx) as tables: the first sheet, with the types of its cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from goodrate.catalog.delimited import checked_names
from goodrate.catalog.raw_table import ROW, RawTable, Wanted, typed_table
from goodrate.extras import require


def read_workbook(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """The first sheet of a workbook; its first filled row has the names of the columns, and blank rows are none.

    Raises MissingExtra without the extra "xlsx", ValueError for no workbook or a column name that occurs twice.
    """
    require("xlsx", f"reading {path.name}")
    import fastexcel

    try:
        book = fastexcel.read_excel(data)
        header = book.load_sheet(0, header_row=None, n_rows=1, dtypes="string").to_polars()
        frame = book.load_sheet(0, schema_sample_rows=None).to_polars()
    except fastexcel.FastExcelError as error:
        raise ValueError(f"{path} is not a workbook that can be read: {str(error).splitlines()[0]}") from error
    if header.is_empty():
        raise ValueError(f"{path}: sheet {book.sheet_names[0]!r} is empty; expected a row of column names in it")
    frame.columns = checked_names(path, [name or "" for name in header.row(0)], 1, wanted)
    table = typed_table(path, frame, replace(wanted, rename=str), first=2)
    blank = pl.all_horizontal(pl.exclude(ROW).cast(pl.String).fill_null("{}").is_in(["", "{}"]))
    others = ", ".join(book.sheet_names[1:])
    note = f"of its sheets the first, {book.sheet_names[0]!r}, is read (the others: {others})"
    notes = (*table.notes, *([note] if others else []))
    return replace(table, frame=table.frame.filter(~blank), notes=notes)
