"""The loss of GRPO and its kin: clipped policy gradient, KL to the reference, and what is logged beside them."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.losses import kl_k3, policy_gradient
from goodrate.learning.policy import REFERENCE
from goodrate.learning.records import MicroBatch, Outputs, Reward, Rollout, Term


class PolicyTermSettings(BaseModel):
    """Clips, KL weight and the reduction over tokens."""

    model_config = ConfigDict(extra="forbid")
    clip_low: float = Field(default=0.2, gt=0, description="the ratio's lower bound is 1 - this")
    clip_high: float = Field(default=0.2, gt=0, description="the ratio's upper bound is 1 + this")
    kl: float = Field(default=0.02, ge=0, description="weight of the KL to the frozen start; 0 = no reference at all")
    reduction: Literal["sequence_mean", "token_mean", "fixed_length"] = Field(
        default="sequence_mean", description="sequence_mean as published; token_mean (DAPO); fixed_length (Dr. GRPO)"
    )
    fixed_length: int | None = Field(default=None, gt=0, description="the constant of fixed_length, in tokens")


def policy_tensors(rollout: Rollout, advantages: Tensor) -> dict[str, Tensor]:
    """What policy_terms reads of a micro-batch: mask, advantages and behaviour log probabilities, (N, T) each.

    advantages: (N,), or (N, T).
    """
    assert rollout.behaviour_logprobs is not None
    tokens = to_tokens(advantages, rollout.mask) if advantages.dim() == 1 else advantages
    return {"mask": rollout.mask, "advantages": tokens, "behaviour": rollout.behaviour_logprobs}


def outcome_credit(rollout: Rollout, reward: Reward, *, clamp: float, floor: float = 0.0) -> dict[str, Tensor]:
    """The outcome, z-scored within its group, on every token of the completion. floor: least divisor."""
    advantages = group_relative(reward.outcome, rollout.group, scale="population", floor=floor, clamp=clamp)
    return policy_tensors(rollout, advantages)


def policy_terms(
    settings: PolicyTermSettings, on_policy: bool, view: str = "plain", steps: str | None = None
) -> tuple[list[Term], list[Term]]:
    """(terms, diagnostics) over the masks "mask", with "advantages" and "behaviour" (N, T) from the micro-batch.

    steps: key of step ids; the policy's loss is then averaged inside each step first, so that long steps do not drown
    short ones.

    on_policy: rollouts serve one step, so the old policy is the new one and the ratio is 1 with a gradient; sampling
    and scoring differ by rounding (0.01 under bf16), which is then no ratio.
    """

    def old(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return outputs[view].detach() if on_policy else batch["behaviour"]

    def policy(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return policy_gradient(
            outputs[view],
            old(outputs, batch),
            batch["advantages"],
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
        )

    def kl(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return kl_k3(outputs[view], outputs[REFERENCE])

    def clipped(outputs: Outputs, batch: MicroBatch) -> Tensor:
        ratio = torch.exp(outputs[view] - old(outputs, batch))
        return ((ratio < 1 - settings.clip_low) | (ratio > 1 + settings.clip_high)).float()

    shape = {"reduction": settings.reduction, "length": settings.fixed_length}
    own = {"reduction": "step_mean", "steps": steps} if steps else shape
    terms = [Term("policy", policy, "mask", **own)]  # type: ignore[arg-type]
    diagnostics = [
        Term("clipped", clipped, "mask", "token_mean"),
        Term("entropy", lambda outputs, batch: outputs["entropy"], "mask", "token_mean"),
        Term("first_token_entropy", lambda outputs, batch: outputs["entropy"][:, 0], "first", "mean"),
        Term("sampler_gap", lambda outputs, batch: (outputs[view] - batch["behaviour"]).abs(), "mask", "token_mean"),
    ]
    if settings.kl > 0:
        terms.append(Term("kl_loss", kl, "mask", weight=settings.kl, **shape))  # type: ignore[arg-type]
        diagnostics.append(Term("kl", kl, "mask", "token_mean"))
    return terms, diagnostics
