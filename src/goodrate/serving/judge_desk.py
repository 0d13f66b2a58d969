"""One judge for many searches at once: their pairs share batches, and reasons are written while nothing else waits.

What is stored costs a look-up, in the thread of the search, and never waits for the judge.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from goodrate.models.asker import ASKER, AskerGone, require_asker
from goodrate.models.steps import between_steps
from goodrate.models.worker import EXPLAINING, JUDGING, ModelWorker
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Pair
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.judge_budget import JudgePace
from goodrate.serving.records import Overloaded

BATCH = 40  # pairs that are judged together: what a search that comes then waits for, at most
ROUND = 200  # pairs of one request, before those that came later get a turn
MOST_PAIRS, MOST_REASONS = 10_000, 100  # that wait; for more the answer is "later"
Places = list[int]


@dataclass
class _Asked:
    """The pairs of one request. waiting: places of those that have no verdict. end: when its time is spent, in seconds
    of the desk's clock. judged: how many it was given. worked: seconds of the batches that it had a part in."""

    judge: CalibratedJudge
    pairs: Sequence[Pair]
    verdicts: list[Verdict | None]
    waiting: Places
    end: float | None
    order: int
    judged: int = 0
    worked: float = 0.0
    in_batch: bool = False
    future: Future[None] = field(default_factory=Future)

    @property
    def turn(self) -> tuple[int, int]:
        """Requests take turns by this."""
        return self.judged // ROUND, self.order

    @property
    def kind(self) -> tuple[int, int, float, float]:
        """Requests of one kind share batches: the same judge, whatever it is told of each query."""
        return id(self.judge.inner), id(self.judge.store), self.judge.temperature, self.judge.beta_cum

    @property
    def open(self) -> bool:
        """Whether it waits for verdicts."""
        return bool(self.waiting) and not self.future.done()

    def give(self, places: Places, verdicts: Sequence[Verdict], seconds: float) -> None:
        """Verdicts of the first of its pairs that wait, from a batch that took so long."""
        self.waiting = self.waiting[len(places) :]
        self.judged, self.worked, self.in_batch = self.judged + len(places), self.worked + seconds, False
        for place, verdict in zip(places, verdicts, strict=True):
            self.verdicts[place] = verdict
        if not self.waiting:
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes: whoever waits goes on with what is there."""
        self.waiting = []
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


_Part = tuple[_Asked, Places]


class JudgeDesk:
    """Where verdicts and reasons of one judge are asked for, by any number of threads.

    Requests are served in the order in which they came, ROUND pairs at a time, and batches are filled up with the
    pairs of those that come next. A verdict does not depend on what else is in its batch: that is the judge's part
    (models.label_forward). Raises AskerGone when whoever asked has left, Overloaded when too much waits.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.worker, self.pace, self.clock = ModelWorker(), JudgePace(), clock
        self._lock = threading.Lock()
        self._open: list[_Asked] = []
        self._order = itertools.count()
        self._reasons = 0  # that wait or are being written

    def verdicts(
        self, judge: CalibratedJudge, pairs: Sequence[Pair], seconds: float | None = None
    ) -> tuple[list[Verdict | None], float]:
        """The verdict of each pair, in order, and the seconds that were spent waiting for others.

        seconds: what may be spent, waiting included; None = no limit. Stored verdicts come first, then the others from
        the first pair on; None for those that the time did not reach. Each batch is half of what is likely to fit into
        the time that is left, so that a batch has to take twice as long as predicted before the time is overrun.
        """
        end = None if seconds is None else self.clock() + seconds
        verdicts = judge.kept_verdicts(pairs)
        waiting = [place for place, verdict in enumerate(verdicts) if verdict is None]
        if not waiting:
            return verdicts, 0.0
        require_asker()
        asked = _Asked(judge, pairs, verdicts, waiting, end, next(self._order))
        start = self.clock()
        self._join(asked)
        try:
            self.worker.submit(self._batch, JUDGING)
            self._await(asked)
        finally:
            with self._lock:
                self._open.remove(asked)
        return asked.verdicts, max(0.0, self.clock() - start - asked.worked)

    def explained(self, judge: CalibratedJudge, pair: Pair) -> Verdict:
        """The verdict of a pair with its reason; a stored one waits for nothing."""
        kept = judge.kept_verdicts([pair])[0]
        if kept is not None and (kept.label is None or kept.explanation is not None):
            return kept
        with self._lock:
            if self._reasons >= MOST_REASONS:
                raise Overloaded(f"{MOST_REASONS} reasons are waited for", 10.0)
            self._reasons += 1
        asker = ASKER.get()

        def between() -> None:
            if asker is not None and asker.gone:
                raise AskerGone
            self.worker.between(EXPLAINING)

        def work() -> Verdict:
            with between_steps(between):
                return judge.pair_verdicts([pair], reasons=True)[0]

        try:
            return self.worker.call(work, EXPLAINING)
        finally:
            with self._lock:
                self._reasons -= 1

    def _join(self, asked: _Asked) -> None:
        """Queue up. Raises Overloaded when there are too many already."""
        with self._lock:
            before = sum(len(other.waiting) for other in self._open)
            if before and before + len(asked.waiting) > MOST_PAIRS:
                raise Overloaded(f"{before:,} verdicts are waited for", self.pace.takes(before))
            self._open.append(asked)

    def _await(self, asked: _Asked) -> None:
        """Wait until the verdicts are there, or the time is spent and none of them is being made."""
        try:
            left = None if asked.end is None else max(0.0, asked.end - self.clock())
            self.worker.wait(asked.future, left)
        except TimeoutError:
            with self._lock:
                if not asked.in_batch:
                    return asked.finish()
            self.worker.wait(asked.future)

    def _batch(self) -> None:
        """Judge one batch; another turn follows when pairs are left."""
        parts = self._composed()
        if parts:
            self._judge(parts)
        with self._lock:
            more = any(asked.open for asked in self._open)
        if more:
            self.worker.submit(self._batch, JUDGING)

    def _composed(self) -> list[_Part]:
        """The pairs of the next batch. Ends what has no time left for one."""
        parts: list[_Part] = []
        size, most = 0, BATCH
        with self._lock:
            for asked in sorted(self._open, key=lambda one: one.turn):
                if not asked.open or (parts and asked.kind != parts[0][0].kind):
                    continue
                room = self._room(asked)
                if not room:
                    asked.finish()
                elif size < min(most, room):
                    most = min(most, room)
                    parts.append((asked, asked.waiting[: most - size]))
                    size, asked.in_batch = size + len(parts[-1][1]), True
        return parts

    def _room(self, asked: _Asked) -> int:
        """How large a batch may be that has pairs of this request."""
        if asked.end is None:
            return BATCH
        alone = len(self._open) == 1  # what fits no longer because others were first says nothing of the judge
        return min(BATCH, -(-self.pace.fits(asked.end - self.clock(), forget=alone) // 2))

    def _judge(self, parts: Sequence[_Part]) -> None:
        """Give each request the verdicts of its part. An error is of the request alone that it comes with."""
        pairs = [asked.pairs[place] for asked, places in parts for place in places]
        start = self.clock()
        try:
            verdicts = iter(parts[0][0].judge.pair_verdicts(pairs))
        except BaseException as error:  # a panic of a library is no Exception, and nobody may wait for good
            stopped = isinstance(error, KeyboardInterrupt)
            if len(parts) > 1 and not stopped:
                for part in parts:
                    self._judge([part])
                return
            for asked, _ in parts:
                asked.finish(error)
            if stopped:
                raise
            return
        took = self.clock() - start
        self.pace.took(len(pairs), took)
        with self._lock:
            for asked, places in parts:
                asked.give(places, [next(verdicts) for _ in places], took)
