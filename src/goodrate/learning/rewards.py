"""Rewards: what is known of N rollouts in, a Reward out. Parsing and grading happen before; this is arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from goodrate.learning.records import Reward

UNPARSED = -1  # a predicted label that could not be read
Gate = Literal["none", "threshold", "relevance"]


def label_reward(predicted: Tensor, gold: Tensor) -> Reward:
    """1 if the predicted label is the gold label, else 0.

    predicted: (N,) label positions, -1 unparsed or cut off: outcome 0, counted as failed. gold: (N,), -1 = no gold:
    NaN, the grader cannot score. (TaoSR1, arXiv 2508.12365; 0/1 and -1/+1 are the same after a z-score.)
    """
    failed = predicted == UNPARSED
    outcome = ((predicted == gold) & ~failed).float()
    outcome = torch.where(gold < 0, torch.full_like(outcome, float("nan")), outcome)
    return Reward(outcome=outcome, correct=outcome, failed=failed, parts={"label": outcome})


@dataclass(frozen=True)
class RuleWeights:
    """Summands of the rule-aware reward. label > the others together: shaping never out-ranks the outcome."""

    label: float = 1.0
    category: float = 0.25
    attributes: float = 0.25
    rule: float = 0.25

    def __post_init__(self) -> None:
        if self.label <= self.category + self.attributes + self.rule:
            raise ValueError(f"label weight {self.label} must exceed category + attributes + rule, or shaping wins")


def rule_aware_reward(
    label: Reward,
    category: Tensor,
    attributes: Tensor,
    rule: Tensor,
    *,
    well_formed: Tensor,
    breaks_rule: Tensor,
    weights: RuleWeights | None = None,
) -> Reward:
    """gate * (w_L label + w_C category + w_A attributes + w_R rule), gate = well_formed and not breaks_rule.

    All arguments (N,); category and rule 0/1, attributes an F1 in 0..1, NaN = no gold for that part (it then adds 0).
    A failed rollout has 0 whatever its parts; `correct` stays the label's. (papers/taosr_agrl.md 5: our design.)
    """
    w = weights or RuleWeights()
    parts = {"label": w.label * label.outcome}
    named = (("category", w.category, category), ("attributes", w.attributes, attributes), ("rule", w.rule, rule))
    parts |= {name: weight * part.nan_to_num(0.0) for name, weight, part in named}
    passed = well_formed & ~breaks_rule & ~label.failed
    outcome = torch.stack(list(parts.values())).sum(dim=0) * passed
    return Reward(outcome=outcome, correct=label.correct, failed=label.failed, parts=parts)


def step_reward(outcome: Reward, verified: Tensor, judged: Tensor) -> Reward:
    """Steps (N, S): the stored verdict where there is one, else the step judge's; NaN in both = no step credit.

    Guard: where the judge calls every step right that it decides while the verified last step is wrong, the judge's
    verdicts of that rollout become neutral (0.5). Failed rollouts have no step rewards.
    (papers/taosr_she.md section 7, our design.)
    """
    by_judge = verified.isnan()
    decided = by_judge & ~judged.isnan()
    all_right = (judged.eq(1) | ~decided).all(dim=1) & decided.any(dim=1)
    contradicted = (all_right & verified[:, -1].eq(0))[:, None]
    steps = torch.where(by_judge, torch.where(contradicted & decided, 0.5, judged), verified)
    steps = torch.where(outcome.failed[:, None], float("nan"), steps)
    return Reward(outcome.outcome, outcome.correct, outcome.failed, steps, outcome.parts)


def retrieval_reward(
    relevance: Tensor, quality: Tensor, exclusive: Tensor, *, gate: Gate, scale: float = 1.0, threshold: float = 0.5
) -> Reward:
    """relevance + scale * gate * (quality + exclusive), all (N,) over the candidates of all queries.

    gate "none": the plain sum of Retrieval-GRPO (arXiv 2511.13885 eq. 6); it pays for irrelevance, because an item
    that shares no word with the query has the largest exclusivity. "threshold": 1 where relevance >= threshold.
    "relevance": the relevance itself. A NaN relevance (the judge failed) is a NaN outcome.
    """
    factors = {
        "none": torch.ones_like(relevance),
        "threshold": (relevance >= threshold).to(relevance.dtype),
        "relevance": relevance,
    }
    if gate not in factors:
        raise ValueError(f"gate {gate!r} is not one of {', '.join(factors)}")
    parts = {
        "relevance": relevance,
        "quality": scale * factors[gate] * quality,
        "exclusivity": scale * factors[gate] * exclusive,
    }
    correct = torch.where(relevance.isnan(), relevance, (relevance >= threshold).to(relevance.dtype))
    outcome = torch.stack(list(parts.values())).sum(dim=0)
    return Reward(outcome, correct, torch.zeros_like(relevance, dtype=torch.bool), parts=parts)
