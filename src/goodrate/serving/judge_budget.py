"""How long a judge takes, learned from its batches: what a time for verdicts is spent by (judge_desk)."""

from __future__ import annotations

from collections import deque

import numpy as np

REMEMBERED = 32  # batches that a prediction is made of
FIRST = 2  # pairs of a judge's first batch, when nothing is known of its speed
LIKELY = 0.9  # of the remembered batches took no longer than what is predicted


class JudgePace:
    """How long a judge takes for so many pairs: a + b * n, of its last batches. Safe from many threads.

    The line is the least-squares one, with a, b >= 0, times what covers LIKELY of the batches that it was drawn from.
    """

    def __init__(self) -> None:
        self._batches: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def took(self, pairs: int, seconds: float) -> None:
        """Remember a batch."""
        self._batches.append((pairs, seconds))

    def takes(self, pairs: int) -> float:
        """Seconds that so many pairs are likely to take; a second each where nothing is known."""
        start, each = self._line() if self._batches else (0.0, 1.0)
        return start + each * pairs

    def fits(self, seconds: float, forget: bool = True) -> int:
        """How many pairs are likely judged within that time; FIRST where nothing is known.

        forget: when not one fits, the oldest batch is forgotten: a time when the machine was busy is not held against
        the judge for ever.
        """
        if seconds <= 0:
            return 0
        if not self._batches:
            return FIRST
        start, each = self._line()
        fitting = max(0, int((seconds - start) / max(each, 1e-9)))
        if not fitting and forget:
            self._batches.popleft()
        return fitting

    def _line(self) -> tuple[float, float]:
        """Seconds of a batch and of each pair in it."""
        batches = list(self._batches)  # others may add to it
        pairs, seconds = (np.asarray(values, dtype=np.float64) for values in zip(*batches, strict=True))
        design = np.column_stack([np.ones_like(pairs), pairs])
        start, each = np.linalg.lstsq(design, seconds, rcond=None)[0] if len(set(pairs.tolist())) > 1 else (-1.0, 0.0)
        if start < 0:
            start, each = 0.0, float(pairs @ seconds / (pairs @ pairs))
        elif each < 0:
            start, each = 0.0, float((seconds / pairs).max())
        margin = max(1.0, float(np.quantile(seconds / np.maximum(start + each * pairs, 1e-9), LIKELY)))
        return float(start) * margin, float(each) * margin
