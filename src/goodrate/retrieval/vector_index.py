"""The approximate index over the vectors of a large table: inverted lists of vectors in bytes (the engine's IVF_SQ).

A search reads the lists nearest to the query, more of them while a filter leaves too few items, and computes the best
REFINE * k of what it finds again from the full vectors: scores are exact and equal ones are ordered by id, but an item
in a list that was not read is missed. Items that were written since are scanned until they are more than NEW_SHARE;
removed ones are never found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goodrate import strict_json
from goodrate.run_folder import write_atomic

APPROXIMATE_FROM = 100_000  # items; fewer are compared one by one in some tens of milliseconds
LISTS_READ = 20
REFINE = 4
NEW_SHARE = 0.01  # of the items: so many new vectors are scanned by every search until there are more
GROWTH = 2.0  # the lists are made anew when there are so many times as many items as when they were made
TRAINED_FILE = "vector_index.json"


def update(table: Any, folder: Path) -> None:
    """Make the index of a table that has become large, take new vectors in, or drop that of one that is small again."""
    items, name = table.count_rows(), index_name(table)
    if name is None:
        if items >= APPROXIMATE_FROM:
            build(table, folder)
    elif items < APPROXIMATE_FROM / 2:
        table.drop_index(name)
    elif items > GROWTH * _trained(folder):
        build(table, folder)
    elif table.index_stats(name).num_unindexed_rows > NEW_SHARE * items:
        table.optimize()


def build(table: Any, folder: Path) -> None:
    """Make the index anew from all vectors."""
    from lancedb.index import IvfSq

    table.create_index("vector", config=IvfSq(distance_type="dot"), replace=True)
    write_atomic(folder / TRAINED_FILE, strict_json.dumps({"items": table.count_rows()}) + "\n")


def nearest(table: Any, vector: Any, exact: bool) -> Any:
    """The query for the vectors with the largest dot product. exact: compare with all of them, index or not."""
    query = table.search(vector, vector_column_name="vector").distance_type("dot")
    if exact:
        return query.bypass_vector_index()
    return query.minimum_nprobes(LISTS_READ).maximum_nprobes(0).refine_factor(REFINE)


def index_name(table: Any) -> str | None:
    """What the engine calls the index over the vectors; None where there is none."""
    return next((index.name for index in table.list_indices() if index.columns[0] == "vector"), None)


def _trained(folder: Path) -> float:
    """How many items there were when the lists were made; 0 when that cannot be read."""
    try:
        return float(strict_json.read_object(folder / TRAINED_FILE)["items"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
