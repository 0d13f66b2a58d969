"""Event files on disk: which there are, their row groups, and the rows of one group, in parquet, ORC and Arrow files.

A row group is what each format can read alone: a row group of parquet, a stripe of ORC, a record batch of an Arrow IPC
file. pyarrow.dataset addresses only the first of them, so the readers of the formats are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from goodrate.catalog.event_columns import EventColumns, Place, expected_ids, id_kind

_NUMBERED = re.compile(r"^(.*?)(\d+)(-of-\d+\D*|\D*)$")


@dataclass(frozen=True, order=True)
class RowGroup:
    """A row group: the file's name below the root, its place in the file, its rows, the file's rows before it."""

    file: str
    group: int
    rows: int = field(compare=False)
    first: int = field(compare=False)

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.file, self.group


class _Reader(Protocol):
    """One open file."""

    schema: Any

    def sizes(self, column: str) -> list[int]:
        """Rows of each group. column: one that may be read to learn it."""
        ...

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """The record batches of one group, of at most so many rows where the format can read less than a group."""
        ...


class _Parquet:
    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)
        self.schema = self._file.schema_arrow

    def sizes(self, column: str) -> list[int]:
        metadata = self._file.metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        yield from self._file.iter_batches(rows, row_groups=[group], columns=[*columns], use_threads=False)


class _Orc:
    def __init__(self, path: Path) -> None:
        import pyarrow.orc as orc

        self._file = orc.ORCFile(path)
        self.schema = self._file.schema

    def sizes(self, column: str) -> list[int]:
        groups = self._file.nstripes
        if groups == 1:
            return [self._file.nrows]
        return [self._file.read_stripe(group, columns=[column]).num_rows for group in range(groups)]

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        yield from _cut(self._file.read_stripe(group, columns=[*columns]), rows)


class _Arrow:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path, self._map = path, pa.memory_map(str(path))
        self.schema = pa.ipc.open_file(self._map).schema

    def _open(self, columns: Sequence[str]) -> Any:
        import pyarrow as pa

        places = [self.schema.get_field_index(name) for name in columns]
        return pa.ipc.open_file(self._map, options=pa.ipc.IpcReadOptions(included_fields=places, use_threads=False))

    def sizes(self, column: str) -> list[int]:
        file = self._open([column])
        return [file.get_batch(group).num_rows for group in range(file.num_record_batches)]

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        yield from _cut(self._open(columns).get_batch(group), rows)


def _cut(batch: Any, rows: int) -> Iterator[Any]:
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


READERS: Mapping[str, type[_Parquet] | type[_Orc] | type[_Arrow]] = {
    ".parquet": _Parquet, ".pq": _Parquet, ".orc": _Orc, ".arrow": _Arrow, ".feather": _Arrow, ".ipc": _Arrow,
}  # fmt: skip
ENDINGS = ", ".join(READERS)


class EventFiles:
    """The event files of a file, a folder (all below it) or a list of files, and the columns that are wanted of them.

    Names that begin with "." or "_" are those of files in the making and are passed over. growing: files may be added
    while they are read; a file that is not whole yet is passed over until it is.
    """

    def __init__(self, path: str | Path | Sequence[str | Path], columns: EventColumns, growing: bool = False) -> None:
        self._given = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
        if not self._given:
            raise ValueError("no event file is named; expected a file, a folder or a list of files")
        self.columns, self._growing = columns, growing
        self.root = self._given[0] if self._given[0].is_dir() else self._given[0].parent
        self._known: dict[str, tuple[tuple[int, int], list[RowGroup]]] = {}  # name -> size and time of the file, groups
        self._kinds: dict[str, tuple[str, str]] = {}  # id column -> its kind, the file that had it first

    def __str__(self) -> str:
        more = f" and {len(self._given) - 1:,} more" if len(self._given) > 1 else ""
        return f"{self._given[0]}{more}"

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.root / name

    def row_groups(self) -> list[RowGroup]:
        """All row groups with rows, by file name and place. Opens each file once, and again when it has changed."""
        groups: list[RowGroup] = []
        for path in self._files():
            name = self._name(path)
            status = path.stat()
            stamp = status.st_size, status.st_mtime_ns
            if self._known.get(name, (None,))[0] != stamp:
                found = self._groups(path, name)
                if found is None:
                    continue
                self._known[name] = stamp, found
            groups += self._known[name][1]
        if not groups and not self._growing:
            raise ValueError(f"{self} has no rows")
        return groups

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path.resolve())

    def _files(self) -> list[Path]:
        files: list[Path] = []
        for given in self._given:
            if given.is_dir():
                found = [p for p in sorted(given.rglob("*")) if _counts(p.relative_to(given)) and p.is_file()]
                if not self._growing:
                    _require_all_shards(found)
                files += found
            elif given.is_file():
                _require_ending(given)
                files.append(given)
            elif not self._growing:
                raise FileNotFoundError(f"no such event file: {given}")
        if not files and not self._growing:
            raise ValueError(f"{self} has no event file; expected files that end in {ENDINGS}")
        return files

    def _groups(self, path: Path, name: str) -> list[RowGroup] | None:
        """The row groups of a file; None for one that is still being written."""
        try:
            with named_errors(path, None):
                reader: _Reader = READERS[path.suffix.lower()](path)
                self._check(path, reader.schema)
                sizes = reader.sizes(self._narrow())
        except NotWhole:
            if self._growing:
                return None
            raise
        groups, first = [], 0
        for place, rows in enumerate(sizes):
            groups += [RowGroup(name, place, rows, first)] if rows else []
            first += rows
        return groups

    def _narrow(self) -> str:
        """A column that is quick to read."""
        return self.columns.label or self.columns.time or self.columns.names[0]

    def _check(self, path: Path, schema: Any) -> None:
        """ValueError for a file without one of the columns, or whose ids are of another kind than those before."""
        present = set(schema.names)
        for name in self.columns.names:
            if name not in present:
                listed = ", ".join(schema.names[:30]) + (", ..." if len(schema.names) > 30 else "")
                raise ValueError(f"{path} has no column {name!r}; columns: {listed}")
        for name in self.columns.ids:
            dtype = schema.field(name).type
            kind = id_kind(dtype)
            if kind is None:
                Place(path, 0, 1).refuse(None, name, expected_ids(dtype))
            before, where = self._kinds.setdefault(name, (kind, path.name))
            if before != kind:
                raise ValueError(f"{path}, column {name}: ids are {kind}s, and {before}s in {where}: the same id would "
                                 "be two; write one of them")  # fmt: skip

    def batches(self, parts: Iterable[tuple[RowGroup, int]], rows: int) -> Iterator[tuple[Place, Any]]:
        """Record batches of at most so many rows, each with its place; of every row group from the given row on.

        Raises ValueError where a file is cut, broken or other than it was, FileNotFoundError where it is gone.
        """
        name, reader = "", None
        for group, start in parts:
            path, taken = self.path(group.file), 0
            if not path.is_file():
                raise FileNotFoundError(f"no such event file: {path}; it was there when the reading began; put it back")
            with named_errors(path, group.group):
                if reader is None or name != group.file:
                    name, reader = group.file, READERS[path.suffix.lower()](path)
                for batch in reader.batches(group.group, self.columns.names, rows):
                    skipped = min(max(start - taken, 0), batch.num_rows)
                    if skipped < batch.num_rows:
                        place = Place(path, group.group, group.first + taken + skipped + 1)
                        yield place, batch.slice(skipped)
                    taken += batch.num_rows
            if taken != group.rows:
                raise ValueError(f"{path}, row group {group.group}: has {taken:,} rows, and had {group.rows:,} before")


class NotWhole(ValueError):
    """A file that is cut off, still being written, or of another format than its name says."""


@contextmanager
def named_errors(path: Path, group: int | None) -> Iterator[None]:
    """What pyarrow raises of a file becomes one message that names it. group: the row group that is read, if any."""
    import pyarrow as pa

    try:
        yield
    except NotWhole:
        raise
    except (pa.ArrowException, EOFError, OSError, IndexError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        where = f", row group {group}" if group is not None else ""
        raise NotWhole(f"{path}{where}: not a whole {path.suffix} file ({reason}); it is cut off or broken: copy it "
                       "again, or take it away to read the others") from error  # fmt: skip


def _counts(relative: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.parts)
    return not hidden and relative.suffix.lower() in READERS


def _require_ending(path: Path) -> None:
    if path.suffix.lower() not in READERS:
        raise ValueError(
            f"{path}: cannot read {path.suffix or 'a name without ending'!r} as events; expected {ENDINGS}"
        )


def _require_all_shards(files: Sequence[Path]) -> None:
    """ValueError where the numbers in the names of a folder say that a file is missing: 0, 1, 3 or 00002-of-00004.

    A row of numbers counts from 0 or 1 and from three files on; names with other numbers before it are dates.
    """
    series: dict[tuple[Path, str, str], dict[int, int]] = {}  # of one name but for a number -> number, its digits
    for path in files:
        name = _NUMBERED.match(path.name)
        if name and not re.search(r"\d", name[1]):
            series.setdefault((path.parent, name[1], name[3]), {})[int(name[2])] = len(name[2])
    for (folder, before, after), numbers in series.items():
        total = re.match(r"-of-(\d+)", after)
        if not total and (min(numbers) > 1 or len(numbers) < 3):
            continue
        first = 0 if 0 in numbers else 1
        end = first + int(total[1]) if total else max(numbers) + 1
        missing = [number for number in range(first, end) if number not in numbers]
        if missing:
            lost = f"{before}{missing[0]:0{min(numbers.values())}}{after}"
            raise ValueError(f"{folder}: {lost} is missing, {len(numbers):,} files of its row are there; put it back, "
                             "or name the files one by one to read without it")  # fmt: skip
