"""GRPO of a judge on its own completions: difficulty-filtered, label-balanced groups (TaoSR1 stage 3, 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.collapse import CollapseDetector
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms
from goodrate.learning.records import Reward, Rollout, Term
from goodrate.learning.reference import freeze_reference
from goodrate.learning.rollout_source import RolloutSettings, RolloutSource
from goodrate.recipes.judge_folder import open_judge, stop_token_id, write_judge
from goodrate.recipes.judge_rollouts import JudgeRollouts, LabelledPrompt, policy_examples
from goodrate.run_folder import RunFolder


class Training(BaseModel):
    """How to train a judge by GRPO, whichever judge."""

    model_config = ConfigDict(extra="forbid")
    optimizer: OptimizerName = Field(default="adamw")
    learning_rate: float = Field(default=5e-5, gt=0, description="1e-6 for pretrained models of 0.5B up")
    weight_decay: float = Field(default=0.0, ge=0)
    advantage_clamp: float = Field(default=2.0, gt=0, description="advantages are clipped to plus and minus this")
    rollouts: RolloutSettings = Field(default_factory=RolloutSettings)
    loss: PolicyTermSettings = Field(default_factory=PolicyTermSettings)
    fit: FitSettings = Field(default_factory=lambda: FitSettings(updates=200))


class Settings(Training):
    """How to train which judge by GRPO."""

    judge: str = Field(description="judge folder to start from; it is also the reference")


@dataclass(frozen=True)
class LabelGRPO(JudgeRollouts):
    """The label reward, z-scored within its group, on every token of the completion."""

    settings: Settings

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
    run = RunFolder(out)
    run.begin(settings, settings.fit.seed, prompts=len(prompts))
    model, judge_format, rules = open_judge(settings.judge)
    method = LabelGRPO(judge_format, rules, settings)
    examples = policy_examples(model, prompts, settings.rollouts.max_new_tokens)
    source = RolloutSource(
        settings.rollouts, model, examples, method,
        num_labels=method.num_labels, stop_token_id=stop_token_id(model), seed=settings.fit.seed,
    )  # fmt: skip
    detector = CollapseDetector()
    reference = freeze_reference(model.network) if settings.loss.kl > 0 else None
    optimizers = make_optimizers(model.network, settings.optimizer, settings.learning_rate, settings.weight_decay)

    def watch(record: dict[str, Any]) -> None:
        detector(record)
        if progress:
            progress(record)

    scorer = PolicyScorer(model.network, reference)
    fit(scorer, source, optimizers, settings.fit, folder=run, stateful={"detector": detector}, on_update=watch)
    return write_judge(model, judge_format, run.path / "judge")
