"""Where an index is, a folder or an address on S3, and how its vectors are searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.api.index import Index


def located(path: str | Path) -> Path:
    """The folder that stands for an index: the path itself, or a mirror of s3://BUCKET/PATH (retrieval.remote).

    Raises OSError naming the address where it cannot be read, ValueError for an address without a path.
    """
    from goodrate.retrieval.remote import located as mirror

    return mirror(path)


def require_kind(kind: str | None) -> None:
    """ValueError unless this is a kind of vector index, or None."""
    from goodrate.retrieval.vector_index import KINDS

    if kind is not None and kind not in KINDS:
        raise ValueError(f"--ann {kind}: expected one of {', '.join(KINDS)}")


def choose_vector_index(index: Index, kind: str) -> bool:
    """Search the vectors of an index so from here on; returns whether that kind of index is there.

    kind: ivf_sq, ivf_pq, ivf_hnsw_sq or exact. An index of fewer than 100,000 items is searched exactly whatever was
    chosen. Raises ValueError for another kind, and for an index without vectors.
    """
    from goodrate.retrieval.turns import writing_turn
    from goodrate.retrieval.vector_index import APPROXIMATE_FROM, EXACT, choose

    require_kind(kind)
    store = index.store
    if store.dimension is None:
        raise ValueError(f"--ann {kind}: {store.path} has no vectors: it was made without an encoder")
    with writing_turn(store.path):
        choose(store.path, kind)
        store.refresh()
    return kind == EXACT or len(store) >= APPROXIMATE_FROM
