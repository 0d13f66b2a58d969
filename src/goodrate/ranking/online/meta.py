"""Many BOGD_IP at once and the best of them tracked: low dynamic regret, and low regret on every interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from goodrate.ranking.online.blocked import USUAL, BlockedDescent, Constants, path_aware
from goodrate.ranking.online.projection import Oracle, infeasible_projection
from goodrate.ranking.online.sets import FeasibleSet
from goodrate.ranking.online.state import bounded, held, restore

RATE = 8.0  # times the rate that the worst case asks for: it is slow for thousands of rounds


def expert_paths(horizon: int, constants: Constants = USUAL) -> np.ndarray:
    """1, 2, 4, ... for ceil(log2(1 + 2 T)) + 1 experts, without those whose block would be shorter than one round."""
    count = int(np.ceil(np.log2(1 + 2 * horizon))) + 1
    paths = 2.0 ** np.arange(count)
    return paths[(constants.block * np.sqrt(horizon / paths) >= 1) | (paths == 1)]


class _Mixture:
    """What plays the weighted mean of its experts' plays. _NAMES: what it holds beside them."""

    experts: BlockedDescent
    _NAMES: tuple[str, ...]

    @property
    def weights(self) -> np.ndarray:
        """(E,) of the experts, summing to 1."""
        raise NotImplementedError

    @property
    def play(self) -> np.ndarray:
        """(n,)."""
        return np.asarray(self.weights @ self.experts.plays)

    @property
    def oracle_calls(self) -> int:
        """Of all experts so far."""
        return self.experts.oracle_calls

    def state_dict(self) -> dict[str, Any]:
        """See state.Learner."""
        return {**held(self, self._NAMES), "experts": self.experts.state_dict()}


class DynamicRegret(_Mixture):
    """O(T^(3/4) (1 + P)^(1/4)) behind any comparators of path length P, with O(log T) linear minima a round.

    play = sum of weight * play of BOGD_IP experts for path lengths 1, 2, 4, ...; weights by Hedge on the linear
    surrogate <gradient, play of the expert>; all experts are told the one gradient.
    """

    _NAMES = ("log_weights",)

    def __init__(
        self, feasible: FeasibleSet, gradient_bound: float, horizon: int, constants: Constants = USUAL,
        rate: float = RATE, paths: np.ndarray | None = None, start: np.ndarray | None = None,
        oracle: Oracle = infeasible_projection,
    ) -> None:  # fmt: skip
        """gradient_bound: G; longer gradients are shortened. paths: of the experts. start: (n,), in the set."""
        paths = expert_paths(horizon, constants) if paths is None else paths
        schedule = path_aware(feasible, gradient_bound, horizon, paths, constants)
        self.experts = BlockedDescent(feasible, schedule, start, oracle)
        place = np.arange(1, len(paths) + 1)
        self.log_weights = -np.log(place * (place + 1.0))
        self._longest = gradient_bound
        self._rate = rate * np.sqrt(8 * np.log(len(paths)) / horizon) / (2 * gradient_bound * feasible.radius)

    @property
    def weights(self) -> np.ndarray:
        """(E,) of the experts, summing to 1."""
        return _softmax(self.log_weights)

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        told = bounded(gradient, self._longest)
        self.log_weights = self.log_weights - self._rate * (self.experts.plays @ told)
        self.log_weights -= self.log_weights.max()
        self.experts.update(told)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state)
        self.experts.load_state_dict(state["experts"])


class AdaptiveRegret(_Mixture):
    """~O(tau^(3/4)) behind the best point of every interval of tau rounds, whatever tau; no horizon is needed.

    Round t, from 1, has one BOGD_IP for each interval [j 2^k, (j + 1) 2^k - 1], j >= 1, that holds it, made for 2^k
    rounds when that begins, at the play of that moment: floor(log2 t) + 1 of them. They are combined by AdaNormalHedge
    (Luo and Schapire 2015): R = sum of r, C = sum of |r| with r = <gradient, play - play of the expert> / (G diameter)
    since the expert's birth, weight ~ Phi(R + 1, C + 1) - Phi(R - 1, C + 1), Phi(R, C) = exp(max(R, 0)^2 / (3 C)).
    """

    _NAMES = ("round", "lead", "size")

    def __init__(
        self, feasible: FeasibleSet, gradient_bound: float, constants: Constants = USUAL,
        start: np.ndarray | None = None, oracle: Oracle = infeasible_projection,
    ) -> None:  # fmt: skip
        """gradient_bound: G; longer gradients are shortened. start: (n,), in the set; its centre unless said."""
        self._feasible, self._longest, self._constants = feasible, gradient_bound, constants
        self.round = 1
        self.lead, self.size = np.zeros(1), np.zeros(1)  # R and C of the interval of length 2^k, (K,)
        self.experts = BlockedDescent(feasible, self._schedule(1), start, oracle)

    def _schedule(self, count: int) -> Any:
        """Of intervals of 1, 2, 4, ... rounds."""
        parts = [path_aware(self._feasible, self._longest, 2.0**k, np.ones(1), self._constants) for k in range(count)]
        names = ("step", "block", "tolerance")
        return type(parts[0])(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in names})

    @property
    def weights(self) -> np.ndarray:
        """(K,) of the intervals' experts, the shortest first, summing to 1; equal while none leads."""
        high = np.maximum(self.lead + 1, 0) ** 2 / (3 * (self.size + 1))
        low = np.maximum(self.lead - 1, 0) ** 2 / (3 * (self.size + 1))
        with np.errstate(divide="ignore"):
            logs = high + np.log(-np.expm1(low - high))
        return _softmax(logs) if np.isfinite(logs).any() else np.full(len(logs), 1 / len(logs))

    def update(self, gradient: np.ndarray) -> None:
        """gradient: (n,) at the play."""
        told = bounded(gradient, self._longest)
        gain = (self.play - self.experts.plays) @ told / (self._longest * self._feasible.diameter)
        gain = np.minimum(np.maximum(gain, -1.0), 1.0)
        self.lead, self.size = self.lead + gain, self.size + np.abs(gain)
        self.experts.update(told)
        self._next_round()

    def _next_round(self) -> None:
        """Begin the intervals that begin with the next round."""
        start = self.play
        self.round += 1
        count = self.round.bit_length()
        begun = np.arange((self.round & -self.round).bit_length())  # k with 2^k dividing the round
        schedule = self.experts.schedule if count == len(self.lead) else self._schedule(count)
        more = np.zeros(count - len(self.lead))
        self.lead, self.size = np.append(self.lead, more), np.append(self.size, more)
        self.lead[begun] = self.size[begun] = 0.0
        self.experts.begin(begun, schedule, start)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See state.Learner."""
        restore(self, self._NAMES, state, growing=True)
        count = len(self.lead)
        self.experts.begin(np.arange(0), self._schedule(count), self._feasible.centre())
        for name in ("plays", "near", "sums", "age"):
            setattr(self.experts, name, getattr(self.experts, name)[:count])
        self.experts.load_state_dict(state["experts"])


def _softmax(logs: np.ndarray) -> np.ndarray:
    raised = np.exp(logs - logs.max())
    return np.asarray(raised / raised.sum())
