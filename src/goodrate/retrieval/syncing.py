"""What a run would do to an index, and which items may be removed because a catalogue lacks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodrate.catalog.items import Catalog
from goodrate.catalog.raw_table import WHOLE_ROW

NAMED = 5  # ids that a line names


@dataclass(frozen=True)
class Sync:
    """Remove what the catalogue lacks. limit: share of the index's items that may go. told: called with what will go,
    before anything is written."""

    limit: float
    told: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Missing:
    """Items of an index that a catalogue lacks. ids: in order; size: items of the index; unread: rows of the catalogue
    that could not be read, of which nobody knows whose they are."""

    ids: tuple[str, ...]
    size: int
    unread: int = 0

    @classmethod
    def of(cls, known: Iterable[str], catalog: Catalog) -> Missing:
        """Those of the known ids that the catalogue lacks; an item whose row was skipped is not missing."""
        before = set(known)
        unread = sum(problem.column == WHOLE_ROW for problem in catalog.skipped)
        return cls(tuple(sorted(before.difference(catalog.ids, catalog.skipped_ids))), len(before), unread)

    def check(self, path: Path, limit: float) -> None:
        """ValueError when a sync of the index at `path` may not remove them."""
        if self.unread:
            raise ValueError(
                f"--sync: {self.unread:,} rows of the catalogue could not be read, so it is not known which items of "
                f"{path} they are; mend them, or run without --sync"
            )
        share = len(self.ids) / self.size if self.size else 0.0
        if share > limit:
            raise ValueError(
                f"--sync would remove {len(self.ids):,} of {self.size:,} items of {path} ({share:.0%})"
                f"{_named(self.ids)}, and --sync-limit is {limit:g}; if the catalogue is whole: "
                f"--sync-limit {math.ceil(share * 100) / 100:g}"
            )

    def removal(self) -> str:
        """What a sync removes, "" for nothing."""
        count = f"--sync removes {len(self.ids):,} of {self.size:,} items"
        return f"{count}{_named(self.ids)}" if self.ids else ""


@dataclass(frozen=True)
class IndexPlan:
    """What bringing a catalogue into an index does: ids that are new and changed, in catalogue order, how many items
    stay as they are, and which the catalogue lacks."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: int
    missing: Missing

    def __str__(self) -> str:
        parts = ((self.added, "new"), (self.changed, "changed"), (self.missing.ids, "not in the catalogue"))
        counts = ", ".join(f"{len(ids):,} {what}{_named(ids)}" for ids, what in parts)
        return f"{counts}; {self.unchanged:,} unchanged"


def _named(ids: Sequence[str]) -> str:
    """The first ids in parentheses, "" where there is none."""
    more = ", ..." if len(ids) > NAMED else ""
    return f" ({', '.join(ids[:NAMED])}{more})" if ids else ""
