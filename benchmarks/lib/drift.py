"""Online learners on problems whose right answer moves: absolute losses on an l1 ball, targets that jump or wander.

The target loses nothing, so what a learner loses is its regret to the moving target; between two jumps it is the regret
to the best fixed point of every interval, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from goodrate.ranking.online.blocked import BlockedDescent, path_aware
from goodrate.ranking.online.meta import AdaptiveRegret, DynamicRegret
from goodrate.ranking.online.peers import Ader, OnlineFrankWolfe, ProjectedDescent
from goodrate.ranking.online.sets import L1Ball

DIMENSION, RADIUS, SPARSE = 50, 4.0, 3
HORIZON = 4096
JUMPS = (1, 2, 4, 8, 16, 32, 64, 128)
HORIZONS = (512, 1024, 2048, 4096, 8192)
INTERVALS = (8, 16, 32, 64, 128, 256, 512)
THIN = 64  # of the curves one round in so many is kept
FEASIBLE = L1Ball(DIMENSION, RADIUS)

LEARNERS: Mapping[str, Callable[[int], Any]] = {
    "BOGD_IP, path 1": lambda T: BlockedDescent(FEASIBLE, path_aware(FEASIBLE, 1.0, T, np.ones(1))),
    "dynamic": lambda T: DynamicRegret(FEASIBLE, 1.0, T),
    "adaptive": lambda T: AdaptiveRegret(FEASIBLE, 1.0),
    "projected descent": lambda T: ProjectedDescent(FEASIBLE, 1.0, T),
    "projected descent, step x 10": lambda T: ProjectedDescent(FEASIBLE, 1.0, T, factor=10.0),
    "Ader": lambda T: Ader(FEASIBLE, 1.0, T),
    "online Frank-Wolfe": lambda T: OnlineFrankWolfe(FEASIBLE, 1.0, T),
}


def targets(horizon: int, jumps: int, gradual: bool, draw: np.random.Generator) -> np.ndarray:
    """(T, n): `jumps` + 1 sparse points on the border, each held as long, or walked between in straight lines."""
    count = jumps + 1
    points = np.zeros((count + 1, DIMENSION))
    for row in points:
        row[draw.choice(DIMENSION, SPARSE, replace=False)] = draw.choice([-1, 1], SPARSE) * draw.dirichlet(np.ones(3))
    place = np.arange(horizon) * count / horizon
    piece = place.astype(int)
    share = (place - piece)[:, None] if gradual else 0.0
    return RADIUS * ((1 - share) * points[piece] + share * points[piece + 1])


def played(name: str, horizon: int, jumps: int, gradual: bool, seed: int) -> dict[str, Any]:
    """One learner on one problem: what it lost in each round (T,), the path, calls of the oracle, seconds."""
    draw = np.random.default_rng([seed, horizon, jumps, gradual])
    target = targets(horizon, jumps, gradual, draw)
    directions = draw.normal(size=(horizon, DIMENSION))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    learner, lost, start = LEARNERS[name](horizon), np.zeros(horizon), time.perf_counter()
    for at in range(horizon):
        miss = float(directions[at] @ (learner.play - target[at]))
        lost[at] = abs(miss)
        learner.update(np.sign(miss) * directions[at])
    path = float(np.linalg.norm(np.diff(target, axis=0), axis=1).sum())
    seconds = time.perf_counter() - start
    return {"lost": lost, "path": path, "calls": learner.oracle_calls / horizon, "us": 1e6 * seconds / horizon}


def worst_interval(lost: np.ndarray, length: int, jumps: int) -> float:
    """The most that was lost in `length` rounds side by side without a jump in between."""
    piece = len(lost) // (jumps + 1)
    pieces = lost[: piece * (jumps + 1)].reshape(jumps + 1, piece)
    sums = np.cumsum(np.pad(pieces, ((0, 0), (1, 0))), axis=1)
    return float((sums[:, length:] - sums[:, :-length]).max())


def measured(seed: int) -> dict[str, Any]:
    """All learners with one seed: regret by jumps and by horizon, curves, worst intervals, calls."""
    out: dict[str, Any] = {"seed": seed, "learners": {}}
    for name in LEARNERS:
        by_jumps = {jumps: played(name, HORIZON, jumps, False, seed) for jumps in JUMPS}
        by_horizon = {T: played(name, T, 8, False, seed) if T != HORIZON else by_jumps[8] for T in HORIZONS}
        gradual = played(name, HORIZON, 8, True, seed)
        curves = {"abrupt": np.cumsum(by_jumps[8]["lost"]), "gradual": np.cumsum(gradual["lost"])}
        out["learners"][name] = {
            "by jumps": {str(jumps): round(float(one["lost"].sum()), 2) for jumps, one in by_jumps.items()},
            "by horizon": {str(T): round(float(one["lost"].sum()), 2) for T, one in by_horizon.items()},
            "gradual": round(float(gradual["lost"].sum()), 2),
            "curves": {kind: np.round(curve[THIN - 1 :: THIN], 1).tolist() for kind, curve in curves.items()},
            "intervals": {str(n): round(worst_interval(by_jumps[4]["lost"], n, 4), 3) for n in INTERVALS},
            "calls": {str(jumps): round(one["calls"], 3) for jumps, one in by_jumps.items()},
            "us": round(float(np.median([one["us"] for one in by_jumps.values()])), 1),
        }
    out["paths"] = {
        str(jumps): round(float(np.linalg.norm(np.diff(targets(
            HORIZON, jumps, False, np.random.default_rng([seed, HORIZON, jumps, False])), axis=0), axis=1).sum()), 2)
        for jumps in JUMPS
    }  # fmt: skip
    return out


def slope(x: list[float], y: list[float]) -> float:
    """Of a straight line through logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
