"""Rule-aware rewards and adaptive guided replay for a judge (TaoSR-AGRL, arXiv 2510.08048).

What is the paper's: dense rewards for steps and rules instead of the label alone, and ground-truth guidance for prompts
whose rollouts go wrong. Weights, gates, the hint ladder and the off-policy treatment are our design
(papers/taosr_agrl.md sections 5 to 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.records import Reward, Rollout, Term
from goodrate.learning.rewards import RuleWeights, rule_aware_reward
from goodrate.learning.rollout_method import PolicyExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.guided_replay import GuidedReplay, ReplayedRollouts, ReplaySettings, guided_masks, guided_terms
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_steps import KnownPrompt, attribute_f1, category_right
from goodrate.relevance.rationale import Parsed
from goodrate.relevance.rule_map import deciding_rules
from goodrate.scale import get_scale

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
class GuidedRollouts(ReplayedRollouts):
    """Rule-aware rewards; stuck prompts are asked again with a hint."""

    settings: Settings
    known: dict[str, KnownPrompt]

    def grade(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Reward:
        """The gated sum of label, category, attributes and rule; the label alone without weights."""
        label = super().grade(rollout, examples)
        if self.settings.weights is None:
            return label
        said = rollout.parsed
        known = [self.known[examples[group].example_id] for group in rollout.group.tolist()]
        parts = [self._parts(p, prompt) for p, prompt in zip(said, known, strict=True)]
        category, attributes, rule, breaks = torch.tensor(parts).unbind(1)
        well = torch.tensor([p is not None and p.status == "ok" for p in said])
        return rule_aware_reward(
            label, category, attributes, rule,
            well_formed=well, breaks_rule=breaks == 1, weights=self.settings.weights,
        )  # fmt: skip

    def _parts(self, said: Parsed | None, known: KnownPrompt) -> tuple[float, float, float, float]:
        """Category, attributes, rule in 0..1 (NaN: no truth); 1 where the label is above what the steps allow."""
        if said is None or said.rationale is None or said.label is None:
            return 0.0, 0.0, 0.0, 0.0
        r, scale = said.rationale, get_scale(self.judge_format.scale)
        may = deciding_rules(self.book, r)
        labels = [scale.index(rule.label) for rule in self.book.rules if rule.id in may]
        follows = r.rule in may and self.rule_labels.get(r.rule) == said.label if may else NAN
        positive = scale.is_positive
        breaks = bool(labels) and bool(positive[said.label]) and not any(positive[label] for label in labels)
        return category_right(said, known), attribute_f1(said, known), float(follows), float(breaks)

    def weakest(self, reward: Reward, rows: Tensor) -> str:
        """The part of the reward that the group does worst at, category without parts."""
        weights = self.settings.weights
        if weights is None:
            return "category"
        most = {"category": weights.category, "attributes": weights.attributes, "rule": weights.rule}
        return min(most, key=lambda name: float(reward.parts[name][rows].mean()) / max(most[name], 1e-9))

    def credit(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """Advantages over plain and guided rollouts together."""
        s = self.settings
        a = group_relative(
            reward.outcome, rollout.group, scale="population", floor=s.spread_floor, clamp=s.advantage_clamp
        )
        assert rollout.behaviour_logprobs is not None
        return {
            "mask": rollout.mask, "advantages": to_tokens(a, rollout.mask), "behaviour": rollout.behaviour_logprobs,
            **guided_masks(rollout),
        }  # fmt: skip

    def terms(self) -> tuple[Sequence[Term], Sequence[Term]]:
        """GRPO, with what guided rollouts add."""
        s = self.settings
        return guided_terms(s.loss, s.replay, on_policy=s.rollouts.inner_steps == 1)


def train(
    settings: Settings,
    prompts: Sequence[KnownPrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""
    known = {prompt.example_id: prompt for prompt in prompts}

    def method(model: CausalLM, form: JudgeFormat, rules: dict[str, int]) -> GuidedRollouts:
        replay = GuidedReplay(settings.replay, model, form.template, known) if settings.replay else None
        return GuidedRollouts(form, rules, replay, settings, known, label_needs=settings.label_needs)

    return train_policy(settings, settings.judge, method, prompts, out, progress)
