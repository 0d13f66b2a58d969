"""Advantages against hand arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from goodrate.learning import advantages as adv

NAN = float("nan")
ONE_OF_FOUR = tensor([1.0, 0.0, 0.0, 0.0])
GROUP = torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", 0.75),  # 1 - 1/4
        ("sample", 1.5),  # squares 0.5625 + 3 * 0.0625 = 0.75; 0.75 / sqrt(0.75 / 3) = 0.75 / 0.5
        ("population", math.sqrt(3)),  # 0.75 / sqrt(0.75 / 4) = 0.75 / 0.4330 = 1.7321
    ],
)
def test_the_first_of_one_zero_zero_zero(scale: str, expected: float) -> None:
    result = adv.group_relative(ONE_OF_FOUR, GROUP, scale=scale)
    # the other three share the balance: -expected / 3 each
    assert result.tolist() == pytest.approx([expected, -expected / 3, -expected / 3, -expected / 3], rel=1e-6)


def test_the_scale_must_be_said() -> None:
    with pytest.raises(TypeError, match="scale"):
        adv.group_relative(ONE_OF_FOUR, GROUP)


@pytest.mark.parametrize("scale", ["none", "sample", "population"])
@pytest.mark.parametrize("rewards", [[0.7], [0.1, 0.1, 0.1], [NAN, NAN], [NAN, 0.4]])
def test_no_spread_is_zero_exactly(scale: str, rewards: list[float]) -> None:
    group = torch.zeros(len(rewards), dtype=torch.long)
    assert adv.group_relative(tensor(rewards), group, scale=scale).tolist() == [0.0] * len(rewards)


def test_unknown_is_not_zero() -> None:
    # Without the NaN the mean is 0.5 and the spread 0.5; with NaN read as 0 the mean would be 1/3.
    result = adv.group_relative(tensor([1.0, NAN, 0.0]), torch.zeros(3).long(), scale="population")
    assert result.tolist() == [1.0, 0.0, -1.0]


def test_ragged_groups_go_by_id_in_any_order() -> None:
    rewards, group = tensor([1.0, 5.0, 0.0, 3.0, 1.0]), tensor([7, 2, 7, 2, 9])
    # group 7: 1, 0 -> +-0.5; group 2: 5, 3 -> +-1; group 9 alone -> 0
    assert adv.group_relative(rewards, group, scale="none").tolist() == [0.5, 1.0, -0.5, -1.0, 0.0]


def test_floor_and_clamp() -> None:
    rewards = tensor([0.30, 0.34])  # population std 0.02
    small = adv.group_relative(rewards, GROUP[:2], scale="population", floor=0.1)
    assert small.tolist() == pytest.approx([-0.2, 0.2], abs=1e-6)  # 0.02 / max(0.02, 0.1)
    many = adv.group_relative(tensor([1.0] + [0.0] * 15), torch.zeros(16).long(), scale="population", clamp=2.0)
    assert many[0] == 2.0  # unclamped sqrt(15) = 3.87


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.randoms())
def test_advantages_sum_to_zero_and_follow_their_rows(values: list[float], rng: object) -> None:
    rewards, group = tensor(values), torch.arange(len(values)) % 3
    result = adv.group_relative(rewards, group, scale="none")
    for name in range(3):
        assert float(result[group == name].sum()) == pytest.approx(0, abs=1e-4)
    order = torch.tensor(rng.sample(range(len(values)), len(values)))
    again = adv.group_relative(rewards[order], group[order], scale="none")
    assert again.tolist() == pytest.approx(result[order].tolist(), abs=1e-6)


def test_stepwise_compares_like_with_like() -> None:
    steps = tensor([[1.0, 0.0, NAN], [0.0, 0.0, 1.0]])
    # step 0: +-1; step 1 has no spread; step 2 has one known reward only
    result = adv.stepwise(steps, GROUP[:2], scale="population")
    assert result.tolist() == [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]


def test_cumulative_credit_is_what_is_still_to_come() -> None:
    steps = tensor([[1.0, 0.0, 1.0], [0.0, NAN, 0.0]])
    # five known rewards of one group: mean 0.4, population spread sqrt(0.24)
    high, low = 0.6 / 0.24**0.5, -0.4 / 0.24**0.5
    expected = [[2 * high + low, high + low, high], [2 * low, low, low]]
    for found, row in zip(adv.cumulative(steps, GROUP[:2], scale="population").tolist(), expected, strict=True):
        assert found == pytest.approx(row, rel=1e-5)
    assert adv.cumulative(torch.ones(2, 3), GROUP[:2], scale="population").eq(0).all()


def test_critical_weights() -> None:
    steps = tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    # row 0: step 0 right for all -> easy; step 1 disputed -> 1; step 2 first error -> 1; step 3 after it -> 0
    # row 1: easy, first error, 0, 0
    assert adv.critical_weights(steps, GROUP[:2], easy=0.25).tolist() == [[0.25, 1, 1, 0], [0.25, 1, 0, 0]]


@pytest.mark.parametrize(
    ("gap", "beta", "alpha"),
    [
        (-1.0, 0.072, 1.390), (-0.5, 0.477, 0.210), (-0.25, 1.076, 0.093), (0.0, 2.0, 0.05),
        (0.25, 2.924, 0.034), (0.5, 3.523, 0.028), (1.0, 3.928, 0.025),
    ],
)  # fmt: skip
def test_the_context_gate_table(gap: float, beta: float, alpha: float) -> None:
    found_alpha, found_beta = adv.context_gate(tensor([gap]))
    assert float(found_beta) == pytest.approx(beta, abs=5e-4) and float(found_alpha) == pytest.approx(alpha, abs=5e-4)
    assert float(found_alpha * found_beta) == pytest.approx(0.1)


def test_accuracy_gap_is_per_group_and_unknown_without_an_arm() -> None:
    correct = tensor([1.0, 0.0, 1.0, 1.0, 1.0, NAN])
    group, arm = tensor([0, 0, 0, 0, 1, 1]), tensor([0, 0, 1, 1, 0, 1])
    gap = adv.accuracy_gap(correct, group, arm)
    assert gap[:4].tolist() == [0.5] * 4 and gap[4:].isnan().all()  # 2/2 - 1/2; group 1 has no scored arm 1
    assert adv.context_gate(gap)[1][4] == 2.0


def test_pooled_is_zero_on_the_other_arm_and_when_all_are_equal() -> None:
    group, arm = GROUP, tensor([0, 0, 1, 1])
    gate = torch.full((4,), 0.05), torch.full((4,), 2.0)
    assert adv.pooled(torch.ones(4), group, arm, gate).tolist() == [0.0] * 4
    result = adv.pooled(ONE_OF_FOUR, group, arm, gate)
    assert result[2:].tolist() == [0.0, 0.0] and result[0] > 0 > result[1]


def test_to_tokens() -> None:
    mask = tensor([[True, True, True], [True, True, False]])
    assert adv.to_tokens(tensor([2.0, -1.0]), mask).tolist() == [[2, 2, 2], [-1, -1, 0]]
    step_id = tensor([[0, 1, -1], [1, 0, 0]])
    steps: Tensor = tensor([[0.5, 3.0], [7.0, 4.0]])
    assert adv.to_tokens(steps, mask, step_id).tolist() == [[0.5, 3, 0], [4, 7, 0]]
