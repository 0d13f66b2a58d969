"""Judging within a time: stored verdicts first, then new ones in order of retrieval until the time is spent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Pair
from goodrate.relevance.verdicts import Verdict

REMEMBERED = 32  # batches that a prediction is made of
FIRST = 2  # pairs of a judge's first batch, when nothing is known of its speed
LIKELY = 0.9  # of the remembered batches took no longer than what is predicted


class JudgePace:
    """How long a judge takes for so many pairs: a + b * n, of its last batches. One thread at a time.

    The line is the least-squares one, with a, b >= 0, times what covers LIKELY of the batches that it was drawn from.
    """

    def __init__(self) -> None:
        self._batches: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def took(self, pairs: int, seconds: float) -> None:
        """Remember a batch."""
        self._batches.append((pairs, seconds))

    def fits(self, seconds: float) -> int:
        """How many pairs are likely judged within that time; FIRST where nothing is known.

        When not one fits, the oldest batch is forgotten: a time when the machine was busy is not held against the judge
        for ever.
        """
        if seconds <= 0:
            return 0
        if not self._batches:
            return FIRST
        start, each = self._line()
        fitting = max(0, int((seconds - start) / max(each, 1e-9)))
        if not fitting:
            self._batches.popleft()
        return fitting

    def _line(self) -> tuple[float, float]:
        """Seconds of a batch and of each pair in it."""
        pairs, seconds = (np.asarray(values, dtype=np.float64) for values in zip(*self._batches, strict=True))
        design = np.column_stack([np.ones_like(pairs), pairs])
        start, each = np.linalg.lstsq(design, seconds, rcond=None)[0] if len(set(pairs.tolist())) > 1 else (-1.0, 0.0)
        if start < 0:
            start, each = 0.0, float(pairs @ seconds / (pairs @ pairs))
        elif each < 0:
            start, each = 0.0, float((seconds / pairs).max())
        margin = max(1.0, float(np.quantile(seconds / np.maximum(start + each * pairs, 1e-9), LIKELY)))
        return float(start) * margin, float(each) * margin


def judge_within(
    judge: CalibratedJudge, pairs: Sequence[Pair], seconds: float, pace: JudgePace,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Verdict | None]:  # fmt: skip
    """The verdict of each pair, in order; None for those that the time did not reach.

    Stored verdicts first, then the others from the first pair on. Each batch is half of what is likely to fit into the
    time that is left, so that a batch has to take twice as long as predicted before the time is overrun.
    """
    end = clock() + seconds
    verdicts = judge.kept_verdicts(pairs)
    waiting = [place for place, verdict in enumerate(verdicts) if verdict is None]
    while waiting and (fitting := pace.fits(end - clock())):
        batch, waiting = _split(waiting, -(-fitting // 2))
        start = clock()
        judged = judge.pair_verdicts([pairs[place] for place in batch])
        pace.took(len(batch), clock() - start)
        for place, verdict in zip(batch, judged, strict=True):
            verdicts[place] = verdict
    return verdicts


def _split(places: list[int], count: int) -> tuple[list[int], list[int]]:
    return places[:count], places[count:]
