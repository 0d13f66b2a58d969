"""Rule-aware rewards and adaptive guided replay for a judge (TaoSR-AGRL, arXiv 2510.08048).

What is the paper's: dense rewards for steps and rules instead of the label alone, and ground-truth guidance for prompts
whose rollouts go wrong. Weights, gates, the hint ladder and the off-policy treatment are our design
(papers/taosr_agrl.md sections 5 to 7).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.losses import off_policy_shaped
from goodrate.learning.policy_terms import policy_terms
from goodrate.learning.records import MicroBatch, Outputs, Reward, Rollout, Term
from goodrate.learning.rewards import RuleWeights, rule_aware_reward
from goodrate.learning.rollout import add_rollouts, join_rewards, take, take_reward
from goodrate.learning.rollout_method import Ask, PolicyExample
from goodrate.learning.sampling import accuracy_by_group
from goodrate.learning.source import seed_of
from goodrate.models.causal_lm import CausalLM, Completion
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.judge_policy import PolicySettings, train_policy
from goodrate.recipes.judge_rollouts import JudgeRollouts
from goodrate.recipes.judge_steps import KnownPrompt, attribute_f1, category_right
from goodrate.relevance.prompts import with_hint
from goodrate.relevance.rationale import Parsed, label_text
from goodrate.relevance.rule_map import deciding_rules
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.scale import get_scale

NAN = float("nan")
LADDER = 4  # rule; the weakest step's truth; all steps; the label
WEAK = {"category": "category", "attributes": "checks"}  # the step behind a part of the reward; the rule is said anyway


class ReplaySettings(BaseModel):
    """When and how stuck prompts get a hint."""

    model_config = ConfigDict(extra="forbid")
    accuracy: float = Field(default=0.125, ge=0, lt=1, description="a group at or under this is stuck")
    warmup: int = Field(default=5, ge=0, description="updates without guidance")
    samples: int = Field(default=4, gt=0, description="guided completions of a stuck prompt")
    share: float = Field(default=0.25, ge=0, le=1, description="of the sampled prompts, at most these get guidance")
    decay: float = Field(default=0.5, ge=0, lt=1, description="of a prompt's mean accuracy over its visits")
    fixed_level: int | None = Field(default=None, ge=1, le=LADDER, description="always this hint; null = the ladder")
    treatment: Literal["shaped", "ratio", "hinted"] = Field(
        default="shaped",
        description="of guided tokens: rho / (rho + 0.1), the clipped ratio rho, or learned under the hint itself",
    )
    scale: float = Field(default=4.0, gt=0, description="weight of guided tokens under the shaped treatment")


class Settings(PolicySettings):
    """How to train which judge with rule-aware rewards and guided replay."""

    judge: str = Field(description="judge folder to start from; it is also the reference")
    weights: RuleWeights | None = Field(
        default=RuleWeights(), description="of the reward's parts; null = the label only"
    )
    replay: ReplaySettings | None = Field(default_factory=ReplaySettings, description="null = no guided replay")
    spread_floor: float = Field(default=0.1, ge=0, description="rewards of a group are divided by at least this")
    advantage_clamp: float = Field(default=2.0, gt=0)


@dataclass
class Memory:
    """What is kept of a prompt between its visits: mean accuracy and the rung of the hint ladder."""

    accuracy: float
    level: int = 1


@dataclass(frozen=True)
class GuidedRollouts(JudgeRollouts):
    """Rule-aware rewards; stuck prompts are asked again with a hint."""

    settings: Settings
    model: CausalLM
    known: dict[str, KnownPrompt]
    book: RuleBook
    memory: dict[str, Memory] = field(default_factory=dict)

    def parse(self, completion: Completion) -> Parsed | None:
        """As ever; a completion that speaks of its hint is unreadable, for there is none when the judge is served."""
        said = super().parse(completion)
        return replace(said, status="leaked_hint", rationale=None) if said and "hint" in completion.text else said

    def grade(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Reward:
        """The gated sum of label, category, attributes and rule; the label alone without weights."""
        label = super().grade(rollout, examples)
        said = rollout.parsed
        well = torch.tensor([p is not None and p.status == "ok" for p in said])
        if self.settings.weights is None:
            return replace(
                label, outcome=label.outcome * torch.tensor([p is None or p.status != "leaked_hint" for p in said])
            )
        known = [self.known[examples[group].example_id] for group in rollout.group.tolist()]
        parts = [self._parts(p, prompt) for p, prompt in zip(said, known, strict=True)]
        category, attributes, rule, breaks = torch.tensor(parts).unbind(1)
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

    def replayed(
        self, rollout: Rollout, reward: Reward, examples: Sequence[PolicyExample], ask: Ask, number: int
    ) -> tuple[Rollout, Reward, Mapping[str, int]]:
        """Right guided completions take the place of wrong plain ones in stuck groups; half of a group stays plain."""
        s = self.settings.replay
        if s is None:
            return rollout, reward, {}
        stuck = self._stuck(s, examples, accuracy_by_group(reward.correct, rollout.group).tolist(), number)
        if not stuck:
            return rollout, reward, {"stuck": 0, "rescued": 0, "guided": 0}
        hinted = [self._hinted(examples[g].example_id, self._weakest(reward, rollout.group == g)) for g in stuck]
        asked = [examples[g] for g in stuck]
        guided = ask(asked, hinted, size=s.samples, view="hint", arm=1)
        graded = self.grade(guided, asked)
        good = (graded.correct == 1) & (graded.outcome > 0)
        dropped = torch.zeros_like(rollout.group, dtype=torch.bool)
        for place, group in enumerate(stuck):
            mine, wrong = good & (guided.group == place), (rollout.group == group) & (reward.correct != 1)
            count = min(int(mine.sum()), int((rollout.group == group).sum()) // 2)
            good &= ~mine | (mine.cumsum(0) <= count)
            rows = wrong.nonzero()[:, 0].tolist()
            random.Random(seed_of(number, examples[group].example_id)).shuffle(rows)
            dropped[rows[:count]] = True
            self._climb(examples[group].example_id, bool(count))
        as_sampled = s.treatment == "hinted"
        joined = add_rollouts(take(rollout, ~dropped), take(guided, good), torch.tensor(stuck), as_sampled)
        rewards = join_rewards([take_reward(reward, ~dropped), take_reward(graded, good)])
        rescued = len(torch.unique(guided.group[good]))
        return joined, rewards, {"stuck": len(stuck), "rescued": rescued, "guided": int(good.sum())}

    def _stuck(
        self, s: ReplaySettings, examples: Sequence[PolicyExample], accuracies: Sequence[float], number: int
    ) -> list[int]:
        """Groups that go wrong now and went wrong before, the worst ones first, up to the cap."""
        found = []
        for group, (example, accuracy) in enumerate(zip(examples, accuracies, strict=True)):
            before = self.memory.get(example.example_id)
            mean = accuracy if before is None else s.decay * before.accuracy + (1 - s.decay) * accuracy
            self.memory[example.example_id] = Memory(mean, before.level if before else 1)
            if accuracy <= s.accuracy and mean <= s.accuracy and number >= s.warmup:
                found.append((mean, group))
        return [group for _, group in sorted(found)[: int(s.share * len(examples))]]

    def _weakest(self, reward: Reward, rows: Tensor) -> str:
        """The part of the reward that the group does worst at, category without parts."""
        weights = self.settings.weights
        if weights is None:
            return "category"
        most = {"category": weights.category, "attributes": weights.attributes, "rule": weights.rule}
        return min(most, key=lambda name: float(reward.parts[name][rows].mean()) / max(most[name], 1e-9))

    def _hinted(self, example_id: str, weakest: str) -> tuple[int, ...]:
        """The prompt with the hint of the rung that this prompt stands on."""
        known, s = self.known[example_id], self.settings.replay
        assert s is not None
        level = s.fixed_level or self.memory[example_id].level
        text = hint(known, level, weakest)
        suffix = with_hint(known.suffix, text, self.judge_format.template)
        return tuple(self.model.encode_pair(known.prefix, suffix))

    def _climb(self, example_id: str, helped: bool) -> None:
        """A weaker hint next time after success, a stronger one after failure."""
        kept = self.memory[example_id]
        kept.level = max(1, kept.level - 1) if helped else min(LADDER, kept.level + 1)

    def credit(self, rollout: Rollout, reward: Reward) -> dict[str, Tensor]:
        """Advantages over plain and guided rollouts together."""
        s = self.settings
        a = group_relative(
            reward.outcome, rollout.group, scale="population", floor=s.spread_floor, clamp=s.advantage_clamp
        )
        assert rollout.behaviour_logprobs is not None
        guided = (rollout.arm == 1)[:, None] & rollout.mask
        return {
            "mask": rollout.mask, "plain_tokens": rollout.mask & ~guided, "guided_tokens": guided,
            "first_guided": guided[:, 0], "advantages": to_tokens(a, rollout.mask),
            "behaviour": rollout.behaviour_logprobs,
        }  # fmt: skip

    def terms(self) -> tuple[Sequence[Term], Sequence[Term]]:
        """GRPO on plain rollouts, guided ones by how likely they are without the hint; one mean over both."""
        s = self.settings
        (policy, *rest), diagnostics = policy_terms(s.loss, on_policy=s.rollouts.inner_steps == 1)
        if s.replay is None:
            return [policy, *rest], diagnostics
        off = replace(policy, name="guided", mask="guided_tokens", denominator="union")
        if s.replay.treatment == "shaped":
            off = replace(off, loss=_shaped, weight=s.replay.scale)
        elif s.replay.treatment == "ratio":
            (ratio, *_), _ = policy_terms(s.loss, on_policy=False)
            off = replace(off, loss=ratio.loss)
        rho = Term("guided_ratio", _first_ratio, "first_guided", "mean")
        return [replace(policy, mask="plain_tokens", denominator="union"), off, *rest], [*diagnostics, rho]

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of the prompts."""
        return {name: (kept.accuracy, kept.level) for name, kept in self.memory.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.memory.clear()
        self.memory.update({name: Memory(*kept) for name, kept in state.items()})


def hint(known: KnownPrompt, level: int, weakest: str) -> str:
    """H1 the deciding rule, H2 with the weakest step's truth, H3 with all steps, H4 with the label.

    A prompt without stored steps has no hint but its label.
    """
    level = level if known.steps else LADDER
    rule = known.steps.get("verdict", "").partition(" ")[2]
    parts = [f"rule {rule}"] if rule else []
    if level == 2:
        parts += [line for step, line in known.steps.items() if step == WEAK.get(weakest)]
    if level >= 3:
        parts += [line for step, line in known.steps.items() if step != "verdict"]
    return " . ".join([*parts, *([f"label {label_text(known.label)}"] if level == LADDER else [])])


def _shaped(outputs: Outputs, batch: MicroBatch) -> Tensor:
    return off_policy_shaped(outputs["plain"], batch["behaviour"], batch["advantages"])


def _first_ratio(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Probability of the first token under the plain prompt over that under the hint: the label-first trap at work."""
    return torch.exp(outputs["plain"][:, 0] - batch["behaviour"][:, 0])


def train(
    settings: Settings,
    prompts: Sequence[KnownPrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes from `out`. Raises Collapsed."""
    known = {prompt.example_id: prompt for prompt in prompts}

    def method(model: CausalLM, form: JudgeFormat, rules: dict[str, int]) -> GuidedRollouts:
        return GuidedRollouts(form, rules, settings, model, known, load_rulebook(form.rule_book or DEFAULT_RULES))

    return train_policy(settings, settings.judge, method, prompts, out, progress)
