"""Verdicts of known queries on the entities that most items have, in advance: the model is asked of new ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from goodrate.relevance.entity_verdicts import EntityTable, QueryEntityVerdicts
from goodrate.relevance.pairs import Item

BLOCK = 256  # verdicts that are asked for and kept together: what a process that is killed loses


def most_shared(table: EntityTable, items: Iterable[Sequence[Item]], most: int) -> tuple[np.ndarray, float]:
    """The numbers of the entities that most items have, `most` of them, what a query can want first of all; and which
    share of the entities of all items they are. items: in parts, so that not all have to be in memory. 0 of most = all.

    Entities that equally many items have are in the order in which they were met.
    """
    counts = np.zeros(0, dtype=np.int64)
    for part in items:
        rows = [table.row(item) for item in part]
        met = np.bincount(np.concatenate([*rows, np.zeros(0, np.int64)]), minlength=len(table.entities))
        met[: len(counts)] += counts
        counts = met
    order = np.argsort(-counts, kind="stable")
    chosen = order[counts[order] > 0][: most or None]
    share = float(counts[chosen].sum() / counts.sum()) if counts.sum() else 1.0
    return np.concatenate([table.demand, chosen]), share


def filled(verdicts: QueryEntityVerdicts, query: str, numbers: np.ndarray) -> int:
    """Ask for these entities under a query, BLOCK at a time; how many the model computed. The others were kept."""
    before = verdicts.calls
    for start in range(0, len(numbers), BLOCK):
        verdicts.of({query: numbers[start : start + BLOCK]})
    return verdicts.calls - before
