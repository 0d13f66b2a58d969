"""Learning when to trust one retrieved text: dual-group GRPO with a posterior gate (DyKnow-RAG, arXiv 2510.11122)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.advantages import (
    accuracy_gap,
    arm_groups,
    context_gate,
    group_relative,
    pooled,
    to_tokens,
    without_push_down,
)
from goodrate.learning.losses import probability_weighted
from goodrate.learning.policy_terms import policy_tensors, policy_terms
from goodrate.learning.records import MicroBatch, Outputs, Prompts, Reward, Rollout, Term
from goodrate.learning.rollout import join_arms
from goodrate.learning.rollout_method import Method, SampleGroups, Terms, TokenizedPrompt
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_rollouts import tokenize_prompts
from goodrate.recipes.label_grader import LabelGrader

FIXED = (2.0, 0.05)  # alpha, beta of the paper's fixed gate, which is Knowledgeable-R1's (arXiv 2506.05154)


class Settings(PolicySettings):
    """How to train which judge on prompts with and without their context."""

    judge: str = Field(description="judge folder to start from; it is also the reference")
    gate: Literal["query", "batch", "fixed", "oracle", "none"] = Field(
        default="query", description="posterior per query or batch, fixed (2, 0.05), by the text's kind, or no transfer"
    )
    advantage_clamp: float = Field(default=2.0, gt=0)
    epsilon: float = Field(default=1e-4, ge=0, description="added to the spread of a group")
    centred: bool = Field(
        default=False,
        description="a negative mean of a group's transferred advantages is taken off; false is the paper's",
    )
    contexts: int = Field(default=1, gt=0, description="retrieved texts in a prompt; more than one did not pay")

    @model_validator(mode="after")
    def _has_two_arms(self) -> Self:
        size = self.rollouts.group_size
        if size % 2 or size < 4:
            raise ValueError(
                f"rollouts.group_size: half of a group reads no text and half reads it, and either is compared among "
                f"itself: an even number from 4 on, not {size}"
            )
        return self


@dataclass(frozen=True)
class ContextArms:
    """Half of a group is sampled without the text, half with it; what the first half says is scored under both.

    token_ids: the prompts with their text, by example_id.
    """

    token_ids: Mapping[str, tuple[int, ...]]

    def sampled(self, sample_groups: SampleGroups, prompts: Sequence[TokenizedPrompt]) -> Rollout:
        """Two arms of every group: 0 without the text, 1 with it."""
        with_text = [self.token_ids[prompt.example_id] for prompt in prompts]
        first = sample_groups(prompts, share=0.5)
        return join_arms([first, sample_groups(prompts, with_text, share=0.5, view="context", arm=1)])

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """Each rollout's own prompt, and the one with the text."""
        under = rollout.sampled_under
        ids = tuple(self.token_ids[name] for name in under.example_ids)
        return under, Prompts(under.example_ids, ids, "context")


@dataclass(frozen=True)
class ContextCredit:
    """Advantages within each arm (eq. 3, 4), and those of arm 0 over both arms through the gate (eq. 5 to 8).

    kinds: what a prompt's text is worth, by example_id.
    """

    settings: Settings
    kinds: Mapping[str, str]

    def __call__(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """What context_terms reads."""
        s, r = self.settings, reward.outcome
        scaling: dict[str, Any] = {"epsilon": s.epsilon, "clamp": s.advantage_clamp}
        own = group_relative(r, arm_groups(rollout.group, rollout.arm), scale="population", **scaling)
        cross = pooled(r, rollout.group, rollout.arm, self.gate(rollout, reward), **scaling)
        if s.centred:
            cross = without_push_down(cross, rollout.group, rollout.arm == 0)
        first = (rollout.arm == 0)[:, None] & rollout.mask
        return {**policy_tensors(rollout, own), "without": first, "cross": to_tokens(cross, first)}

    def gate(self, rollout: Rollout, reward: Reward) -> tuple[Tensor, Tensor]:
        """alpha and beta (N,); constants."""
        gap = accuracy_gap(reward.correct, rollout.group, rollout.arm)
        if self.settings.gate == "batch":
            gap = torch.full_like(gap, float(gap.nanmean()))
        if self.settings.gate == "fixed":
            return torch.full_like(gap, FIXED[0]), torch.full_like(gap, FIXED[1])
        if self.settings.gate == "oracle":  # rely on a helpful text, ignore any other (the paper's human gate)
            names = [rollout.sampled_under.example_ids[row] for row in rollout.example_id.tolist()]
            helps = torch.tensor([self.kinds[name] == "helpful" for name in names])
            return torch.where(helps, FIXED[1], FIXED[0]), torch.where(helps, FIXED[0], FIXED[1])
        return context_gate(gap)


def context_terms(settings: Settings) -> Terms:
    """l0 + l1 - KL as one mean over both arms, which halves them; the cross term is halved with them (eq. 12)."""
    terms, diagnostics = policy_terms(settings.loss, on_policy=settings.rollouts.on_policy)
    probability = Term("context_probability", lambda out, batch: out["context"].exp(), "without", "token_mean")
    if settings.gate != "none":
        terms.append(Term("cross", _cross, "without", "sequence_mean", weight=0.5))
    return terms, [*diagnostics, probability]


def _cross(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Plain probabilities of what was said without the text, under the prompt with it (eq. 11)."""
    return probability_weighted(outputs["context"], batch["cross"])


def context_method(
    settings: Settings, token_ids: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str], labels: LabelGrader
) -> Method:
    """Two arms of every group and the gate between them; token_ids, kinds: see ContextArms and ContextCredit."""

    def facts(rollout: Rollout, reward: Reward) -> dict[str, float]:
        """Also: accuracy with the text less accuracy without it."""
        gap = accuracy_gap(reward.correct, rollout.group, rollout.arm)
        return {**labels.facts(rollout, reward), "context_gap": float(gap.nanmean())}

    arms = ContextArms(token_ids)
    return Method(labels, ContextCredit(settings, kinds), context_terms(settings), facts, arms)


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed.

    prompts: with their context_prefix.
    """
    kinds = {prompt.example_id: prompt.context_kind for prompt in prompts}

    def method(model: CausalLM, labels: LabelGrader) -> Method:
        with_text = [replace(prompt, prefix=prompt.served[0]) for prompt in prompts]
        tokenized = tokenize_prompts(model, with_text, settings.rollouts.max_new_tokens)
        token_ids = {prompt.example_id: prompt.token_ids for prompt in tokenized}
        return context_method(settings, token_ids, kinds, labels)

    return train_policy(settings, settings.judge, method, prompts, out, progress, {"contexts": settings.contexts})
