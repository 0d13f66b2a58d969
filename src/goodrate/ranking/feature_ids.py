"""Sparse features as 64-bit ids: every text has one, no vocabulary is kept, and nothing has to be known in advance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

HASHING = "blake2b-8, splitmix64"  # part of a ranker's fingerprint: other hashing is other features
_ONE, _TWO = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def text_id(text: str) -> int:
    """The id of one text: the first 8 bytes of its BLAKE2b, as int64; the same on every machine.

    >>> text_id("lamp") == text_id("lamp"), text_id("lamp") == text_id("Lamp")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def text_ids(texts: Sequence[str]) -> np.ndarray:
    """The ids of texts (N,) int64; each distinct text is hashed once."""
    distinct, place = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
    return np.asarray([text_id(text) for text in distinct], dtype=np.int64)[place]


def mixed(ids: np.ndarray) -> np.ndarray:
    """Every bit of the result (N,) uint64 depends on every bit of an id (N,) int64: the finalizer of splitmix64."""
    value = ids.view(np.uint64) + _STEP
    value = (value ^ (value >> np.uint64(30))) * _ONE
    value = (value ^ (value >> np.uint64(27))) * _TWO
    return value ^ (value >> np.uint64(31))


def crossed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The ids of pairs (N,) int64; (a, b) and (b, a) are two."""
    return mixed((mixed(left) + right.view(np.uint64)).view(np.int64)).view(np.int64)
