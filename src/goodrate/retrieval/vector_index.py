"""The approximate index over the vectors of a large table: inverted lists, of vectors in bytes (the engine's IVF_SQ)
unless another kind was chosen for the index.

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
CHOICE_FILE = "vector_index.json"
IVF_SQ, IVF_PQ, IVF_HNSW_SQ, EXACT = "ivf_sq", "ivf_pq", "ivf_hnsw_sq", "exact"
KINDS = (IVF_SQ, IVF_PQ, IVF_HNSW_SQ, EXACT)
FLOATS_PER_CODE = 4  # of a vector that IVF_PQ keeps as one byte


def choose(folder: Path, kind: str) -> None:
    """Note which of KINDS the vectors of a folder are to have; the next `update` makes it."""
    _write(folder, {**_noted(folder), "kind": kind})


def chosen(folder: Path) -> str:
    """The kind of index that was chosen for a folder, IVF_SQ unless another one was."""
    kind = _noted(folder).get("kind")
    return kind if kind in KINDS else IVF_SQ


def update(table: Any, folder: Path) -> None:
    """Make the index of a table that has become large, take new vectors in, or drop that of one that is small again."""
    items, name, kind = table.count_rows(), index_name(table), chosen(folder)
    if name is None:
        if items >= APPROXIMATE_FROM and kind != EXACT:
            build(table, folder)
    elif items < APPROXIMATE_FROM / 2 or kind == EXACT:
        table.drop_index(name)
    elif items > GROWTH * _trained(folder) or _noted(folder).get("made", IVF_SQ) != kind:
        build(table, folder)
    elif table.index_stats(name).num_unindexed_rows > NEW_SHARE * items:
        table.optimize()


def build(table: Any, folder: Path) -> None:
    """Make the index anew from all vectors."""
    kind = chosen(folder)
    make(table, kind)
    _write(folder, {"items": table.count_rows(), "kind": kind, "made": kind})


def make(table: Any, kind: str) -> None:
    """Make the table's index of this kind."""
    from lancedb.index import IvfHnswSq, IvfPq, IvfSq

    config: Any = IvfSq(distance_type="dot")
    if kind == IVF_PQ:
        codes = max(1, table.schema.field("vector").type.list_size // FLOATS_PER_CODE)
        config = IvfPq(distance_type="dot", num_sub_vectors=codes)
    elif kind == IVF_HNSW_SQ:
        config = IvfHnswSq(distance_type="dot")
    table.create_index("vector", config=config, replace=True)


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
    items = _noted(folder).get("items", 0)
    return float(items) if isinstance(items, int | float) else 0.0


def _noted(folder: Path) -> dict[str, Any]:
    """What is noted of the index of a folder; nothing when that cannot be read."""
    try:
        return strict_json.read_object(folder / CHOICE_FILE)
    except (OSError, ValueError):
        return {}


def _write(folder: Path, noted: dict[str, Any]) -> None:
    write_atomic(folder / CHOICE_FILE, strict_json.dumps(noted) + "\n")
