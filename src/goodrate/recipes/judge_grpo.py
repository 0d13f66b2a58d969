"""GRPO of a judge on its own completions: difficulty-filtered, label-balanced groups (TaoSR1 stage 3, 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.policy_terms import outcome_credit, policy_terms
from goodrate.learning.rollout_method import Method
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.label_grader import LabelGrader


class Training(PolicySettings):
    """How to train a judge by GRPO, whichever judge."""

    advantage_clamp: float = Field(default=2.0, gt=0, description="advantages are clipped to plus and minus this")


class Settings(Training):
    """How to train which judge by GRPO."""

    judge: str = Field(description="judge folder to start from; it is also the reference")


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""

    def method(model: CausalLM, grader: LabelGrader) -> Method:
        credit = partial(outcome_credit, clamp=settings.advantage_clamp)
        terms = policy_terms(settings.loss, on_policy=settings.rollouts.on_policy)
        return Method(grader, credit, terms, grader.facts)

    return train_policy(settings, settings.judge, method, prompts, out, progress)
