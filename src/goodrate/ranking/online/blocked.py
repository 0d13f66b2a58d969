"""BOGD_IP: gradient descent in blocks, with infeasible projections, for many step sizes at once.

arXiv 2305.11726; steps, blocks and tolerances that move together, and the regret bound, are derived here: no constant
of the paper is public.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from goodrate.ranking.online.projection import Oracle, infeasible_projection
from goodrate.ranking.online.sets import FeasibleSet
from goodrate.ranking.online.state import Learner, held, restore


@dataclass(frozen=True)
class Constants:
    """Factors of block length, step size and tolerance. Those that theory needs in the worst case are many times
    larger for blocks and tolerances, smaller for steps, and move too slowly for horizons of thousands.
    """

    block: float = 0.5
    step: float = 4.0
    tolerance: float = 1.0


USUAL = Constants()


@dataclass(frozen=True)
class Schedule:
    """Of E experts, (E,) each: step size, rounds of a block (whole, >= 1), tolerance of the oracle."""

    step: np.ndarray
    block: np.ndarray
    tolerance: np.ndarray

    def __len__(self) -> int:
        return len(self.step)


def path_aware(
    feasible: FeasibleSet, gradient_bound: float, horizon: float, path: np.ndarray, constants: Constants = USUAL
) -> Schedule:
    """For comparators of path length (path - 1) * R over `horizon` rounds; path (E,), >= 1.

    block = c sqrt(T / p); step = c (R / G) p^(3/4) T^(-3/4); tolerance = c R^2 sqrt(p / T). All three move, so that
    every term of the regret is R G T^(3/4) p^(1/4); a step size alone would give p^(1/2).
    """
    radius, path = feasible.radius, np.asarray(path, dtype=np.float64)
    return Schedule(
        step=constants.step * radius / gradient_bound * (path / horizon) ** 0.75,
        block=np.maximum(np.rint(constants.block * np.sqrt(horizon / path)), 1).astype(np.int64),
        tolerance=constants.tolerance * radius**2 * np.sqrt(path / horizon),
    )


class BlockedDescent:
    """E experts of BOGD_IP that are told the same gradients; one alone is a Learner.

    An expert plays x for a block, sums its gradients, moves its point `near` (which may lie outside of the set, and
    stays so) against the sum, and asks the oracle for both anew.
    """

    _NAMES = ("plays", "near", "sums", "age", "oracle_calls")

    def __init__(
        self, feasible: FeasibleSet, schedule: Schedule, start: np.ndarray | None = None,
        oracle: Oracle = infeasible_projection,
    ) -> None:  # fmt: skip
        """start: (n,), in the set; its centre unless said."""
        first = feasible.centre() if start is None else np.asarray(start, dtype=np.float64)
        self.feasible, self.schedule, self._oracle = feasible, schedule, oracle
        self.plays = np.tile(first, (len(schedule), 1))  # (E, n)
        self.near, self.sums = self.plays.copy(), np.zeros_like(self.plays)
        self.age = np.zeros(len(schedule), dtype=np.int64)
        self.oracle_calls, self._centre = 0, feasible.centre()

    @property
    def play(self) -> np.ndarray:
        """(n,) of a single expert."""
        assert len(self.plays) == 1, "several experts have several plays"
        return self.plays[0]

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,), or (E, n) of each expert's own loss."""
        self.sums += gradient
        self.age += 1
        ended = np.flatnonzero(self.age >= self.schedule.block)
        if not len(ended):
            return
        moved = self.near[ended] - self.schedule.step[ended, None] * self.sums[ended] - self._centre
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        moved /= np.maximum(1.0, length / self.feasible.radius)  # no point of the set is further away for it
        found = self._oracle(
            self.feasible, self.plays[ended], moved + self._centre, self.schedule.tolerance[ended]
        )  # fmt: skip
        self.plays[ended], self.near[ended] = found.x, found.near
        self.sums[ended], self.age[ended] = 0.0, 0
        self.oracle_calls += int(found.calls.sum())

    def begin(self, rows: np.ndarray, schedule: Schedule, start: np.ndarray) -> None:
        """Experts at these rows begin anew at `start` (n,); rows behind the last are new ones. schedule: of all."""
        more = len(schedule) - len(self.plays)
        if more > 0:
            empty = np.zeros((more, self.feasible.dimension))
            self.plays, self.near = np.vstack([self.plays, empty]), np.vstack([self.near, empty])
            self.sums, self.age = np.vstack([self.sums, empty]), np.append(self.age, np.zeros(more, dtype=np.int64))
        self.schedule = schedule
        self.plays[rows] = self.near[rows] = start
        self.sums[rows], self.age[rows] = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        return held(self, self._NAMES)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state)


def regret_bound(feasible: FeasibleSet, gradient_bound: float, horizon: int, path: float, schedule: Schedule) -> float:
    """The most that one BOGD_IP loses to comparators of path length `path` (of one expert's schedule).

    (R'^2 + 2 R' P) / (2 step) + step T K G^2 / 2 + T G sqrt(3 tolerance) + K G P with R' = 2 R + sqrt(3 tolerance).
    """
    step, block, tolerance = float(schedule.step[0]), int(schedule.block[0]), float(schedule.tolerance[0])
    slack = float(np.sqrt(3 * tolerance))
    reach = 2 * feasible.radius + slack
    moving = (reach**2 + 2 * reach * path) / (2 * step) + step * horizon * block * gradient_bound**2 / 2
    return moving + horizon * gradient_bound * slack + block * gradient_bound * path


class Doubling:
    """A learner of an unknown horizon: one of `first` rounds, then of twice as many, and so on, each from where the
    last one was.
    """

    def __init__(self, made: Callable[[int, np.ndarray | None], Learner], first: int = 64) -> None:
        """made: (horizon, start (n,) or None) -> learner."""
        self._made = made
        self.horizon, self.age, self.earlier_calls = first, 0, 0
        self.start: list[float] = []
        self._learner = made(first, None)

    @property
    def play(self) -> np.ndarray:
        """(n,)."""
        return self._learner.play

    @property
    def oracle_calls(self) -> int:
        """Of all horizons so far."""
        return self.earlier_calls + self._learner.oracle_calls

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        self._learner.update(gradient)
        self.age += 1
        if self.age == self.horizon:
            self.earlier_calls = self.oracle_calls
            self.start, self.horizon, self.age = self.play.tolist(), 2 * self.horizon, 0
            self._learner = self._made(self.horizon, np.array(self.start))

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        own = held(self, ("horizon", "age", "earlier_calls", "start"))
        return {**own, "start": list(self.start), "learner": self._learner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, ("horizon", "age", "earlier_calls", "start"), state)
        self._learner = self._made(self.horizon, np.array(self.start) if self.start else None)
        self._learner.load_state_dict(state["learner"])
