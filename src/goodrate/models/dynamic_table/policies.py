"""Which ids get a row, and which rows go: admission by count, eviction by age, number or norm.

All is counted in updates (optimizer steps), over all ranks, and never depends on how an update is split over ranks or
micro-batches. `every`: updates between looks at the rows; each look that finds something rebuilds the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from goodrate.models.dynamic_table.hashing import BUCKETS, bucket_of

DEPTH = 4
_MOST = 255  # that a cell of the sketch can count


def _require(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} {value}: expected {least} or more")


@dataclass(frozen=True)
class MinCount:
    """An id gets its row in the k-th update in which it is seen: seen in k - 1 updates before. Until then it is zeros.

    Counted in a count-min sketch, 4 bytes for each of `cells` (a power of two of 65,536 or more) a table: never too
    few, seldom too many. halve_every: updates between halvings of all counts, so that old ids are forgotten; 0 = never.
    """

    count: int
    cells: int = 1 << 20
    halve_every: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST:
            raise ValueError(f"MinCount count {self.count}: expected 1 to {_MOST}")
        if self.cells < BUCKETS or self.cells & (self.cells - 1):
            raise ValueError(f"MinCount cells {self.cells}: expected a power of two of {BUCKETS} or more")
        _require("MinCount halve_every", self.halve_every, 0)


@dataclass(frozen=True)
class IdleSteps:
    """Rows not seen in the last `steps` updates go."""

    steps: int
    every: int = 100

    def __post_init__(self) -> None:
        _require("IdleSteps steps", self.steps, 1)
        _require("IdleSteps every", self.every, 1)


@dataclass(frozen=True)
class MaxRows:
    """Of each table at most so many rows stay, over all ranks: those seen last, or seen in the most updates."""

    rows: int
    by: Literal["last_step", "count"] = "last_step"
    every: int = 100

    def __post_init__(self) -> None:
        _require("MaxRows rows", self.rows, 1)
        _require("MaxRows every", self.every, 1)
        if self.by not in ("last_step", "count"):
            raise ValueError(f"MaxRows by {self.by!r} is not one of last_step, count")


@dataclass(frozen=True)
class MinNorm:
    """Rows whose Euclidean norm is smaller go."""

    norm: float
    every: int = 100

    def __post_init__(self) -> None:
        _require("MinNorm norm", self.norm, 0)
        _require("MinNorm every", self.every, 1)


Eviction = IdleSteps | MaxRows | MinNorm


class Sketch:
    """Counts of ids without a row: for each table and bucket a count-min sketch of DEPTH rows.

    Cells of a bucket lie together, so that a rank holds those of its own buckets and counts do not depend on the
    number of ranks. cells: (T, buckets of this rank, DEPTH, cells of a bucket) uint8.
    """

    def __init__(self, admission: MinCount, tables: int, buckets: range, device: torch.device) -> None:
        self._admission, self._first = admission, buckets.start
        self.cells = torch.zeros(
            tables, len(buckets), DEPTH, admission.cells // BUCKETS, dtype=torch.uint8, device=device
        )

    def _places(self, tags: Tensor, hashes: Tensor) -> Tensor:
        """(U, DEPTH) positions in the flat cells."""
        width = self.cells.shape[-1]
        start = (tags * self.cells.shape[1] + bucket_of(hashes) - self._first) * DEPTH
        depth = torch.arange(DEPTH, device=hashes.device)
        column = (hashes[:, None] >> (depth * 11)) & (width - 1)
        return (start[:, None] + depth) * width + column

    def admitted(self, tags: Tensor, hashes: Tensor) -> Tensor:
        """(U,) bool: seen often enough before this update."""
        seen = self.cells.view(-1)[self._places(tags, hashes)]
        return seen.amin(1) >= self._admission.count - 1 if len(seen) else torch.zeros_like(tags, dtype=torch.bool)

    def count(self, tags: Tensor, hashes: Tensor) -> None:
        """Once more for each of these different keys."""
        places, times = self._places(tags, hashes).unique(return_counts=True)
        flat = self.cells.view(-1)
        flat[places] = (flat[places].long() + times).clamp(max=_MOST).to(torch.uint8)

    def age(self, update: int) -> None:
        """Halve all counts when it is time."""
        if self._admission.halve_every and update % self._admission.halve_every == 0:
            self.cells //= 2


def top_rows(
    scores: Tensor, ties: Tensor, tags: Tensor, limit: int, tables: int, total: Callable[[Tensor], Tensor]
) -> Tensor:
    """(n,) bool: of each tag the `limit` rows of the highest (score, tie), over all ranks. total: a sum over ranks.

    scores, ties: (n,) int64; ties differ among rows of a tag. Found by bisection of the limit-th score, so that ranks
    exchange counts only.
    """
    held = total(torch.bincount(tags, minlength=tables))
    need = held.clamp(max=limit)
    score = _nth_largest(scores, tags, need, total)
    above = scores > score[tags]
    level = scores == score[tags]
    need = need - total(torch.bincount(tags[above], minlength=tables))
    tie = _nth_largest(ties[level], tags[level], need, total)
    return above | (level & (ties >= tie[tags]) & (need > 0)[tags])


def _nth_largest(values: Tensor, tags: Tensor, need: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """(T,) for each tag the largest bound that at least need[tag] of its values reach."""
    ends = torch.iinfo(torch.int64)
    low, high = torch.full_like(need, ends.min), torch.full_like(need, ends.max)
    while bool((low < high).any()):
        middle = (low | high) - ((low ^ high) >> 1)
        reached = total(torch.bincount(tags[values >= middle[tags]], minlength=len(need)))
        enough = reached >= need
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle - 1)
    return low
