"""Streamed events as the source of a training: each lane of the stream is a micro-batch, read by the rank that uses it.

An update holds the next rows of every lane of the stream, whoever computes it: the number of processes changes who
reads what, and no update. A rank reads the rows of its own micro-batches only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from goodrate.catalog.events import EventBatch, EventStream
from goodrate.learning.losses import binary
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.ragged import Ragged

MicroBatchOf = Callable[[EventBatch], dict[str, Any]]
MaskOf = Callable[[EventBatch], torch.Tensor]  # (N,) bool


def event_tensors(batch: EventBatch) -> dict[str, Any]:
    """ids: Ragged by feature; numbers: (N, F) float32 in the order of the columns, NaN = missing; labels (N,), where
    there are labels; times (N,) int64 microseconds, where there are times. Memory is shared with the batch.
    """
    numbers = [torch.from_numpy(column) for column in batch.numbers.values()]
    tensors: dict[str, Any] = {
        "ids": {name: Ragged(_tensor(values), _tensor(offsets)) for name, (values, offsets) in batch.ids.items()},
        "numbers": torch.stack(numbers, dim=1) if numbers else torch.empty(batch.rows, 0),
    }
    if batch.labels is not None:
        tensors["labels"] = torch.from_numpy(batch.labels)
    if batch.times is not None:
        tensors["times"] = torch.from_numpy(batch.times)
    return tensors


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def click_term(weight: float = 1.0) -> Term:
    """Binary cross-entropy of outputs["logits"] (N,) with labels (N,), over all rows of an update."""

    def loss(outputs: Outputs, batch: MicroBatch) -> torch.Tensor:
        return binary(outputs["logits"], batch["labels"])

    return Term("click", loss, mask="mask", weight=weight)


class EventSource:
    """Updates of `rows` events from each lane of the stream; the last ones of an epoch may have fewer.

    terms: of the loss, over micro-batches with "mask" (N,) and what `tensors` makes of a batch. mask_of: the mask of a
    batch, for which every process reads the rows of all lanes; None = all true. None from
    next() = the stream has ended; a growing folder then has nothing new for now. ValueError for a growing folder with
    several processes: they would see new files at different times.
    """

    def __init__(
        self, stream: EventStream, rows: int, terms: Sequence[Term] | None = None,
        tensors: MicroBatchOf = event_tensors, mask_of: MaskOf | None = None,
    ) -> None:  # fmt: skip
        if rows < 1:
            raise ValueError(f"rows {rows}: expected at least 1 event of each lane in an update")
        if stream.is_growing and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("a growing folder is followed by one process, not by several")
        self._stream, self._rows, self._tensors, self._mask_of = stream, rows, tensors, mask_of
        self._terms = [click_term()] if terms is None else list(terms)

    def next(self, step: int) -> Update | None:
        """The next rows of every lane; where they are read is decided by who uses them."""
        if not self._stream.advance():
            return None
        plan, batches = self._stream.plan, []
        for lane in range(plan.workers):
            start, stop = plan.take(lane, self._rows)
            if stop > start:
                batches.append(_ReadWhenUsed(self._stream, self._tensors, lane, start, stop, self._mask_of))
        return Update(batches, self._terms, facts={"events": sum(batch.rows for batch in batches)})

    def state_dict(self) -> dict[str, Any]:
        """That of the stream: it holds for all processes."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the rows of the updates before, with another number of lanes or processes too."""
        self._stream.load_state_dict(state)


class _ReadWhenUsed(Mapping[str, Any]):
    """A micro-batch whose rows are read when a value is asked for; so is its mask by mask_of."""

    def __init__(
        self, stream: EventStream, tensors: MicroBatchOf, lane: int, start: int, stop: int,
        mask_of: MaskOf | None,
    ) -> None:
        self._read, self._tensors, self._mask_of = lambda: stream.read(lane, start, stop), tensors, mask_of
        self.rows = stop - start

    @cached_property
    def _events(self) -> EventBatch:
        return self._read()

    @cached_property
    def _mask(self) -> torch.Tensor:
        return torch.ones(self.rows, dtype=torch.bool) if self._mask_of is None else self._mask_of(self._events)

    @cached_property
    def _held(self) -> dict[str, Any]:
        return {"mask": self._mask, **self._tensors(self._events)}

    def __getitem__(self, name: str) -> Any:
        return self._mask if name == "mask" else self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
