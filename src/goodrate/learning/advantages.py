"""Advantages: rewards in, credits out. Groups go by id, never by shape, because filters make them ragged.

Everywhere: a NaN reward is out of mean and spread and has advantage 0; groups of one or without spread give 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["none", "sample", "population"]


@dataclass(frozen=True)
class GroupStatistics:
    """Figures of each rollout's group over known rewards: how many, mean, sum of squares, has spread. All (N,)."""

    count: Tensor
    mean: Tensor
    squares: Tensor
    spread: Tensor


def group_statistics(rewards: Tensor, group: Tensor) -> GroupStatistics:
    """rewards: (N,) with NaN for unknown. group: (N,) any integer ids. Statistics are float64."""
    _, index = torch.unique(group, return_inverse=True)
    num_groups = int(index.max()) + 1 if len(index) else 0
    known = ~rewards.isnan()
    values = torch.where(known, rewards, 0.0).double()

    def totals(part: Tensor) -> Tensor:
        return values.new_zeros(num_groups).index_add_(0, index, part)[index]

    def extreme(kind: str, fill: float) -> Tensor:
        start = values.new_full((num_groups,), fill)
        return start.scatter_reduce_(0, index, torch.where(known, values, fill), reduce=kind)[index]

    count = totals(known.double())
    mean = totals(values) / count.clamp(min=1)
    squares = totals(torch.where(known, (values - mean) ** 2, 0.0))
    # Compared exactly: rounding in the mean must not turn equal rewards into a spread of 1e-17.
    spread = extreme("amax", float("-inf")) > extreme("amin", float("inf"))
    return GroupStatistics(count, mean, squares, spread)


def group_relative(
    rewards: Tensor,
    group: Tensor,
    *,
    scale: Scale,
    epsilon: float = 0.0,
    floor: float = 0.0,
    clamp: float | None = None,
) -> Tensor:
    """(r - mean) / max(std + epsilon, floor) within each group, clamped to +-clamp; (N,).

    scale: "none" (no division; Dr. GRPO), "sample" (n - 1) or "population" (n). It has no default because libraries
    differ: rewards 1, 0, 0, 0 give the first 0.75, 1.50 and 1.73.
    """
    stats = group_statistics(rewards, group)
    divisor = torch.ones_like(stats.mean)
    if scale != "none":
        degrees = stats.count - 1 if scale == "sample" else stats.count
        divisor = ((stats.squares / degrees.clamp(min=1)).sqrt() + epsilon).clamp(min=floor)
    usable = stats.spread & ~rewards.isnan()
    advantages = torch.where(usable, (rewards.double() - stats.mean) / divisor, 0.0).to(rewards.dtype)
    return advantages if clamp is None else advantages.clamp(-clamp, clamp)


def stepwise(steps: Tensor, group: Tensor, *, scale: Scale, epsilon: float = 0.0) -> Tensor:
    """group_relative per step index: like is compared with like, category steps never with verdicts. (N, S).

    steps: (N, S) rewards, NaN = no usable reward for that step. (papers/taosr_she.md section 4a, our design.)
    """
    num_steps = steps.shape[1]
    _, index = torch.unique(group, return_inverse=True)
    cells = index[:, None] * num_steps + torch.arange(num_steps, device=index.device)
    return group_relative(steps.flatten(), cells.flatten(), scale=scale, epsilon=epsilon).view_as(steps)


def cumulative(steps: Tensor, group: Tensor, *, scale: Scale, epsilon: float = 0.0) -> Tensor:
    """What a step and all later ones earn: rewards normalised over all steps of a group together, summed backwards.

    (N, S). The process supervision of DeepSeekMath (arXiv 2402.03300); a NaN step adds nothing. Early steps earn more
    the more steps there are, so it is for reasoning of a fixed number of steps.
    """
    cells = group.repeat_interleave(steps.shape[1])
    earned = group_relative(steps.flatten(), cells, scale=scale, epsilon=epsilon).view_as(steps)
    return earned.flip(1).cumsum(1).flip(1)


