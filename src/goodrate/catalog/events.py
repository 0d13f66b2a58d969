"""Impressions and clicks as a stream of batches: every row of the files once an epoch, resumable to the row.

Nothing but what is read ahead is in memory. The order of the rows is that of the plan (event_plan.py): it depends on
the files, the number of workers, the seed and the epoch, and on nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.catalog.event_columns import (
    Bags,
    Clock,
    EventColumns,
    Place,
    id_bags,
    label_column,
    number_column,
    position_column,
    text_column,
    time_column,
)  # fmt: skip
from goodrate.catalog.event_files import EventFiles
from goodrate.catalog.event_plan import EventPlan, Lane, State
from goodrate.catalog.read_ahead import ReadAhead

READ_ROWS = 8_192  # rows that are decoded at a time
AHEAD = 2  # decoded batches that wait
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EventBatch:
    """N events. ids: name -> (values int64 (M,), offsets int64 (N + 1,)); numbers: name -> float32 (N,), NaN = missing;
    labels: float32 (N,) of 0 and 1, None where no label is read; times: int64 (N,) microseconds since 1970, or None;
    texts: name -> Arrow array of texts (N,); positions: int32 (N,), or None.
    """

    rows: int
    ids: Mapping[str, Bags]
    numbers: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    times: np.ndarray | None = None
    texts: Mapping[str, Any] = field(default_factory=dict)
    positions: np.ndarray | None = None

    def part(self, start: int, stop: int) -> EventBatch:
        """Rows start to stop, which is not included."""
        cut = {name: _bag_part(bags, start, stop) for name, bags in self.ids.items()}
        numbers = {name: column[start:stop] for name, column in self.numbers.items()}
        single = (self.labels, self.times, self.positions)
        labels, times, positions = (None if column is None else column[start:stop] for column in single)
        texts = {name: column.slice(start, stop - start) for name, column in self.texts.items()}
        return EventBatch(stop - start, cut, numbers, labels, times, texts, positions)


def _bag_part(bags: Bags, start: int, stop: int) -> Bags:
    values, offsets = bags
    return values[offsets[start] : offsets[stop]], offsets[start : stop + 1] - offsets[start]


def joined(batches: Sequence[EventBatch]) -> EventBatch:
    """The rows of one batch after those of another; of one batch at least."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    ids = {name: _joined_bags([batch.ids[name] for batch in batches]) for name in first.ids}
    numbers = {name: np.concatenate([batch.numbers[name] for batch in batches]) for name in first.numbers}
    labels, times, positions = (
        _joined_columns([getattr(batch, name) for batch in batches]) for name in ("labels", "times", "positions")
    )
    texts = {name: _joined_texts([batch.texts[name] for batch in batches]) for name in first.texts}
    return EventBatch(sum(batch.rows for batch in batches), ids, numbers, labels, times, texts, positions)


