"""Learning when to trust one retrieved text: dual-group GRPO with a posterior gate (DyKnow-RAG, arXiv 2510.11122)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

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
from goodrate.learning.policy_terms import policy_terms
from goodrate.learning.records import MicroBatch, Outputs, Prompts, Reward, Rollout, Term
from goodrate.learning.rollout import join_arms
from goodrate.learning.rollout_method import Ask, PolicyExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_rollouts import JudgeRollouts, LabelledPrompt, policy_examples

FIXED = (2.0, 0.05)  # alpha, beta of the paper's fixed gate, which is Knowledgeable-R1's (arXiv 2506.05154)


@dataclass(frozen=True)
class ContextPrompt(LabelledPrompt):
    """A prompt and the same one with a retrieved text in it. kind: what the text is worth, where somebody knows."""

    context_prefix: str = ""
    kind: str = ""

    @property
    def served(self) -> tuple[str, str]:
        """With the text: that is how the pool's confidence is measured, too."""
        return self.context_prefix, self.suffix


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
class DualGroups(JudgeRollouts):
    """Half of a group is sampled without the text, half with it; what the first half says is scored under both."""

    settings: Settings
    context_ids: dict[str, tuple[int, ...]]
    kinds: dict[str, str]

    def sampled(self, ask: Ask, examples: Sequence[PolicyExample]) -> Rollout:
        """Two arms of every group: 0 without the text, 1 with it."""
        texts = [self.context_ids[example.example_id] for example in examples]
        return join_arms([ask(examples, share=0.5), ask(examples, texts, share=0.5, view="context", arm=1)])

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """Each rollout's own prompt, and the one with the text."""
        under = rollout.sampled_under
        ids = tuple(self.context_ids[name] for name in under.example_ids)
        return under, Prompts(under.example_ids, ids, "context")

    def credit(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """Advantages within each arm (eq. 3, 4), and those of arm 0 over both arms through the gate (eq. 5 to 8)."""
        s, r = self.settings, reward.outcome
        how: dict[str, Any] = {"epsilon": s.epsilon, "clamp": s.advantage_clamp}
        own = group_relative(r, arm_groups(rollout.group, rollout.arm), scale="population", **how)
        cross = pooled(r, rollout.group, rollout.arm, self._gate(rollout, reward), **how)
        if s.centred:
            cross = without_push_down(cross, rollout.group, rollout.arm == 0)
        first = (rollout.arm == 0)[:, None] & rollout.mask
        assert rollout.behaviour_logprobs is not None
        return {
            "mask": rollout.mask, "without": first, "behaviour": rollout.behaviour_logprobs,
            "advantages": to_tokens(own, rollout.mask), "cross": to_tokens(cross, first),
        }  # fmt: skip

    def _gate(self, rollout: Rollout, reward: Reward) -> tuple[Tensor, Tensor]:
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

    def facts(self, rollout: Rollout, reward: Reward) -> dict[str, float]:
        """Also: accuracy with the text less accuracy without it."""
        gap = accuracy_gap(reward.correct, rollout.group, rollout.arm)
        return {**super().facts(rollout, reward), "context_gap": float(gap.nanmean())}

    def terms(self) -> tuple[Sequence[Term], Sequence[Term]]:
        """l0 + l1 - KL as one mean over both arms, which halves them; the cross term is halved with them (eq. 12)."""
        s = self.settings
        terms, diagnostics = policy_terms(s.loss, on_policy=s.rollouts.inner_steps == 1)
        told = Term("context_probability", lambda out, batch: out["context"].exp(), "without", "token_mean")
        if s.gate != "none":
            terms.append(Term("cross", _cross, "without", "sequence_mean", weight=0.5))
        return terms, [*diagnostics, told]


def _cross(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Plain probabilities of what was said without the text, under the prompt with it (eq. 11)."""
    return probability_weighted(outputs["context"], batch["cross"])


def train(
    settings: Settings,
    prompts: Sequence[ContextPrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""

    def method(model: CausalLM, form: JudgeFormat, rules: dict[str, int]) -> DualGroups:
        told = [LabelledPrompt(p.example_id, *p.served, p.label) for p in prompts]
        ids = {e.example_id: e.token_ids for e in policy_examples(model, told, settings.rollouts.max_new_tokens)}
        kinds = {p.example_id: p.kind for p in prompts}
        return DualGroups(form, rules, settings, ids, kinds, label_needs=settings.label_needs)

    return train_policy(settings, settings.judge, method, prompts, out, progress, {"contexts": settings.contexts})
