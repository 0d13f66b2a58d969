"""What projection-free learners are compared with: descent with exact projections, Ader, and online Frank-Wolfe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from goodrate.ranking.online.sets import FeasibleSet
from goodrate.ranking.online.state import bounded, held, restore


class ProjectedDescent:
    """Online gradient descent (Zinkevich 2003): play <- projection of (play - step * gradient).

    step: (R / G) / sqrt(T) times `factor`; without a horizon (R / G) / sqrt(t).
    """

    _NAMES = ("play", "round")
    oracle_calls = 0

    def __init__(
        self, feasible: FeasibleSet, gradient_bound: float, horizon: int | None = None, factor: float = 1.0,
        start: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self._feasible, self._horizon = feasible, horizon
        self._longest, self._scale = gradient_bound, factor * feasible.radius / gradient_bound
        self.play = feasible.centre() if start is None else np.array(start, dtype=np.float64)
        self.round = 0

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        self.round += 1
        step = self._scale / np.sqrt(self._horizon or self.round)
        self.play = self._feasible.project(self.play - step * bounded(gradient, self._longest))

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        return held(self, self._NAMES)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state)


class Ader:
    """Descent with many step sizes, tracked by Hedge on the linear surrogate (Zhang, Lu and Zhou 2018).

    O(sqrt(T (1 + P))) dynamic regret with an exact projection for each expert and round.
    """

    _NAMES = ("plays", "log_weights")
    oracle_calls = 0

    def __init__(self, feasible: FeasibleSet, gradient_bound: float, horizon: int) -> None:
        reach, count = feasible.diameter, int(np.ceil(0.5 * np.log2(1 + 4 * horizon / 7))) + 1
        self._feasible, self._longest = feasible, gradient_bound
        self._steps = 2.0 ** np.arange(count) * np.sqrt(7 * reach**2 / (2 * gradient_bound**2 * horizon))
        self._rate = np.sqrt(2 / (horizon * gradient_bound**2 * reach**2))
        place = np.arange(1, count + 1)
        self.plays, self.log_weights = np.tile(feasible.centre(), (count, 1)), -np.log(place * (place + 1.0))

    @property
    def play(self) -> np.ndarray:
        """(n,)."""
        raised = np.exp(self.log_weights - self.log_weights.max())
        return np.asarray(raised @ self.plays / raised.sum())

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        told = bounded(gradient, self._longest)
        self.log_weights = self.log_weights - self._rate * (self.plays @ told)
        self.plays = self._feasible.project(self.plays - self._steps[:, None] * told)

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        return held(self, self._NAMES)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state)


class OnlineFrankWolfe:
    """One linear minimum a round (Hazan and Kale 2012): a Frank-Wolfe step on step * <sum of gradients, x> +
    ||x - start||^2. O(T^(3/4)) static regret.
    """

    _NAMES = ("play", "sum", "round")

    def __init__(self, feasible: FeasibleSet, gradient_bound: float, horizon: int) -> None:
        self._feasible, self._longest = feasible, gradient_bound
        self._step = feasible.diameter / (2 * gradient_bound * horizon**0.75)
        self._start = feasible.centre()
        self.play, self.sum, self.round = self._start.copy(), np.zeros(feasible.dimension), 0

    @property
    def oracle_calls(self) -> int:
        """One a round."""
        return self.round

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        self.round += 1
        self.sum = self.sum + bounded(gradient, self._longest)
        towards = self._feasible.linear_minimum(self._step * self.sum + 2 * (self.play - self._start))
        self.play = self.play + min(1.0, 2 / np.sqrt(self.round)) * (towards - self.play)

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        return held(self, self._NAMES)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state)
