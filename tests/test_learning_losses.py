"""Losses against formulas, finite values and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from goodrate.learning import losses


def gradient(function: object, *at: float) -> list[float]:
    """d function / d each argument, by autograd in float64."""
    points = [tensor([x], dtype=torch.float64, requires_grad=True) for x in at]
    function(*points).sum().backward()
    return [float(p.grad) for p in points]


def test_policy_gradient_clips_only_where_it_must() -> None:
    old, a = torch.zeros(4), tensor([1.0, 1.0, -1.0, -1.0])
    new = torch.log(tensor([1.5, 0.5, 1.5, 0.5]))
    # min(1.5, 1.2), min(0.5, 0.8), min(-1.5, -1.2), min(-0.5, -0.8), negated
    values = losses.policy_gradient(new, old, a, clip_low=0.2, clip_high=0.2)
    assert values.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    wider = losses.policy_gradient(new, old, a, clip_low=0.2, clip_high=0.28)
    assert wider[0] == pytest.approx(-1.28)


def test_on_policy_gradient_is_the_advantage_and_clipping_kills_it() -> None:
    def loss(new: torch.Tensor) -> torch.Tensor:
        return losses.policy_gradient(new, new.detach(), tensor([0.7]).double(), clip_low=0.2, clip_high=0.2)

    assert gradient(loss, -1.3) == pytest.approx([-0.7])
    clipped = lambda new: losses.policy_gradient(new, torch.zeros(1), torch.ones(1), clip_low=0.2, clip_high=0.2)  # noqa: E731
    assert gradient(clipped, math.log(1.5)) == [0.0]


def test_label_first_trap_the_shaped_ratio_keeps_the_label_alive() -> None:
    # Under the hint the label had probability 1; without it the policy gives 0.02, so rho = 0.02.
    clips = {"clip_low": 0.2, "clip_high": 0.2}
    plain = gradient(lambda lp: losses.policy_gradient(lp, torch.zeros(1), torch.ones(1), **clips), math.log(0.02))
    shaped = gradient(lambda lp: losses.off_policy_shaped(lp, torch.zeros(1), torch.ones(1)), math.log(0.02))
    assert plain == pytest.approx([-0.02])
    assert shaped == pytest.approx([-0.1 * 0.02 / 0.12**2])  # -0.1389: seven times the plain push
    at_peak = gradient(lambda lp: losses.off_policy_shaped(lp, torch.zeros(1), torch.ones(1)), math.log(0.1))
    assert at_peak == pytest.approx([-0.25])  # 0.1 * 0.1 / 0.2^2, the largest weight there is


def test_shaped_value_and_no_overflow() -> None:
    values = losses.off_policy_shaped(tensor([math.log(0.3), 200.0, -200.0]), torch.zeros(3), torch.full((3,), 2.0))
    assert values.tolist() == pytest.approx([-2 * 0.3 / 0.4, -2.0, 0.0])


def test_probability_weighted_gradient_is_p_times_credit() -> None:
    # d/dlp of -exp(lp) A = -p A: p = 0.25, A = -2 -> 0.5
    assert gradient(lambda lp: losses.probability_weighted(lp, tensor([-2.0])), math.log(0.25)) == pytest.approx([0.5])


@pytest.mark.parametrize("difference", [-2.0, -0.1, 0.0, 0.5])
def test_k3_value_and_gradient(difference: float) -> None:
    # value e^d - d - 1 with d = ref - lp; d/dlp = 1 - e^d
    lp, ref = -1.0, -1.0 + difference
    value = losses.kl_k3(tensor([lp], dtype=torch.float64), tensor([ref], dtype=torch.float64))
    assert float(value) == pytest.approx(math.exp(difference) - difference - 1) and float(value) >= 0
    slope = gradient(lambda x: losses.kl_k3(x, tensor([ref], dtype=torch.float64)), lp)
    assert slope == pytest.approx([1 - math.exp(difference)])


def test_k3_is_unbiased_for_the_exact_kl() -> None:
    p, r = torch.softmax(tensor([0.3, -1.0, 2.0]).double(), 0), torch.softmax(tensor([1.0, 0.0, 0.5]).double(), 0)
    # sum_k p_k (r/p - log(r/p) - 1) = 1 - KL' - 1 with KL' = sum p log(r/p): exactly KL(p || r)
    expected = float((p * losses.kl_k3(p.log(), r.log())).sum())
    assert float(losses.kl_categorical(p.log(), r.log())) == pytest.approx(expected)
    assert float(losses.kl_categorical(p.log(), p.log())) == 0.0


def test_kl_of_candidates_that_a_filter_removed() -> None:
    logs = tensor([[0.0, float("-inf")]], requires_grad=True)
    loss = losses.kl_categorical(logs, tensor([[-1.0, float("-inf")]]))
    loss.sum().backward()
    # value 1 * (0 - -1); gradient p (log p - log r) + p = 1 + 1
    assert loss.tolist() == [1.0] and logs.grad.tolist() == [[2.0, 0.0]]


def test_dpo_formula() -> None:
    # margin 0.1 * ((-2 - -3) - (-5 - -4)) = 0.1 * 2; -log sigmoid(0.2)
    values = losses.dpo(tensor([-2.0]), tensor([-5.0]), tensor([-3.0]), tensor([-4.0]), beta=0.1)
    assert float(values) == pytest.approx(math.log(1 + math.exp(-0.2)))
    # at the reference: log 2, and the gradient on the chosen is -beta / 2
    at_start = lambda c: losses.dpo(c, tensor([-5.0]), tensor([-3.0]), tensor([-5.0]), beta=0.1)  # noqa: E731
    assert gradient(at_start, -3.0) == pytest.approx([-0.05])


def test_info_nce_and_false_negatives() -> None:
    scores = torch.log(tensor([[1.0, 3.0, 4.0]]))
    everyone = torch.ones(1, 3, dtype=torch.bool)
    # -log(1 / 8); without the false negative 4: -log(1 / 4); alone: 0
    assert float(losses.info_nce(scores, tensor([0]), everyone, temperature=1.0)) == pytest.approx(math.log(8))
    masked = tensor([[True, True, False]])
    assert float(losses.info_nce(scores, tensor([0]), masked, temperature=1.0)) == pytest.approx(math.log(4))
    nobody = torch.zeros(1, 3, dtype=torch.bool)
    assert float(losses.info_nce(scores, tensor([0]), nobody, temperature=1.0)) == 0.0
    # temperature 0.5 squares the odds: 1 / (1 + 9 + 16)
    assert float(losses.info_nce(scores, tensor([0]), everyone, temperature=0.5)) == pytest.approx(math.log(26))


def test_listwise() -> None:
    scores = torch.log(tensor([[1.0, 3.0, 9.0]]))
    target, mask = tensor([[0.5, 0.5, 0.0]]), tensor([[True, True, False]])
    # softmax over the first two: 1/4, 3/4 -> -(0.5 log 0.25 + 0.5 log 0.75)
    expected = -0.5 * (math.log(0.25) + math.log(0.75))
    assert float(losses.listwise(scores, target, mask)) == pytest.approx(expected)
    assert float(losses.listwise(scores, torch.zeros(1, 3), torch.zeros(1, 3).bool())) == 0.0


def test_binary_and_cross_entropy() -> None:
    values = losses.binary(tensor([0.0, 0.0]), tensor([1.0, 0.0]))
    assert values.tolist() == pytest.approx([math.log(2)] * 2)
    assert losses.cross_entropy(tensor([-0.5])).tolist() == [0.5]


def test_soft_cross_entropy_by_hand_and_against_torch() -> None:
    p, target = tensor([[0.5, 0.25, 0.25], [0.1, 0.9, 0.0]]), tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    # -(0.5 log 0.5 + 0.5 log 0.25) = 1.5 log 2; -log 0.9; the last label of the second has log p = -inf and target 0
    values = losses.soft_cross_entropy(p.log(), target)
    assert values.tolist() == pytest.approx([1.5 * math.log(2), -math.log(0.9)])
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted = torch.randn(2, 3, 4).softmax(-1)
    mine = losses.soft_cross_entropy(logits.log_softmax(-1), wanted)
    peer = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1), reduction="none")
    torch.testing.assert_close(mine.flatten(), peer)
    (gradient_,) = torch.autograd.grad(mine.sum(), logits)
    torch.testing.assert_close(gradient_, logits.softmax(-1) - wanted)
    nothing = losses.soft_cross_entropy(logits.log_softmax(-1), torch.zeros(2, 3, 4))
    assert nothing.tolist() == [[0.0] * 3] * 2


def test_every_loss_declares_its_unit() -> None:
    own = [value for value in vars(losses).values() if getattr(value, "__module__", "") == losses.__name__]
    functions = {value.__name__ for value in own if not value.__name__.startswith("_")}
    assert functions == set(losses.LOSS_UNITS)
