"""What a reader made of the columns of a file, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goodrate.catalog.formats import Format, likely_format
from goodrate.catalog.raw_table import RawTable, Wanted

NAMED = 6  # columns that a list names


def column_notes(
    table: RawTable, candidates: Mapping[str, Sequence[str]], layout: Format, format: str | None
) -> tuple[str, ...]:
    """One line: which column was taken for which of ours, which became attributes, which are left out.

    candidates: our name -> their names. A second line where the file looks like one of another format.
    """
    present = set(table.columns)
    taken = {ours: [name for name in names if name in present] for ours, names in candidates.items()}
    taken = {ours: names if ours in layout.row_by_row else names[:1] for ours, names in taken.items() if names}
    used = {name for names in taken.values() for name in names} | {*layout.locale_columns}
    wanted = {name for names in candidates.values() for name in names}
    dropped = Wanted(wanted, layout.ignored).dropped(table.columns) | (wanted & present) - used
    others = [name for name in table.columns if name not in dropped and name not in used]
    parts = [", ".join(_taken(ours, names) for ours, names in taken.items())]
    parts += [f"{len(others):,} as attributes ({_some(others)})"] if others else []
    parts += [f"left out {_some([name for name in table.columns if name in dropped])}"] if dropped else []
    likely = likely_format(table.columns) if format is None else None
    hint = [f"{table.path.name} has columns of a {likely} file; --format {likely} reads more of it"] if likely else []
    return (f"columns: {'; '.join(parts)}", *hint)


def _taken(ours: str, names: Sequence[str]) -> str:
    """`id = docid`, or the name alone where it is ours."""
    return ours if list(names) == [ours] else f"{ours} = {', else '.join(names)}"


def _some(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
