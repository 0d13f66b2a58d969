"""Online learning without projections: the oracle's guarantees, BOGD_IP, both meta algorithms, their peers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from goodrate.ranking.online.blocked import BlockedDescent, Constants, Doubling, Schedule, path_aware, regret_bound
from goodrate.ranking.online.meta import AdaptiveRegret, DynamicRegret, expert_paths
from goodrate.ranking.online.peers import Ader, OnlineFrankWolfe, ProjectedDescent
from goodrate.ranking.online.projection import (
    call_bounds,
    exact_projection,
    infeasible_projection,
    separating_frank_wolfe,
)
from goodrate.ranking.online.sets import FeasibleSet, L1Ball, L2Ball, Near, Simplex, TraceNormBall

SETS: dict[str, FeasibleSet] = {
    "simplex": Simplex(6),
    "l1": L1Ball(7, 2.0),
    "l2": L2Ball(5, 1.5),
    "trace": TraceNormBall((4, 3), 2.0),
    "wide trace": TraceNormBall((2, 5), 1.0),
    "near": Near(Simplex(4), np.array([0.5, 0.5, 0.0, 0.0]), 0.3),
}
each_set = pytest.mark.parametrize("feasible", SETS.values(), ids=SETS.keys())


def points_of(feasible: FeasibleSet, draw: np.random.Generator, count: int) -> np.ndarray:
    """Random points of a set: mixtures of its corners, and its centre."""
    corners = feasible.linear_minimum(draw.normal(size=(count, 4, feasible.dimension)))
    shares = draw.dirichlet(np.full(5, 0.5), size=count)
    inside = (shares[:, :4, None] * corners).sum(axis=1) + shares[:, 4:] * feasible.centre()
    assert feasible.contains(inside, 1e-8).all()
    return inside


@each_set
def test_a_linear_minimum_is_below_every_point_and_a_projection_nearest(feasible: FeasibleSet) -> None:
    draw = np.random.default_rng(1)
    inside = points_of(feasible, draw, 500)
    gradients = draw.normal(size=(20, feasible.dimension))
    lowest = feasible.linear_minimum(gradients)
    assert feasible.contains(lowest, 1e-8).all()
    assert ((gradients * lowest).sum(axis=1)[:, None] <= gradients @ inside.T + 1e-9).all()
    outside = 3 * draw.normal(size=(20, feasible.dimension))
    nearest = feasible.project(outside)
    assert feasible.contains(nearest, 1e-8).all()
    # of a convex set the nearest point x, and no other, has <y - x, z - x> <= 0 for all z
    assert (np.einsum("bn,bzn->bz", outside - nearest, inside[None] - nearest[:, None]) <= 1e-8).all()
    assert feasible.project(inside) == pytest.approx(inside, abs=1e-9)
    assert (np.linalg.norm(inside - feasible.centre(), axis=1) <= feasible.radius + 1e-9).all()
    assert (np.linalg.norm(inside[:, None] - inside[None], axis=2) <= feasible.diameter + 1e-9).all()


def test_hand_computed_projections() -> None:
    assert Simplex(3).project(np.array([1.0, 0.5, 0.0])) == pytest.approx([0.75, 0.25, 0.0])
    assert L1Ball(2, 1.0).project(np.array([-2.0, 1.5])) == pytest.approx([-0.75, 0.25])
    # singular values 3 and 1 of a diagonal matrix onto a sum of 2: 2 and 0
    assert TraceNormBall((2, 2), 2.0).project(np.array([3.0, 0.0, 0.0, 1.0])) == pytest.approx([2.0, 0, 0, 0])
    assert TraceNormBall((2, 2), 2.0).linear_minimum(np.array([3.0, 0, 0, 1])) == pytest.approx([-2.0, 0, 0, 0])
    near = SETS["near"]  # 0.7 * (0.5, 0.5, 0, 0) + 0.3 of the fourth
    assert near.linear_minimum(np.array([0.0, 0.0, 0.0, -1.0])) == pytest.approx([0.35, 0.35, 0.0, 0.3])


@each_set
@pytest.mark.parametrize("tolerance", [0.3, 0.02])
def test_the_oracle_keeps_its_three_promises(feasible: FeasibleSet, tolerance: float) -> None:
    draw = np.random.default_rng(2)
    asked, start = 2 * draw.normal(size=(30, feasible.dimension)), points_of(feasible, draw, 30)
    found = infeasible_projection(feasible, start, asked, np.full(30, tolerance))
    assert feasible.contains(found.x, 1e-8).all()
    assert (((found.x - found.near) ** 2).sum(axis=1) <= 3 * tolerance + 1e-12).all()
    inside = points_of(feasible, draw, 400)
    before, after = (np.linalg.norm(p[:, None] - inside[None], axis=2) for p in (asked, found.near))
    assert (after <= before + 1e-9).all()

    for row in range(30):
        inner, outer = call_bounds(feasible.radius, float(((start - asked)[row] ** 2).sum()), tolerance)
        assert found.calls[row] <= inner * outer
    one = infeasible_projection(feasible, start[4:5], asked[4:5], np.array([tolerance]))
    assert one.near[0] == pytest.approx(found.near[4], abs=1e-12)  # the rows do not know of one another


@each_set
def test_a_point_of_the_set_comes_back_within_the_tolerance_and_is_not_moved(feasible: FeasibleSet) -> None:
    draw = np.random.default_rng(3)
    inside, start = points_of(feasible, draw, 40), points_of(feasible, draw, 40)
    found = infeasible_projection(feasible, start, inside, np.full(40, 0.01))
    # For y in the set <y - z, y - x> > 2/3 |x - y|^2 fails at z = y, so no point is ever pulled.
    assert found.near == pytest.approx(inside, abs=0)
    assert (((found.x - inside) ** 2).sum(axis=1) <= 0.03 + 1e-12).all()


@each_set
def test_frank_wolfe_ends_near_or_with_a_hyperplane_between(feasible: FeasibleSet) -> None:
    draw = np.random.default_rng(4)
    asked, start, tolerance = 3 * draw.normal(size=(40, feasible.dimension)), points_of(feasible, draw, 40), 0.05
    x, calls = separating_frank_wolfe(feasible, start, asked, np.full(40, tolerance))
    distance = ((x - asked) ** 2).sum(axis=1)
    inside = points_of(feasible, draw, 400)
    angle = np.einsum("bzn,bn->bz", asked[:, None] - inside[None], asked - x)
    far = distance > 3 * tolerance
    assert far.any() and (angle[far] > 2 / 3 * distance[far, None]).all()
    assert (calls <= call_bounds(feasible.radius, 1.0, tolerance)[0]).all() and (calls >= 1).all()


def losses(feasible: FeasibleSet, horizon: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Absolute losses |<a, x> - <a, u>| under a comparator that jumps eight times: (a (T, n), u (T, n), path)."""
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(horizon, feasible.dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    targets = np.repeat(points_of(feasible, draw, 8), -(-horizon // 8), axis=0)[:horizon]
    return directions, targets, float(np.linalg.norm(np.diff(targets, axis=0), axis=1).sum())


def played(learner: Any, directions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """The plays (T, n) of a learner, and what it lost to the comparator."""
    plays, lost = [], 0.0
    for direction, target in zip(directions, targets, strict=True):
        plays.append(learner.play.copy())
        miss = float(direction @ (plays[-1] - target))
        lost += abs(miss)
        learner.update(np.sign(miss) * direction)
    return np.array(plays), lost


@each_set
def test_with_exact_projections_it_is_blocked_gradient_descent(feasible: FeasibleSet) -> None:
    directions, targets, _ = losses(feasible, 60, 5)
    schedule = Schedule(np.array([0.2]), np.array([4]), np.array([0.1]))
    plays, _ = played(BlockedDescent(feasible, schedule, oracle=exact_projection), directions, targets)
    x = feasible.centre()
    for block in range(15):
        rows = slice(4 * block, 4 * block + 4)
        assert plays[rows] == pytest.approx(np.tile(x, (4, 1)))
        gradient = (np.sign(((plays - targets) * directions).sum(axis=1))[:, None] * directions)[rows].sum(axis=0)
        centre = feasible.centre()
        moved = x - 0.2 * gradient - centre
        x = feasible.project(centre + moved / max(1.0, float(np.linalg.norm(moved)) / feasible.radius))


@each_set
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_dynamic_regret_of_one_learner_is_under_its_bound(feasible: FeasibleSet, seed: int) -> None:
    directions, targets, path = losses(feasible, 400, seed)
    for constants in (Constants(), Constants(1.0, 1.0, 1.0)):
        schedule = path_aware(feasible, 1.0, 400, np.array([1 + path / feasible.radius]), constants)
        learner = BlockedDescent(feasible, schedule)
        plays, lost = played(learner, directions, targets)
        assert feasible.contains(plays, 1e-7).all()
        assert lost <= regret_bound(feasible, 1.0, 400, path, schedule)


def test_a_hand_computed_block_and_schedule() -> None:
    # T = 16, p = 4, R = 2, G = 0.5: block 0.5 * sqrt(4) = 1, step 4 * 4 * (1/4)^0.75, tolerance 4 * sqrt(1/4)
    one = path_aware(L2Ball(2, 2.0), 0.5, 16, np.array([4.0]))
    assert (one.block[0], one.step[0], one.tolerance[0]) == (1, pytest.approx(16 * 0.25**0.75), pytest.approx(2.0))
    # two rounds of gradient (1, 0): y = -0.1 * (2, 0), within the ball, so near comes back as it is
    learner = BlockedDescent(L2Ball(2, 1.0), Schedule(np.array([0.1]), np.array([2]), np.array([1e-6])))
    learner.update(np.array([1.0, 0.0]))
    assert learner.play.tolist() == [0, 0]
    learner.update(np.array([1.0, 0.0]))
    assert learner.near[0] == pytest.approx([-0.2, 0.0]) and learner.play == pytest.approx([-0.2, 0.0], abs=2e-3)
    # regret bound at R = 1, G = 1, T = 4, P = 1, step .5, block 2, tolerance 1/3: R' = 3,
    # (9 + 6) / 1 + .5 * 4 * 2 / 2 + 4 * 1 + 2 = 23
    by_hand = Schedule(np.array([0.5]), np.array([2]), np.array([1 / 3]))
    assert regret_bound(L2Ball(2, 1.0), 1.0, 4, 1.0, by_hand) == pytest.approx(23.0)


@each_set
def test_plays_stay_inside_and_weights_sum_to_one(feasible: FeasibleSet) -> None:
    directions, targets, _ = losses(feasible, 300, 6)
    for learner in (DynamicRegret(feasible, 1.0, 300), AdaptiveRegret(feasible, 1.0)):
        for time, (direction, target) in enumerate(zip(directions, targets, strict=True), start=1):
            assert feasible.contains(learner.play, 1e-7)
            assert learner.weights.sum() == pytest.approx(1.0) and (learner.weights >= 0).all()
            if isinstance(learner, AdaptiveRegret):
                assert len(learner.weights) == int(np.log2(time)) + 1 == time.bit_length()
            learner.update(np.sign(direction @ (learner.play - target)) * direction)
        assert learner.oracle_calls / 300 < 30
    for peer in (ProjectedDescent(feasible, 1.0, 300), Ader(feasible, 1.0, 300), OnlineFrankWolfe(feasible, 1.0, 300)):
        plays, _ = played(peer, directions, targets)
        assert feasible.contains(plays, 1e-7).all()


def test_one_expert_is_itself_and_the_usual_ones_have_blocks_of_a_round_at_least() -> None:
    feasible = SETS["l1"]
    directions, targets, _ = losses(feasible, 200, 7)
    schedule = path_aware(feasible, 1.0, 200, np.array([4.0]))
    alone, _ = played(BlockedDescent(feasible, schedule), directions, targets)
    meta, _ = played(DynamicRegret(feasible, 1.0, 200, paths=np.array([4.0])), directions, targets)
    assert meta == pytest.approx(alone, abs=1e-9)
    assert len(expert_paths(4000, Constants(block=1.0))) == 12  # of 14: 2^12 and 2^13 are more than T
    assert len(expert_paths(4000)) == 10


def test_intervals_begin_and_end_where_geometry_says() -> None:
    learner = AdaptiveRegret(SETS["simplex"], 1.0)
    assert learner.experts.schedule.block.tolist() == [1]
    ages = []
    for _ in range(12):
        learner.update(np.zeros(6))
        ages.append(learner.size * 0 + [(learner.round % 2**k) for k in range(len(learner.lead))])
        assert (learner.lead == 0).all()
    # round 13 = 8 + 4 + 1: its intervals of 1, 2, 4 and 8 rounds began at 13, 12, 12 and 8
    assert ages[-1].tolist() == [0, 1, 1, 5]
    gradient = np.eye(6)[0]
    experts = learner.experts.plays.copy()
    gain = (learner.play - experts) @ gradient / learner._feasible.diameter
    learner.update(gradient)
    # round 14 begins intervals of 1 and 2 rounds, so only the others remember
    assert learner.lead.tolist() == pytest.approx([0.0, 0.0, *gain[2:]]) and learner.round == 14
    assert learner.experts.plays[0] == pytest.approx(learner.experts.plays[1])


def test_weights_of_intervals_are_those_of_adanormalhedge() -> None:
    learner = AdaptiveRegret(SETS["simplex"], 1.0)
    for _ in range(3):
        learner.update(np.zeros(6))
    learner.lead, learner.size = np.array([0.0, 2.0, -3.0]), np.array([1.0, 2.0, 3.0])

    def phi(lead: float, size: float) -> float:
        return float(np.exp(max(lead, 0.0) ** 2 / (3 * size)))

    raw = np.array([phi(r + 1, c + 1) - phi(r - 1, c + 1) for r, c in ((0, 1), (2, 2), (-3, 3))])
    assert learner.weights == pytest.approx(raw / raw.sum()) and learner.weights[2] == 0
    learner.lead, learner.size = np.array([0.0, 5e3, -3.0]), np.array([1.0, 5e3, 3.0])
    assert learner.weights == pytest.approx([0, 1, 0])  # exp(5000 / 3) is no float


def test_both_follow_a_target_that_jumps_and_one_slow_learner_does_not() -> None:
    feasible, horizon = L1Ball(10, 2.0), 2000
    lost: dict[str, list[float]] = {"slow": [], "dynamic": [], "adaptive": []}
    for seed in range(3):
        directions, targets, _ = losses(feasible, horizon, 20 + seed)
        slow = path_aware(feasible, 1.0, horizon, np.ones(1), Constants(1.0, 1.0, 1.0))
        lost["slow"].append(played(BlockedDescent(feasible, slow), directions, targets)[1])
        lost["dynamic"].append(played(DynamicRegret(feasible, 1.0, horizon), directions, targets)[1])
        lost["adaptive"].append(played(AdaptiveRegret(feasible, 1.0), directions, targets)[1])
    assert np.mean(lost["dynamic"]) < 0.8 * np.mean(lost["slow"])
    assert np.mean(lost["adaptive"]) < np.mean(lost["slow"])


def test_too_long_gradients_are_shortened() -> None:
    one, other = DynamicRegret(SETS["l2"], 1.0, 50), DynamicRegret(SETS["l2"], 1.0, 50)
    one.update(np.full(5, 100.0))
    other.update(np.full(5, 1 / np.sqrt(5)))
    assert one.play == pytest.approx(other.play)


def test_an_unknown_horizon_is_doubled_from_the_last_play() -> None:
    made: list[tuple[int, Any]] = []

    def make(horizon: int, start: np.ndarray | None) -> DynamicRegret:
        made.append((horizon, start))
        return DynamicRegret(SETS["l1"], 1.0, horizon, start=start)

    learner = Doubling(make, first=8)
    directions, targets, _ = losses(SETS["l1"], 30, 8)
    plays, _ = played(learner, directions, targets)
    assert [horizon for horizon, _ in made] == [8, 16, 32]
    assert made[1][1] == pytest.approx(plays[8]) and made[2][1] == pytest.approx(plays[24])
    assert learner.oracle_calls > 0


LEARNERS: dict[str, Callable[[], Any]] = {
    "blocked": lambda: BlockedDescent(SETS["simplex"], path_aware(SETS["simplex"], 1.0, 100, np.ones(1))),
    "dynamic": lambda: DynamicRegret(SETS["simplex"], 1.0, 100),
    "adaptive": lambda: AdaptiveRegret(SETS["simplex"], 1.0),
    "doubling": lambda: Doubling(lambda horizon, start: DynamicRegret(SETS["simplex"], 1.0, horizon, start=start), 8),
    "projected": lambda: ProjectedDescent(SETS["simplex"], 1.0),
    "ader": lambda: Ader(SETS["simplex"], 1.0, 100),
    "frank wolfe": lambda: OnlineFrankWolfe(SETS["simplex"], 1.0, 100),
}


@pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS.keys())
def test_a_state_that_went_through_json_goes_on_as_if_nothing_had_been(make: Callable[[], Any]) -> None:
    directions, targets, _ = losses(SETS["simplex"], 90, 9)
    whole = make()
    plays, _ = played(whole, directions, targets)
    first = make()
    played(first, directions[:37], targets[:37])
    state = json.loads(json.dumps(first.state_dict()))
    second = make()
    played(second, directions[:70], targets[:70])  # whatever it held is gone
    second.load_state_dict(state)
    rest, _ = played(second, directions[37:], targets[37:])
    assert (rest == plays[37:]).all() and second.oracle_calls == whole.oracle_calls
    with pytest.raises(ValueError, match="lacks"):
        make().load_state_dict({})


def test_a_state_of_another_size_is_refused_and_changes_nothing() -> None:
    learner = DynamicRegret(SETS["simplex"], 1.0, 100)
    other = DynamicRegret(Simplex(3), 1.0, 100)
    with pytest.raises(ValueError, match=r"plays has shape \(\d, 3\), expected \(\d, 6\)"):
        learner.experts.load_state_dict(other.experts.state_dict())
    assert learner.play == pytest.approx(np.full(6, 1 / 6))
