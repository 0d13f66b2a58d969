"""JSON files as tables: one object a line, a list of objects, or an object that holds one list of objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.problems import BadRow
from goodrate.catalog.raw_table import EXTRAS, ROW, WHOLE_ROW, NoText, RawTable, Wanted
from goodrate.strict_json import compact, kind, parse
from goodrate.text_file import decode


def read_json_lines(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """One JSON object a line. Parsed line by line: a schema for all lines would be thousands of sparse columns."""
    return _lines_table(path, decode(path, data), wanted)


def read_json(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """A list of objects, an object that holds one such list, or one object a line; rows are places in the list, from 1.

    Raises ValueError with what the file holds instead.
    """
    text = decode(path, data)
    first, _, rest = text.strip().partition("\n")
    if rest and _record(first, 1, []) is not None:
        return _lines_table(path, text, wanted)
    name, values = _list_in(path, parse(text, path))
    problems: list[BadRow] = []
    checked = ((number, _checked(value, number, problems)) for number, value in enumerate(values, start=1))
    notes = (f"rows are those of the list {name!r} in {path.name}",) if name else ()
    return replace(_records(path, checked, wanted), problems=tuple(problems), notes=notes)


def _list_in(path: Path, value: Any) -> tuple[str, list[Any]]:
    """The list of a file and its name in the file, "" where the file is the list, or one object."""
    if isinstance(value, list):
        return "", value
    lists = {name: inner for name, inner in value.items() if _of_objects(inner)} if isinstance(value, dict) else {}
    if len(lists) > 1:
        raise ValueError(f"{path} holds the lists {', '.join(lists)}; expected one list of objects; save it alone")
    if isinstance(value, dict):
        return next(iter(lists.items()), ("", [value]))
    raise ValueError(f"{path} holds {kind(value)}; expected a list of objects, or one object a line")


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(inner, dict) for inner in value)


def _lines_table(path: Path, text: str, wanted: Wanted) -> RawTable:
    """One object a line; rows are lines."""
    problems: list[BadRow] = []
    lines = enumerate(text.split("\n"), start=1)
    records = ((number, _record(line, number, problems)) for number, line in lines if line.strip())
    table = _records(path, records, wanted)
    return replace(table, problems=tuple(problems))


def _records(path: Path, records: Iterable[tuple[int, dict[str, Any] | None]], wanted: Wanted) -> RawTable:
    """The objects that there are as a table."""
    read = ((number, record) for number, record in records if record is not None)
    return records_table(path, read, wanted.columns, wanted.ignored, wanted.rename)


def records_table(
    path: Path, records: Iterable[tuple[int, dict[str, Any]]], columns: Collection[str], ignored: Collection[str] = (),
    rename: Callable[[str], str] = str,
) -> RawTable:  # fmt: skip
    """Numbered JSON objects as a table. columns, ignored, rename: see Wanted."""
    wanted = Wanted(frozenset(columns), frozenset(ignored), rename)
    rows: list[dict[str, Any]] = []
    no_texts: list[NoText] = []
    numbers: dict[str, list[int]] = {}
    names: dict[str, str] = {}  # theirs -> as renamed
    dropped: set[str] = set()
    for number, theirs in records:
        if new := [name for name in theirs if name not in names]:
            names.update({name: rename(name) for name in new})
            dropped |= wanted.dropped(names[name] for name in new)
        record = {names[name]: value for name, value in theirs.items()}
        kept = {name: record[name] for name in wanted.columns if name in record}
        row = {name: _cell(value) for name, value in kept.items()}
        if any(isinstance(value, (bool, list, dict)) for value in kept.values()):
            no_texts += [NoText(number, n, kind(v)) for n, v in kept.items() if isinstance(v, (bool, list, dict))]
        for name in (name for name, value in kept.items() if isinstance(value, (int, float))):
            numbers.setdefault(name, []).append(number)
        others = {k: v for k, v in record.items() if k not in kept and v not in (None, "") and k not in dropped}
        rows.append({**row, ROW: number, EXTRAS: compact(others)})
    found = tuple(dict.fromkeys(names.values()))
    schema: dict[str, Any] = {ROW: pl.Int64, EXTRAS: pl.String, **{n: pl.String for n in found if n in wanted.columns}}
    return RawTable(path, pl.DataFrame(rows, schema=schema), found, (), tuple(no_texts), numbers)


def _record(line: str, number: int, problems: list[BadRow]) -> dict[str, Any] | None:
    """The object of one line, or None with the reason noted."""
    try:
        return _checked(parse(line), number, problems)
    except ValueError as error:
        problems.append(BadRow(number, WHOLE_ROW, f"a JSON object: {error}"))
        return None


def _checked(value: Any, number: int, problems: list[BadRow]) -> dict[str, Any] | None:
    """The value where it is an object, or None with the reason noted."""
    if isinstance(value, dict):
        return value
    problems.append(BadRow(number, WHOLE_ROW, f"a JSON object, found {kind(value)}"))
    return None


def _cell(value: Any) -> str | None:
    """A value as text; objects and lists stay JSON."""
    return value if value is None or isinstance(value, str) else compact(value)
