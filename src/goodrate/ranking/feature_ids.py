"""Sparse features as 64-bit ids: every text has one, no vocabulary is kept, and nothing has to be known in advance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goodrate.catalog.text_hash import hash_texts, mixed

HASHING = "text_hash 1"  # part of a ranker's fingerprint: other hashing is other features


def text_ids(texts: Sequence[str]) -> np.ndarray:
    """The ids of texts (N,) int64, the same on every machine.

    >>> text_ids(["lamp", "lamp", "Lamp"]).tolist()
    [2841836624094774926, 2841836624094774926, -3361975336394005760]
    """
    import pyarrow as pa

    return hash_texts(pa.array(texts, pa.string()))


def spread(ids: np.ndarray) -> np.ndarray:
    """Every bit of the result (N,) uint64 depends on every bit of an id (N,) int64; different ids stay different."""
    return mixed(ids.view(np.uint64))


def crossed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The ids of pairs (N,) int64; (a, b) and (b, a) are two."""
    return mixed(mixed(left.view(np.uint64)) + right.view(np.uint64)).view(np.int64)
