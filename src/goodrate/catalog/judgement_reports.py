"""What reading judgements and joining them with a catalogue did, as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from goodrate.catalog.raters import MergeReport, ModelLabels


@dataclass(frozen=True)
class JoinReport:
    """What joining judgements with a catalogue kept and lost. Lost pairs are unknown, never grade 0.

    renamed: what is said of ids that the catalogue writes otherwise, "" where there are none.
    """

    pairs: int
    joined: int
    unknown_items: int
    lost_queries: int
    renamed: str = ""

    def __str__(self) -> str:
        lost = f"; {self.unknown_items:,} judged items are not in the catalogue" if self.unknown_items else ""
        queries = f" and {self.lost_queries:,} queries lost all their items" if self.lost_queries else ""
        renamed = f"; {self.renamed}" if self.renamed else ""
        return f"{self.joined:,} of {self.pairs:,} judgements join the catalogue{lost}{queries}{renamed}"


@dataclass(frozen=True)
class ReadReport:
    """What a reader did beside reading. format: the layout that it told by itself. unrated: ratings that are blank.

    repeats: rows that say what another one says. merge: how several labels of a pair became one. ratings: all labels
    before that (query_id, query, item_id, rater where named, label); None where there is one a pair. models: labels
    that a model made, None where the file names no such rater. notes: more.
    """

    format: str | None = None
    scale: str | None = None
    ratings_read: int = 0
    unrated: int = 0
    repeats: int = 0
    merge: MergeReport | None = None
    ratings: pl.DataFrame | None = field(default=None, compare=False)
    models: ModelLabels | None = field(default=None, compare=False)
    notes: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """What has to be said of it, one sentence a line."""
        lines = [f"read as {self.format} (--judgements-format says otherwise)"] if self.format else []
        lines += [f"scale {self.scale}, told by the labels (--scale says otherwise)"] if self.scale else []
        if self.unrated:
            lines.append(f"{self.unrated:,} of {self.ratings_read:,} ratings are blank: unrated, which is no label")
        lines += [f"{self.repeats:,} rows say again what another one says"] if self.repeats else []
        lines += [str(self.models)] if self.models and str(self.models) else []
        return (*lines, *([str(self.merge)] if self.merge else []), *self.notes)
