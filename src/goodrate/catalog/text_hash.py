"""Texts as 64-bit ids: one hash for all versions, machines and runs, computed over whole columns."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

SEED, STRIDE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
WORD = 8  # bytes


def mixed(words: np.ndarray) -> np.ndarray:
    """A bijection of uint64 words (N,) that spreads every bit: the finaliser of splitmix64 (Steele et al., 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def hash_texts(texts: Any) -> np.ndarray:
    """int64 (N,) of an Arrow array of texts or bytes, of the bytes as they are: "Lamp" and "lamp" differ.

    h = mixed(SEED + STRIDE * length), then h = mixed(h ^ w) for each little-endian word w of 8 bytes, the last one
    filled up with zero bytes; the bits of h are read as int64. Two texts of one length up to 8 bytes never share an id;
    of n others about n^2 / 2^65 pairs do. A null gets the id of an empty text: mask it. One numpy pass a word, over
    the texts that still have one.
    """
    import pyarrow as pa

    plain = texts.cast(pa.large_binary())
    count = len(plain)
    if not count:
        return np.empty(0, dtype=np.int64)
    _, places, data = plain.buffers()
    offsets = np.frombuffer(places, dtype=np.int64)[plain.offset : plain.offset + count + 1]
    held = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    padded = np.concatenate([held[offsets[0] : offsets[-1]], np.zeros(WORD, dtype=np.uint8)])
    return _hashed(padded, starts, lengths).view(np.int64)


def _hashed(padded: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uint64 (N,) of the texts padded[start : start + length]; 8 bytes more than the texts are there."""
    state = mixed(SEED + STRIDE * lengths.astype(np.uint64))
    longest_first = np.argsort(-((lengths + WORD - 1) // WORD), kind="stable")
    starts, lengths, ordered = starts[longest_first], lengths[longest_first], state[longest_first]
    words = np.ndarray((len(padded) - WORD + 1,), dtype="<u8", buffer=padded, strides=(1,))  # one begins at each byte
    for begin in range(0, int(lengths[0]), WORD):
        active = int(np.searchsorted(-((lengths + WORD - 1) // WORD), -(begin // WORD), side="left"))
        word = words[starts[:active] + begin].astype(np.uint64)
        missing = np.clip(WORD - (lengths[:active] - begin), 0, WORD - 1).astype(np.uint64) * np.uint64(8)
        ordered[:active] = mixed(ordered[:active] ^ (word & (np.uint64(sys.maxsize * 2 + 1) >> missing)))
    state[longest_first] = ordered
    return state