def _joined_columns(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    held = [column for column in columns if column is not None]
    return np.concatenate(held) if held else None


def _joined_texts(columns: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_arrays(columns)


def _joined_bags(bags: Sequence[Bags]) -> Bags:
    lengths = np.concatenate([np.diff(offsets) for _, offsets in bags])
    return np.concatenate([values for values, _ in bags]), np.concatenate([[0], np.cumsum(lengths)])


class EventStream:
    """The events of files, for `workers` who each read a lane of their own.

    path: a parquet, ORC or Arrow file, a folder of them, or a list of files. epochs: None = without end. seed: of an
    order of the row groups that changes with the epoch; None = that of the files. follow: seconds to wait for rows that
    are added to a growing folder, None = it does not grow. clock_slack: seconds by which a time may lie before one
    further up in its row group; inf = any. Raises FileNotFoundError, and ValueError with file, row group, row, column
    and what was expected, at once or when the rows are read.
    """

    def __init__(
        self, path: str | Path | Sequence[str | Path], columns: EventColumns, *, workers: int = 1,
        epochs: int | None = 1, seed: int | None = None, follow: float | None = None, clock_slack: float = 0.0,
    ) -> None:  # fmt: skip
        if follow is not None and epochs != 1:
            raise ValueError("a growing folder has one epoch without end: leave epochs at 1 with follow")
        self.files = EventFiles(path, columns, growing=follow is not None)
        self.columns, self._epochs, self._follow, self._slack = columns, epochs, follow, clock_slack
        self.plan = EventPlan(self.files.row_groups(), workers, seed)
        self._readers: dict[int, _LaneReader] = {}

    def advance(self) -> bool:
        """Whether there are rows to take: goes to the next epoch, or waits for new rows, where all have been taken."""
        if not self.plan.is_done:
            return True
        self.close()
        if self._follow is not None:
            return self._await_rows(self._follow)
        if not self._has_next_epoch:
            return False
        self.plan.next_epoch(self.files.row_groups())
        return True

    def _await_rows(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self.plan.add(self.files.row_groups()):
            if time.monotonic() >= until:
                return False
            time.sleep(min(POLL_SECONDS, max(0.0, until - time.monotonic())))
        return True

    def read(self, worker: int, start: int, stop: int) -> EventBatch:
        """Rows of a worker's lane, as `plan.take` gave them. In order they are read ahead; else the reader jumps."""
        lane = self.plan.lanes[worker]
        reader = self._readers.get(worker)
        if reader is None or reader.lane is not lane or reader.at != start:
            if reader:
                reader.close()
            parts = self.files.batches(lane.after(start), READ_ROWS)
            reader = self._readers[worker] = _LaneReader(lane, start, _decoded(parts, self.columns, self._slack))
        return reader.next(stop - start)

    def batches(self, rows: int, worker: int = 0) -> Iterator[EventBatch]:
        """Batches of so many rows of one worker, over all epochs; the last one of an epoch may be short.

        Each worker has a stream of its own; the state of all is event_plan.merged. A growing folder has one worker: two
        would see new files at different times.
        """
        if self._follow is not None and self.plan.workers > 1:
            raise ValueError(f"a growing folder is read by one worker, not {self.plan.workers}")
        while True:
            while self.plan.left(worker):
                yield self.read(worker, *self.plan.take(worker, rows))
            if self._follow is None and not self._has_next_epoch:
                return
            for other in range(self.plan.workers):
                self.plan.take(other, self.plan.left(other))
            if not self.advance():
                return

    def newest(self) -> Iterator[EventBatch]:
        """The rows that are there, from the last row group to the first one; what has been taken stays as it is."""
        for group in reversed(self.files.row_groups()):
            yield from _decoded(self.files.batches([(group, 0)], READ_ROWS), self.columns, self._slack)

    @property
    def is_growing(self) -> bool:
        """Whether rows may be added while it is read."""
        return self._follow is not None

    @property
    def _has_next_epoch(self) -> bool:
        return self._epochs is None or self.plan.epoch + 1 < self._epochs

    def close(self) -> None:
        """End the threads that read ahead."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def state_dict(self) -> State:
        """Which rows have been taken, by all workers: plain values."""
        return self.plan.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Go on with the rows that were not taken, with this number of workers. ValueError where files have changed."""
        self.close()
        self.plan.load_state_dict(state, self.files.row_groups(), str(self.files), rotated=self._follow is not None)


def _decoded(
    batches: Iterator[tuple[Place, Any]], columns: EventColumns, slack: float
) -> Iterator[EventBatch]:  # fmt: skip
    """Record batches as arrays; the clock begins anew with every row group."""
    before, clock = None, Clock(slack)
    for place, batch in batches:
        if (place.path, place.group) != before:
            before, clock = (place.path, place.group), Clock(slack)
        yield decoded(batch, columns, place, clock)


def decoded(batch: Any, columns: EventColumns, place: Place, clock: Clock) -> EventBatch:
    """A record batch as arrays. Raises ValueError with file, row, column and what was expected."""
    ids = {name: id_bags(batch.column(name), name, place) for name in columns.ids}
    numbers = {name: number_column(batch.column(name), name, place) for name in columns.numbers}
    labels = times = None
    if columns.label is not None:
        labels = label_column(batch.column(columns.label), columns.label, place)
    if columns.time is not None:
        times = time_column(batch.column(columns.time), columns.time, place, columns.time_unit)
        clock.check(times, columns.time, place)
    texts = {name: text_column(batch.column(name), name, place) for name in columns.texts}
    positions = None
    if columns.position is not None:
        positions = position_column(batch.column(columns.position), columns.position, place)
    return EventBatch(batch.num_rows, ids, numbers, labels, times, texts, positions)


class _LaneReader:
    """Reads a lane from a row on, ahead of its user."""

    def __init__(self, lane: Lane, start: int, batches: Iterator[EventBatch]) -> None:
        """batches: the rows of the lane from `start` on."""
        self.lane, self.at = lane, start
        self._ahead = ReadAhead(batches, AHEAD)
        self._rest: EventBatch | None = None

    def next(self, rows: int) -> EventBatch:
        """The next rows; there are as many."""
        parts: list[EventBatch] = []
        missing = rows
        while missing:
            batch = self._rest if self._rest is not None else next(self._ahead)
            taken = min(missing, batch.rows)
            parts.append(batch.part(0, taken) if taken < batch.rows else batch)
            self._rest = batch.part(taken, batch.rows) if taken < batch.rows else None
            missing -= taken
        self.at += rows
        return joined(parts)

    def close(self) -> None:
        self._ahead.close()
