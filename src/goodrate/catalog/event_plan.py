"""Who reads which row groups of event files, and how far all are: a state that any number of workers goes on from."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from goodrate.catalog.event_files import RowGroup

Part = tuple[RowGroup, int]  # a row group and the row of it where the reading begins
State = dict[str, Any]


@dataclass(frozen=True)
class Lane:
    """What one worker reads, in this order. ends: for each part, the rows of the lane up to its end."""

    parts: tuple[Part, ...]
    ends: np.ndarray

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Lane:
        """The lane of these parts."""
        held = tuple(parts)
        return cls(held, np.cumsum([group.rows - start for group, start in held], dtype=np.int64))

    @property
    def rows(self) -> int:
        """All rows of the lane."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def after(self, row: int) -> list[Part]:
        """The parts from a row of the lane on; the first one may begin inside its row group."""
        place = int(np.searchsorted(self.ends, row, side="right"))
        if place == len(self.parts):
            return []
        group, start = self.parts[place]
        before = int(self.ends[place - 1]) if place else 0
        return [(group, start + row - before), *self.parts[place + 1 :]]


def deal(parts: Iterable[Part], workers: int, seed: int | None, epoch: int) -> list[Lane]:
    """Lanes with about as many rows each: the largest part goes to the worker with the fewest rows so far.

    A lane keeps the order of the parts; with a seed it has one that depends on seed and epoch. Longest processing time
    first (Graham, 1969): the longest lane is at most 4/3 of the best possible.
    """
    held = list(parts)
    lanes: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0, worker) for worker in range(workers)]
    for number in sorted(range(len(held)), key=lambda n: (held[n][1] - held[n][0].rows, n)):
        rows, worker = heapq.heappop(loads)
        lanes[worker].append(number)
        heapq.heappush(loads, (rows + held[number][0].rows - held[number][1], worker))
    if seed is None:
        return [Lane.of(held[number] for number in sorted(lane)) for lane in lanes]
    place = {n: hashlib.sha256(repr((seed, epoch, group.key)).encode()).digest() for n, (group, _) in enumerate(held)}
    return [Lane.of(held[number] for number in sorted(lane, key=place.__getitem__)) for lane in lanes]


