"""Stepwise reward policy optimisation of a judge (SHE, arXiv 2510.07972): credit for each step of its reasoning.

What is the paper's: rewards per step from stored verdicts and a generative step judge, and that critical steps come
first. How they become advantages is our design (papers/taosr_she.md section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.advantages import critical_weights, cumulative, group_relative, stepwise, to_tokens
from goodrate.learning.policy_terms import policy_tensors
from goodrate.learning.records import Reward, Rollout
from goodrate.learning.rewards import step_reward
from goodrate.learning.rollout_method import Method, TokenizedPrompt
from goodrate.learning.solved import AlreadySolved
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.guided_replay import WEAK, GuidedReplay, ReplaySettings, guided_masks, guided_terms
from goodrate.recipes.judge_policy import PolicySettings, train_policy, write_unchanged
from goodrate.recipes.judge_steps import CREDITED, NAN, StepSpans, verified_steps
from goodrate.recipes.label_grader import LabelGrader
from goodrate.recipes.prompt_pool import PoolSettings, select_prompts
from goodrate.recipes.solved import solved_judge
from goodrate.recipes.step_judge import StepJudge, open_step_judge
from goodrate.relevance.rationale import STEPS, Parsed
from goodrate.run_folder import RunFolder


class Settings(PolicySettings):
    """How to train which judge by step rewards."""

    judge: str = Field(description="judge folder to start from, best a reason-first one; it is also the reference")
    pool: PoolSettings | None = Field(default=None, description="which prompts are worth training on; null = all")
    step_judge: str | None = Field(
        default=None, description="folder of a trained step judge, asked where no verdict is stored; null = none"
    )
    soft: bool = Field(default=False, description="the step judge's probabilities as rewards, not its verdicts")
    covered: list[Literal["wants", "found", "category", "checks", "verdict"]] = Field(
        default=["category", "checks", "verdict"],
        description="steps whose stored verdicts count, beside the label",
    )
    outcome_weight: float = Field(default=0.7, ge=0, description="weight of the label's own advantage on every token")
    critical: bool = Field(
        default=True, description="the first wrong step and disputed right ones count, not later ones"
    )
    easy_weight: float = Field(default=0.1, ge=0, le=1, description="weight of a step that everybody gets right")
    advantage_clamp: float = Field(default=2.0, gt=0)
    form: Literal["local", "cumulative"] = Field(
        default="local", description="local: a step beside the same step of its group; cumulative: with all later ones"
    )
    replay: ReplaySettings | None = Field(default=None, description="guided replay of stuck prompts; null = none")
    permuted: bool = Field(default=False, description="exchange the step rewards among rollouts: a negative control")
    reduction: Literal["step_mean", "as loss.reduction"] = Field(
        default="as loss.reduction", description="step_mean: tokens inside a step are averaged first"
    )


@dataclass(frozen=True)
class StepGrader:
    """The label's reward and step rewards from stored verdicts and, where they are silent, from a step judge.

    prompts: by example_id. covered: steps whose stored verdicts count. soft: the step judge's probabilities, not its
    verdicts.
    """

    labels: LabelGrader
    prompts: Mapping[str, JudgePrompt]
    covered: Sequence[str]
    step_judge: StepJudge | None = None
    soft: bool = False

    def parse(self, completion: Any) -> Parsed | None:
        """As the label's grader reads it."""
        return self.labels.parse(completion)

    def correct(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Tensor:
        """The label's."""
        return self.labels.correct(rollout, prompts)

    def grade(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        """The label reward, and steps (N, 6): CREDITED."""
        outcome = self.labels.grade(rollout, prompts)
        known = [self.prompts[prompts[group].example_id] for group in rollout.group.tolist()]
        pairs = zip(rollout.parsed, known, strict=True)
        verified = torch.tensor([verified_steps(parsed, prompt, self.covered) for parsed, prompt in pairs])
        judged = torch.full_like(verified, NAN)
        if self.step_judge is not None:
            judged = self.step_judge.judge(known, rollout)
            judged = judged if self.soft else torch.where(judged.isnan(), judged, judged.round())
        reward = step_reward(outcome, verified, judged)
        assert reward.steps is not None
        steps = {f"step/{name}": reward.steps[:, i] for i, name in enumerate(CREDITED[:-1])}
        return replace(reward, parts={**reward.parts, **steps})

    def weakest(self, reward: Reward, rows: Tensor) -> str:
        """The step of a hint's second rung that the group has right least often."""
        assert reward.steps is not None
        shares = {name: float(reward.steps[rows, STEPS.index(step)].nanmean()) for name, step in WEAK.items()}
        known = {name: share for name, share in shares.items() if share == share}
        return min(known, key=lambda name: known[name]) if known else "category"


@dataclass(frozen=True)
class StepCredit:
    """Step advantages on the tokens of their step, and the outcome's on all of them."""

    settings: Settings
    spans: StepSpans

    def __call__(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """What guided_terms reads, and "steps": the step (N, T) of every token."""
        s, steps = self.settings, reward.steps
        assert steps is not None
        if s.permuted:
            steps = steps[torch.randperm(len(steps), generator=torch.Generator().manual_seed(len(steps)))]
        compared = stepwise if s.form == "local" else cumulative
        local = compared(steps, rollout.group, scale="population", epsilon=1e-4)
        if s.critical:
            local = local * critical_weights(steps, rollout.group, easy=s.easy_weight)
        whole = group_relative(reward.outcome, rollout.group, scale="population", epsilon=1e-4)
        step_ids = self.spans.of(rollout)
        tokens = to_tokens(local, rollout.mask, step_ids) + s.outcome_weight * to_tokens(whole, rollout.mask)
        clamped = tokens.clamp(-s.advantage_clamp, s.advantage_clamp)
        return {**policy_tensors(rollout, clamped), "steps": step_ids, **guided_masks(rollout)}


def stepwise_method(
    settings: Settings, prompts: Mapping[str, JudgePrompt], model: CausalLM, labels: LabelGrader,
    step_judge: StepJudge | None = None,
) -> Method:  # fmt: skip
    """Credit for every step, with guided replay or without it. prompts: by example_id."""
    labels, replay = replace(labels, refuses_hints=True), settings.replay
    grader = StepGrader(labels, prompts, settings.covered, step_judge, settings.soft)
    template, steps = labels.judge_format.template, "steps" if settings.reduction == "step_mean" else None
    return Method(
        grader, StepCredit(settings, StepSpans(model)),
        guided_terms(settings.loss, replay, on_policy=settings.rollouts.on_policy, steps=steps),
        labels.facts,
        replay=GuidedReplay(replay, model, template, prompts, grader) if replay else None,
    )  # fmt: skip


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed.

    ValueError when nobody knows of any step whether it is right.
    """
    if settings.step_judge is None and not any(prompt.steps.keys() & set(settings.covered) for prompt in prompts):
        raise ValueError(
            f"no step can be rewarded: none of {len(prompts)} prompts has true steps (data.rationales), and no "
            "step_judge is named"
        )
    run = RunFolder(out)
    run.require_same(settings)
    if (done := solved_judge(run)) is not None:
        return done
    if settings.pool:
        try:
            prompts = select_prompts(settings.judge, prompts, settings.pool, settings.fit.seed)
        except AlreadySolved as solved:
            return write_unchanged(settings, settings.judge, out, str(solved))
    by_id = {prompt.example_id: prompt for prompt in prompts}
    step_judge = open_step_judge(settings.step_judge) if settings.step_judge else None

    def method(model: CausalLM, labels: LabelGrader) -> Method:
        return stepwise_method(settings, by_id, model, labels, step_judge)

    return train_policy(settings, settings.judge, method, prompts, out, progress)