def critical_weights(steps: Tensor, group: Tensor, *, easy: float) -> Tensor:
    """Weights for critical steps, (N, S): the first wrong step 1; a right step before it 1 if the group disagrees.

    Steps after the first error weigh 0 (they are built on it), right steps that everybody has right weigh `easy`.
    A NaN step is never the first error. (papers/taosr_she.md section 4c, our design.)
    """
    num_steps = steps.shape[1]
    wrong = steps.eq(0)
    first = torch.where(wrong.any(dim=1), wrong.int().argmax(dim=1), num_steps)[:, None]
    position = torch.arange(num_steps, device=steps.device)[None, :]
    _, index = torch.unique(group, return_inverse=True)
    cells = (index[:, None] * num_steps + position).flatten()
    disagree = group_statistics(steps.flatten(), cells).spread.view_as(steps)
    critical = (position == first) | ((position < first) & disagree & steps.eq(1))
    return torch.where(critical, 1.0, torch.where(position > first, 0.0, easy))


def arm_groups(group: Tensor, arm: Tensor) -> Tensor:
    """Group ids that keep the sampling arms of one group apart, (N,)."""
    return group * (int(arm.max()) + 1) + arm


def accuracy_gap(correct: Tensor, group: Tensor, arm: Tensor) -> Tensor:
    """Accuracy of arm 1 minus that of arm 0 in each rollout's group, (N,); NaN (unknown) when an arm is empty."""

    def accuracy(which: int) -> Tensor:
        stats = group_statistics(torch.where(arm == which, correct, float("nan")), group)
        return torch.where(stats.count > 0, stats.mean, float("nan"))

    return (accuracy(1) - accuracy(0)).to(correct.dtype)


def context_gate(gap: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, beta) from an accuracy gap: beta = 4 sigmoid(4 gap), alpha = 0.1 / beta (DyKnow-RAG eq. 13, 14).

    Gap 0 gives beta 2 and alpha 0.05. An unknown gap (NaN) counts as 0: no evidence for or against the context.
    """
    beta = 4 * torch.sigmoid(4 * gap.nan_to_num(0.0))
    return 0.1 / beta, beta


def asymmetric(advantages: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha A where A > 0, beta A elsewhere (DyKnow-RAG eq. 8)."""
    return torch.where(advantages > 0, alpha * advantages, beta * advantages)


def without_push_down(advantages: Tensor, group: Tensor, selected: Tensor) -> Tensor:
    """Advantages (N,) less their mean over the selected of a group where it is negative; others stay. Ours, no paper's.

    A gate that scales right and wrong answers apart leaves a group with a mean that is not 0. With plain probabilities
    a negative one pushes down what all answers share, their form. A positive one stays: it imitates.
    """
    mean = group_statistics(torch.where(selected, advantages, float("nan")), group).mean.to(advantages.dtype)
    return torch.where(selected, advantages - mean.clamp(max=0).nan_to_num(0.0), advantages)


def pooled(
    rewards: Tensor, group: Tensor, arm: Tensor, gate: tuple[Tensor, Tensor],
    *, epsilon: float = 0.0, clamp: float | None = None,
) -> Tensor:  # fmt: skip
    """Advantages of arm 0 against both arms together, through a gate (alpha, beta); 0 on arm 1. (DyKnow-RAG eq. 5-8.)

    Population spread over the union. The clamp acts before the gate. Constants: nothing here carries a gradient.
    """
    union = group_relative(rewards, group, scale="population", epsilon=epsilon, clamp=clamp)
    gated = asymmetric(union, *gate)
    return torch.where(arm == 0, gated, torch.zeros_like(gated))


def to_tokens(advantages: Tensor, mask: Tensor, step_id: Tensor | None = None) -> Tensor:
    """Credit per token, (N, T): advantages (N,) on every completion token, or (N, S) on the tokens of their step.

    Tokens of no step (-1) get no step credit. Masked-out tokens get 0.
    """
    if advantages.dim() == 1:
        return advantages[:, None] * mask
    assert step_id is not None, "step advantages need step ids"
    credit = advantages.gather(1, step_id.clamp(min=0))
    return torch.where(mask & (step_id >= 0), credit, torch.zeros_like(credit))
