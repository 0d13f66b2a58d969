"""Hashes of (table, id): where an id lies in an index, which rank owns it, and the values it starts with."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

BUCKETS = 1 << 16  # of the hash's top bits; ranks own ranges of buckets
_MULTIPLIERS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of splitmix64, as signed numbers
_COLUMN, _FIRST, _SECOND = -0x61C88647, -0x7A143595, -0x3D4D51CB  # golden ratio and murmur3's finalizer, signed
_CHUNK = 4096  # rows whose initial values are computed at a time: they stay in the cache


def salt_of(*parts: str | int) -> int:
    """A signed 64-bit number of what it is for.

    >>> salt_of("item") == salt_of("item"), salt_of("item") == salt_of("query")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little", signed=True)


def mixed(ids: Tensor, salt: Tensor | int) -> Tensor:
    """splitmix64's finalizer of ids ^ salt: for one salt, different ids have different hashes. int64, any shape."""
    h = ids ^ salt
    h ^= (h >> 30) & 0x3FFFFFFFF
    h *= _MULTIPLIERS[0]
    h ^= (h >> 27) & 0x1FFFFFFFFF
    h *= _MULTIPLIERS[1]
    h ^= (h >> 31) & 0x1FFFFFFFF
    return h


def bucket_of(hashes: Tensor) -> Tensor:
    """The bucket, 0..65535, rising with the signed hash: rows sorted by hash are sorted by bucket."""
    return (hashes >> 48) + (BUCKETS >> 1)


def first_hash(bucket: int) -> int:
    """The lowest hash of a bucket."""
    return (bucket - (BUCKETS >> 1)) << 48


def initial_values(hashes: Tensor, dim: int, seed: int, scale: float) -> Tensor:
    """(U, dim) float32, uniform in [-scale, scale), a pure function of (seed, hash, column).

    hashes: (U,) of (table, id). The same id starts with the same values on any rank, in any order, after any eviction.
    """
    out = torch.zeros(len(hashes), dim, device=hashes.device)
    if scale == 0.0:
        return out
    words = mixed(hashes, salt_of("initial", seed)).view(torch.int32).view(-1, 2)
    columns = torch.arange(dim, dtype=torch.int32, device=hashes.device) * _COLUMN
    for start in range(0, len(hashes), _CHUNK):
        low, high = words[start : start + _CHUNK, :1], words[start : start + _CHUNK, 1:]
        x = low + columns
        x ^= (x >> 16) & 0xFFFF
        x *= _FIRST
        x ^= high
        x ^= (x >> 15) & 0x1FFFF
        x *= _SECOND
        x ^= (x >> 16) & 0xFFFF
        x >>= 8  # 24 bits with a sign: exact in float32
        torch.mul(x, scale * 2.0**-23, out=out[start : start + _CHUNK])
    return out
