"""Bad rows of an input file: where they are, what was expected, and how many a reader tolerates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

SHOWN = 20

# Names that other people give to our columns; only ever suggested, never assumed.
OTHER_NAMES = {
    "id": ("docid", "product_id", "item_id", "sku", "asin", "doc_id"),
    "title": ("name", "product_name", "product_title"),
    "query": ("search_term", "keyword", "q"),
    "item_id": ("product_id", "docid", "id", "sku", "asin", "doc_id"),
    "label": ("rating", "grade", "relevance", "judgement", "judgment", "esci_label"),
}


@dataclass(frozen=True, order=True)
class BadRow:
    """One value that cannot be used. row: 1 is the first row of the file, which is the header of a csv or tsv."""

    row: int
    column: str
    expected: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}: expected {self.expected}"


def describe(path: Path, problems: Sequence[BadRow]) -> list[str]:
    """The first 20 problems, one line each with the file's name, and how many more there are."""
    lines = [f"{path}, {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"... and {len(problems) - SHOWN:,} more")
    return lines


def tolerate(path: Path, problems: Iterable[BadRow], skip_bad: int) -> tuple[BadRow, ...]:
    """The problems in row order when they touch at most `skip_bad` rows, else a ValueError that lists the first 20."""
    ordered = tuple(sorted(problems))
    rows = {problem.row for problem in ordered}
    if len(rows) <= skip_bad:
        return ordered
    head = f"{path} has {len(rows):,} bad row{'s' if len(rows) > 1 else ''}"
    advice = " (--skip-bad N tolerates N of them, in training data.skip_bad = N)"
    head += f" and --skip-bad tolerates {skip_bad}" if skip_bad else advice
    raise ValueError("\n".join([f"{head}:", *(f"  {line}" for line in describe(path, ordered))]))


def require_columns(
    path: Path, mapping: dict[str, str], required: Sequence[str], columns: Sequence[str], option: str = "--map {0}"
) -> None:
    """ValueError for the first required column that the file lacks; it names the nearest column and how to map it.

    mapping: our name -> their name. A column that was mapped by hand has to exist even when it is optional. option:
    what maps the columns of this file, {0} stands for OURS=THEIRS; "" where nothing does.
    """
    mapped = [ours for ours, theirs in mapping.items() if ours != theirs]
    for ours in dict.fromkeys([*required, *mapped]):
        if mapping[ours] not in columns:
            raise ValueError(f"{path} has no column {mapping[ours]!r}{_hint(ours, mapping[ours], columns, option)}")


def _hint(ours: str, theirs: str, columns: Sequence[str], option: str) -> str:
    """What to do about a missing column: the nearest name, or the list of names."""
    lower = {name.lower(): name for name in reversed(columns)}
    usual = [lower[name] for name in OTHER_NAMES.get(ours, ()) if name in lower]
    near = [lower[name] for name in get_close_matches(theirs.lower(), list(lower), n=1, cutoff=0.6)]
    listed = ", ".join(columns[:30]) + (", ..." if len(columns) > 30 else "")
    best = (near or usual)[:1]
    instruction = option.format(f"{ours}={best[0] if best else 'COLUMN'}") or "rename it"
    advice = f"; nearest: {best[0]!r} ({instruction})" if best else f"; name it with {instruction}" if option else ""
    return f"{advice}; columns: {listed}"