class EventPlan:
    """The lanes of an epoch and how many rows of each have been taken."""

    def __init__(self, groups: Sequence[RowGroup], workers: int, seed: int | None) -> None:
        """groups: of the first epoch."""
        if workers < 1:
            raise ValueError(f"workers {workers}; expected at least 1")
        self.workers, self.seed, self.epoch = workers, seed, 0
        self._finished: list[RowGroup] = []  # of lanes before those that are
        self._set(deal(((group, 0) for group in groups), workers, seed, 0))

    def _set(self, lanes: Sequence[Lane]) -> None:
        self.lanes, self.taken = tuple(lanes), [0] * len(lanes)

    def left(self, worker: int) -> int:
        """Rows that a worker has not taken."""
        return self.lanes[worker].rows - self.taken[worker]

    def take(self, worker: int, rows: int) -> tuple[int, int]:
        """The next rows of a worker, at most so many: from row, to row of its lane."""
        start = self.taken[worker]
        self.taken[worker] = min(start + rows, self.lanes[worker].rows)
        return start, self.taken[worker]

    @property
    def rows_taken(self) -> int:
        """Rows that have been taken in this epoch, by all workers, before a resumption too."""
        begun = (start for lane, taken in zip(self.lanes, self.taken, strict=True) for _, start in lane.after(taken))
        return sum(group.rows for group in self.finished()) + sum(begun)

    @property
    def is_done(self) -> bool:
        """Whether every row has been taken."""
        return not any(self.left(worker) for worker in range(self.workers))

    def next_epoch(self, groups: Sequence[RowGroup]) -> None:
        """All row groups anew."""
        self.epoch, self._finished = self.epoch + 1, []
        self._set(deal(((group, 0) for group in groups), self.workers, self.seed, self.epoch))

    def add(self, groups: Sequence[RowGroup]) -> int:
        """What has not been read of a growing set of row groups, once all before it is; returns how many rows."""
        done = self.finished()
        known = {group.key: group.rows for group in done}
        new = [group for group in groups if group.key not in known]
        for group in groups:
            if known.get(group.key, group.rows) != group.rows:
                raise ValueError(f"{group.file}, row group {group.group}: had {known[group.key]:,} rows when it was "
                                 f"read, and has {group.rows:,}; a growing file may get more, not others")  # fmt: skip
        self._finished = done
        self._set(deal(((group, 0) for group in new), self.workers, self.seed, self.epoch))
        return sum(group.rows for group in new)

    def finished(self) -> list[RowGroup]:
        """The row groups of which every row has been taken, in this epoch."""
        own = [
            lane.parts[place][0]
            for lane, taken in zip(self.lanes, self.taken, strict=True)
            for place in range(int(np.searchsorted(lane.ends, taken, side="right")))
        ]
        return [*self._finished, *own]

    def state_dict(self) -> State:
        """Plain values: the epoch; the finished row groups, [file, group, rows]; what is left of each lane, [file,
        group, rows, rows taken]. It holds for all workers."""
        left = [lane.after(taken) for lane, taken in zip(self.lanes, self.taken, strict=True)]
        return {
            "epoch": self.epoch,
            "finished": [[*group.key, group.rows] for group in sorted(self.finished())],
            "left": [[[*group.key, group.rows, start] for group, start in parts] for parts in left],
        }

    def load_state_dict(self, state: State, groups: Sequence[RowGroup], where: str, rotated: bool = False) -> None:
        """Go on from a state, of this number of workers or another. groups: those that there are. rotated: files that
        have been read may be gone. where: what an error begins with.

        Raises ValueError where a row group of the state is gone or has other rows.
        """
        known = {group.key: group for group in groups}
        self.epoch = int(state["epoch"])
        read = [RowGroup(file, int(group), int(rows), 0) for file, group, rows in state["finished"]]
        self._finished = [
            group if rotated and group.key not in known else _same(known, *group.key, group.rows, where)
            for group in read
        ]
        lanes = [
            [(_same(known, file, group, rows, where), int(start)) for file, group, rows, start in lane]
            for lane in state["left"]
        ]
        if len(lanes) == self.workers:
            self._set([Lane.of(parts) for parts in lanes])
        else:
            parts = sorted((part for lane in lanes for part in lane), key=lambda part: part[0])
            self._set(deal(parts, self.workers, self.seed, self.epoch))


def _same(known: Mapping[tuple[str, int], RowGroup], file: str, group: int, rows: int, where: str) -> RowGroup:
    """The row group of a state. ValueError where it is gone or other than it was."""
    found = known.get((file, int(group)))
    if found is None or found.rows != int(rows):
        now = f"has {found.rows:,} rows" if found else "is not there"
        raise ValueError(f"{where}: the state was taken when row group {group} of {file} had {rows:,} rows, and now it "
                         f"{now}; put the file back as it was, or begin anew")  # fmt: skip
    return found


def merged(states: Sequence[State]) -> State:
    """One state of what W workers say who each read their own lane of the same plan: of lane w the w-th one knows.

    Raises ValueError where they are not of one epoch and number of workers.
    """
    lanes = {len(state["left"]) for state in states}
    epochs = {state["epoch"] for state in states}
    if lanes != {len(states)} or len(epochs) != 1:
        raise ValueError(f"expected the states of as many workers as there are lanes, of one epoch; got {len(states)} "
                         f"states of {sorted(lanes)} lanes, epochs {sorted(epochs)}")  # fmt: skip
    left = [state["left"][worker] for worker, state in enumerate(states)]
    unread = {tuple(part[:3]) for lane in left for part in lane}
    finished = sorted({tuple(group) for state in states for group in state["finished"]} - unread)
    return {"epoch": states[0]["epoch"], "finished": [list(group) for group in finished], "left": left}
