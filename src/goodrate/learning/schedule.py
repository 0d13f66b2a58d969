"""Learning-rate schedules as a factor of the progress of a run (0 at the start, 1 at the end of the budget)."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def factor(progress: float, *, schedule: Schedule, warmup: float, final: float = 0.0) -> float:
    """Learning-rate factor: up linearly over the first `warmup` share, then down to `final` by the schedule.

    >>> [factor(p, schedule="linear", warmup=0.5) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    left = (1 - progress) / (1 - warmup) if warmup < 1 else 1.0
    shape = left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
    return final + (1 - final) * shape


def run_progress(done: int, seconds: float, *, updates: int | None, budget: float | None) -> float:
    """The further of the two budgets, in 0..1; 1 where neither is set, so that a source that ends warms up not at all.

    done counts finished updates; the running one is placed at its middle, so that neither the first nor the last has
    rate 0.

    An update budget is the deterministic form: with seconds the factor depends on how fast the machine is.
    """
    shares = [(done + 0.5) / updates] if updates else []
    shares += [seconds / budget] if budget else []
    return min(max(shares, default=1.0), 1.0)
