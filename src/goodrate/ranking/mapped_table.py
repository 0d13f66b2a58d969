"""Rows of an embedding table by id, in files that are mapped into memory: it opens in milliseconds at any size.

ids.npy (N,) int64, weight.npy (N, D) float32, offsets.npy (B + 1,) int64 with B a power of two, at least N. Rows are
sorted by bucket (the low bits of a mixed id); those of bucket b stand at offsets[b] to offsets[b + 1] - 1. That is
about one row a bucket, so a lookup reads two offsets, an id or two and one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodrate.ranking.feature_ids import spread

TOLD = ("rows", "dim", "buckets", "longest")  # what a ranker's card says of a table
PARTS = {"ids": np.int64, "weight": np.float32, "offsets": np.int64}


@dataclass(frozen=True)
class MappedTable:
    """ids (N,), weight (N, D), offsets (B + 1,); longest: rows of the fullest bucket."""

    ids: np.ndarray
    weight: np.ndarray
    offsets: np.ndarray
    longest: int

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Row of each id (K,) int64, -1 for one that the table does not have."""
        bucket = _bucket(ids, len(self.offsets) - 1)
        start, end = self.offsets[bucket], self.offsets[bucket + 1]
        found = np.full(len(ids), -1, dtype=np.int64)
        for step in range(self.longest):
            asked = np.flatnonzero((found < 0) & (start + step < end))
            if not len(asked):
                break
            place = start[asked] + step
            hit = self.ids[place] == ids[asked]
            found[asked[hit]] = place[hit]
        return found

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id (K, D) float32, zeros for one that the table does not have."""
        rows = self.rows(ids)
        known = rows >= 0
        vectors = np.zeros((len(ids), self.weight.shape[1]), dtype=np.float32)
        vectors[known] = self.weight[rows[known]]
        return vectors


def write_table(folder: Path, ids: np.ndarray, weight: np.ndarray) -> dict[str, int]:
    """Write a table of distinct ids (N,) int64 with rows (N, D); returns what open_table is told of it.

    Raises ValueError for a number that is not finite: a training that ran away.
    """
    if not np.isfinite(weight).all():
        raise ValueError(f"{folder}: a weight is not finite; train the ranker again with a lower learning_rate")
    buckets = 1 << max(0, int(len(ids) - 1).bit_length())
    bucket = _bucket(ids, buckets)
    order = np.lexsort((ids, bucket))  # by id within a bucket: equal rows give equal files
    counts = np.bincount(bucket, minlength=buckets)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", ids[order])
    np.save(folder / "weight.npy", np.ascontiguousarray(weight[order], dtype=np.float32))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    return {"rows": len(ids), "dim": weight.shape[1], "buckets": buckets, "longest": int(counts.max(initial=0))}


def open_table(folder: Path, told: Mapping[str, int]) -> MappedTable:
    """The table of a folder. told: what write_table returned. Raises ValueError for files that are cut or others."""
    rows, buckets = told["rows"], told["buckets"]
    shapes = {"ids": (rows,), "weight": (rows, told["dim"]), "offsets": (buckets + 1,)}
    parts = {name: _mapped(folder / f"{name}.npy", shapes[name], kind) for name, kind in PARTS.items()}
    if parts["offsets"][0] != 0 or parts["offsets"][-1] != rows:
        raise ValueError(f"{folder / 'offsets.npy'}: does not end at the last of {rows} rows; write the ranker again")
    return MappedTable(**parts, longest=told["longest"])


def _mapped(path: Path, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """The array of a file, read where it is used. ValueError naming the file when it is cut off or another one."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if shape[0] else None)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; the folder lacks a part, write the ranker again") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: cut off or no table of a ranker ({error}); write the ranker again") from error
    if array.shape != shape or array.dtype != kind:
        found, expected = f"{array.dtype} {array.shape}", f"{np.dtype(kind)} {shape}"
        raise ValueError(f"{path}: holds {found}, the ranker's card says {expected}; write the ranker again")
    return array


def _bucket(ids: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each id (N,) int64."""
    return (spread(ids) & np.uint64(buckets - 1)).astype(np.int64)
