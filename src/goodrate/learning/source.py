"""Sources of updates: data order, refill queues and curricula live here, so that a killed run continues exactly."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from goodrate.learning.records import Update


class Source(Protocol):
    """Gives the updates of a run. The state holds plain values and tensors; with it, next() goes on as it would have.

    Every rank builds the same source and gets the same update; fit takes its share of the micro-batches.
    """

    def next(self, step: int) -> Update | None:
        """The update with this number (0, 1, ...), or None when there is no more."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def refuse_other_data(own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """ValueError naming what differs when a checkpoint's source had other data, seed or settings than this one."""
    differing = [name for name, value in own.items() if state.get(name) != value]
    if differing:
        raise ValueError(f"the checkpoint was made with other training data: {', '.join(differing)} differ")


def seed_of(*parts: int | str) -> int:
    """A seed from what it is for: (run, update, example, sample), never from a position in a batch. 63 bits.

    >>> seed_of(7, 0, "q1", 2) == seed_of(7, 0, "q1", 2), seed_of(1, 23) == seed_of(12, 3)
    (True, False)
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def bucketed_batches(lengths: Sequence[int], batch_size: int, seed: int, pool: int = 32) -> list[list[int]]:
    """Rows 0..N-1 in shuffled batches of similar length, every row once; the last batch may be short.

    Shuffles, sorts by length inside pools of `pool` batches, cuts, shuffles the batches. pool = 1 keeps pure chance.
    """
    rng = random.Random(seed)
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    batches = []
    for start in range(0, len(rows), batch_size * pool):
        chunk = sorted(rows[start : start + batch_size * pool], key=lambda row: lengths[row])
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    rng.shuffle(batches)
    return batches


def split_by_tokens(rows: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Cut a batch into micro-batches whose padded size (rows x longest) stays within max_tokens; at least one row each.

    >>> split_by_tokens([0, 1, 2], [4, 5, 9], max_tokens=12)
    [[0, 1], [2]]
    """
    micro_batches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: lengths[row]):
        longest = lengths[row]  # sorted, so the row itself is the longest of its micro-batch
        if micro_batches and (len(micro_batches[-1]) + 1) * longest <= max_tokens:
            micro_batches[-1].append(row)
        else:
            micro_batches.append([row])
    return micro_batches


class EpochOrder:
    """Which rows the update number `step` holds, over epochs of bucketed batches; a pure function of step and seed."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epochs: int | None = None) -> None:
        """epochs: None = without end (a budget of updates or seconds stops the run)."""
        if not lengths:
            raise ValueError("no examples to train on")
        self._lengths, self._batch_size, self._seed, self._epochs = lengths, batch_size, seed, epochs
        self._epoch, self._batches = -1, [[0]]
        self.batches_per_epoch = len(self._epoch_batches(0))

    def _epoch_batches(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            self._batches = bucketed_batches(self._lengths, self._batch_size, seed_of(self._seed, "epoch", epoch))
            self._epoch = epoch
        return self._batches

    def rows(self, step: int) -> list[int] | None:
        """Rows of an update; None after the last epoch."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if self._epochs is not None and epoch >= self._epochs:
            return None
        return self._epoch_batches(epoch)[position]
