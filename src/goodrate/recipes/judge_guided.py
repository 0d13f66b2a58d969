"""Rule-aware rewards and adaptive guided replay for a judge (TaoSR-AGRL, arXiv 2510.08048).

What is the paper's: dense rewards for steps and rules instead of the label alone, and ground-truth guidance for prompts
whose rollouts go wrong. Weights, gates, the hint ladder and the off-policy treatment are our design
(papers/taosr_agrl.md sections 5 to 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.policy_terms import outcome_credit
from goodrate.learning.records import Reward, Rollout
from goodrate.learning.rewards import RuleWeights, rule_aware_reward
from goodrate.learning.rollout_method import Method, TokenizedPrompt
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.guided_replay import GuidedReplay, ReplaySettings, guided_masks, guided_terms
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_steps import attribute_f1, category_right
from goodrate.recipes.label_grader import LabelGrader
from goodrate.relevance.rationale import Parsed
from goodrate.relevance.rule_map import deciding_rules

NAN = float("nan")


class Settings(PolicySettings):
    """How to train which judge with rule-aware rewards and guided replay."""

    judge: str = Field(description="judge folder to start from; it is also the reference")
    weights: RuleWeights | None = Field(
        default=RuleWeights(), description="of the reward's parts; null = the label only"
    )
    replay: ReplaySettings | None = Field(default_factory=ReplaySettings, description="null = no guided replay")
    spread_floor: float = Field(default=0.1, ge=0, description="rewards of a group are divided by at least this")
    advantage_clamp: float = Field(default=2.0, gt=0)


@dataclass(frozen=True)
class RuleGrader:
    """Rule-aware rewards: the gated sum of label, category, attributes and rule; the label alone without weights.

    prompts: by example_id, with the true steps that are known.
    """

    labels: LabelGrader
    prompts: Mapping[str, JudgePrompt]
    weights: RuleWeights | None

    def parse(self, completion: Any) -> Parsed | None:
        """As the label's grader reads it."""
        return self.labels.parse(completion)

    def correct(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Tensor:
        """The label's."""
        return self.labels.correct(rollout, prompts)

    def grade(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        """The gated sum of the parts."""
        label = self.labels.grade(rollout, prompts)
        if self.weights is None:
            return label
        known = [self.prompts[prompts[group].example_id] for group in rollout.group.tolist()]
        scores = [self._scores(parsed, prompt) for parsed, prompt in zip(rollout.parsed, known, strict=True)]
        category, attributes, rule, breaks = torch.tensor(scores).unbind(1)
        well_formed = torch.tensor([parsed is not None and parsed.status == "ok" for parsed in rollout.parsed])
        return rule_aware_reward(
            label, category, attributes, rule,
            well_formed=well_formed, breaks_rule=breaks == 1, weights=self.weights,
        )  # fmt: skip

    def _scores(self, parsed: Parsed | None, prompt: JudgePrompt) -> tuple[float, float, float, float]:
        """Category, attributes, rule in 0..1 (NaN: no truth); 1 where the label is above what the steps allow."""
        if parsed is None or parsed.rationale is None or parsed.label is None:
            return 0.0, 0.0, 0.0, 0.0
        rationale, book, scale = parsed.rationale, self.labels.book, self.labels.judge_format.relevance_scale
        deciding = deciding_rules(book, rationale)
        allowed = [scale.index(rule.label) for rule in book.rules if rule.id in deciding]
        has_label = self.labels.rule_labels.get(rationale.rule) == parsed.label
        follows = rationale.rule in deciding and has_label if deciding else NAN
        positive = scale.is_positive
        breaks = bool(allowed) and bool(positive[parsed.label]) and not any(positive[label] for label in allowed)
        return category_right(parsed, prompt), attribute_f1(parsed, prompt), float(follows), float(breaks)

    def weakest(self, reward: Reward, rows: Tensor) -> str:
        """The part of the reward that the group does worst at, category without weights."""
        if self.weights is None:
            return "category"
        most = {name: getattr(self.weights, name) for name in ("category", "attributes", "rule")}
        return min(most, key=lambda name: float(reward.parts[name][rows].mean()) / max(most[name], 1e-9))


def guided_method(
    settings: Settings, prompts: Mapping[str, JudgePrompt], model: CausalLM, labels: LabelGrader
) -> Method:
    """Rule-aware rewards; stuck prompts are asked again with a hint. prompts: by example_id."""
    grader = RuleGrader(replace(labels, refuses_hints=True), prompts, settings.weights)
    template, replay = labels.judge_format.template, settings.replay

    def credit(rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """Advantages over plain and guided rollouts together."""
        outcome = outcome_credit(rollout, reward, clamp=settings.advantage_clamp, floor=settings.spread_floor)
        return {**outcome, **guided_masks(rollout)}

    return Method(
        grader, credit,
        guided_terms(settings.loss, replay, on_policy=settings.rollouts.on_policy),
        grader.labels.facts,
        replay=GuidedReplay(replay, model, template, prompts, grader) if replay else None,
    )  # fmt: skip


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""
    by_id = {prompt.example_id: prompt for prompt in prompts}

    def method(model: CausalLM, labels: LabelGrader) -> Method:
        return guided_method(settings, by_id, model, labels)

    return train_policy(settings, settings.judge, method, prompts, out, progress)
