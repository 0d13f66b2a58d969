"""GRPO of a judge on its own completions: difficulty-filtered, label-balanced groups (TaoSR1 stage 3, 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.policy_terms import policy_terms
from goodrate.learning.records import Reward, Rollout, Term
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_rollouts import JudgeRollouts, LabelledPrompt


class Training(PolicySettings):
    """How to train a judge by GRPO, whichever judge."""

    advantage_clamp: float = Field(default=2.0, gt=0, description="advantages are clipped to plus and minus this")


class Settings(Training):
    """How to train which judge by GRPO."""

    judge: str = Field(description="judge folder to start from; it is also the reference")


@dataclass(frozen=True)
class LabelGRPO(JudgeRollouts):
    """The label reward, z-scored within its group, on every token of the completion."""

    settings: Training

    def credit(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """Advantages and the mask of the tokens that have one."""
        a = group_relative(reward.outcome, rollout.group, scale="population", clamp=self.settings.advantage_clamp)
        assert rollout.behaviour_logprobs is not None
        advantages = to_tokens(a, rollout.mask)
        return {"mask": rollout.mask, "advantages": advantages, "behaviour": rollout.behaviour_logprobs}

    def terms(self) -> tuple[Sequence[Term], Sequence[Term]]:
        """Clipped policy gradient and KL; on-policy while rollouts serve one step."""
        return policy_terms(self.settings.loss, on_policy=self.settings.rollouts.inner_steps == 1)


def train(
    settings: Settings,
    prompts: Sequence[LabelledPrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""

    def method(model: CausalLM, judge_format: JudgeFormat, rules: dict[str, int]) -> LabelGRPO:
        return LabelGRPO(judge_format, rules, settings, label_needs=settings.label_needs)

    return train_policy(settings, settings.judge, method, prompts, out, progress)
