"""Guided replay: groups that go wrong are asked again with a hint, and right answers take the place of wrong ones.

Adaptive guided replay is TaoSR-AGRL's (arXiv 2510.08048): ground-truth guidance for prompts whose rollouts go wrong.
The hint ladder, the memory and the off-policy treatment are our design (papers/taosr_agrl.md sections 6 and 7).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.losses import off_policy_shaped
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms
from goodrate.learning.records import MicroBatch, Outputs, Reward, Rollout, Term
from goodrate.learning.rollout import add_rollouts, join_rewards, take, take_reward
from goodrate.learning.rollout_method import SampleGroups, TokenizedPrompt
from goodrate.learning.sampling import accuracy_by_group
from goodrate.learning.source import seed_of
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.prompts import with_hint
from goodrate.relevance.rationale import label_text

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


class HintGrader(Protocol):
    """Grades guided completions and says what a hint should be about."""

    def grade(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        """Rewards (N,) of rollouts; prompts: by group."""
        ...

    def weakest(self, reward: Reward, rows: Tensor) -> str:
        """The part of the reasoning that a group does worst at, a key of WEAK or another; rows (N,) bool."""
        ...


@dataclass
class Memory:
    """What is kept of a prompt between its visits: mean accuracy and the rung of the hint ladder."""

    accuracy: float
    level: int = 1


@dataclass(frozen=True)
class GuidedReplay:
    """Second tries of stuck prompts, and what is remembered of them. prompts: by example_id, with their true steps."""

    settings: ReplaySettings
    model: CausalLM
    template: str
    prompts: Mapping[str, JudgePrompt]
    grader: HintGrader
    memory: dict[str, Memory] = field(default_factory=dict)

    def replayed(
        self, rollout: Rollout, reward: Reward, prompts: Sequence[TokenizedPrompt], sample_groups: SampleGroups,
        number: int,
    ) -> tuple[Rollout, Reward, Mapping[str, int]]:  # fmt: skip
        """Stuck groups are asked again with a hint."""
        stuck = self.stuck(prompts, accuracy_by_group(reward.correct, rollout.group).tolist(), number)
        if not stuck:
            return rollout, reward, {"stuck": 0, "rescued": 0, "guided": 0}
        asked = [prompts[group] for group in stuck]
        weakest = [self.grader.weakest(reward, rollout.group == group) for group in stuck]
        hinted = [self.hinted(p.example_id, weak) for p, weak in zip(asked, weakest, strict=True)]
        guided = sample_groups(asked, hinted, size=self.settings.samples, view="hint", arm=1)
        return self.joined(rollout, reward, guided, self.grader.grade(guided, asked), stuck, prompts, number)

    def stuck(self, prompts: Sequence[TokenizedPrompt], accuracies: Sequence[float], number: int) -> list[int]:
        """Groups that go wrong now and went wrong before, the worst ones first, up to the cap."""
        s, candidates = self.settings, []
        for group, (prompt, accuracy) in enumerate(zip(prompts, accuracies, strict=True)):
            before = self.memory.get(prompt.example_id)
            mean = accuracy if before is None else s.decay * before.accuracy + (1 - s.decay) * accuracy
            self.memory[prompt.example_id] = Memory(mean, before.level if before else 1)
            if accuracy <= s.accuracy and mean <= s.accuracy and number >= s.warmup:
                candidates.append((mean, group))
        return [group for _, group in sorted(candidates)[: int(s.share * len(prompts))]]

    def hinted(self, example_id: str, weakest: str) -> tuple[int, ...]:
        """The prompt with the hint of the rung that this prompt stands on."""
        prompt = self.prompts[example_id]
        level = self.settings.fixed_level or self.memory[example_id].level
        suffix = with_hint(prompt.suffix, hint(prompt, level, weakest), self.template)
        return tuple(self.model.encode_pair(prompt.prefix, suffix))

    def climb(self, example_id: str, helped: bool) -> None:
        """A weaker hint next time after success, a stronger one after failure."""
        memory = self.memory[example_id]
        memory.level = max(1, memory.level - 1) if helped else min(LADDER, memory.level + 1)

    def joined(
        self, rollout: Rollout, reward: Reward, guided: Rollout, guided_reward: Reward, stuck: Sequence[int],
        prompts: Sequence[TokenizedPrompt], number: int,
    ) -> tuple[Rollout, Reward, dict[str, int]]:  # fmt: skip
        """Right guided rollouts in the place of wrong plain ones; half of a group stays plain. guided: by place."""
        good = (guided_reward.correct == 1) & (guided_reward.outcome > 0)
        dropped = torch.zeros_like(rollout.group, dtype=torch.bool)
        for place, group in enumerate(stuck):
            mine, wrong = good & (guided.group == place), (rollout.group == group) & (reward.correct != 1)
            count = min(int(mine.sum()), int((rollout.group == group).sum()) // 2)
            good &= ~mine | (mine.cumsum(0) <= count)
            rows = wrong.nonzero()[:, 0].tolist()
            random.Random(seed_of(number, prompts[group].example_id)).shuffle(rows)
            dropped[rows[:count]] = True
            self.climb(prompts[group].example_id, bool(count))
        as_sampled = self.settings.treatment == "hinted"
        both = add_rollouts(take(rollout, ~dropped), take(guided, good), torch.tensor(stuck), as_sampled)
        rewards = join_rewards([take_reward(reward, ~dropped), take_reward(guided_reward, good)])
        rescued = len(torch.unique(guided.group[good]))
        return both, rewards, {"stuck": len(stuck), "rescued": rescued, "guided": int(good.sum())}

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of the prompts."""
        return {name: (memory.accuracy, memory.level) for name, memory in self.memory.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.memory.clear()
        self.memory.update({name: Memory(*stored) for name, stored in state.items()})


def guided_masks(rollout: Rollout) -> dict[str, Tensor]:
    """Plain tokens, guided tokens (N, T), and which rows are guided (N,): what the terms of guided_terms read."""
    guided = (rollout.arm == 1)[:, None] & rollout.mask
    return {"plain_tokens": rollout.mask & ~guided, "guided_tokens": guided, "first_guided": guided[:, 0]}


def guided_terms(
    loss: PolicyTermSettings, guidance: ReplaySettings | None, *, on_policy: bool, steps: str | None = None
) -> tuple[Sequence[Term], Sequence[Term]]:
    """GRPO on plain rollouts, guided ones by how likely they are without the hint; one mean over both.

    Those of policy_terms where guidance is None.
    """
    (policy, *rest), diagnostics = policy_terms(loss, on_policy=on_policy, steps=steps)
    if guidance is None:
        return [policy, *rest], diagnostics
    off = replace(policy, name="guided", mask="guided_tokens", denominator="union")
    if guidance.treatment == "shaped":
        off = replace(off, loss=_shaped, weight=guidance.scale)
    elif guidance.treatment == "ratio":
        (ratio, *_), _ = policy_terms(loss, on_policy=False)
        off = replace(off, loss=ratio.loss)
    rho = Term("guided_ratio", _first_ratio, "first_guided", "mean")
    plain = replace(policy, mask="plain_tokens", denominator="union")
    return [plain, off, *rest], [*diagnostics, rho]


def hint(prompt: JudgePrompt, level: int, weakest: str) -> str:
    """H1 the deciding rule, H2 with the weakest step's truth, H3 with all steps, H4 with the label.

    A prompt without stored steps has no hint but its label.
    """
    level = level if prompt.steps else LADDER
    rule = prompt.steps.get("verdict", "").partition(" ")[2]
    clauses = [f"rule {rule}"] if rule else []
    if level == 2:
        clauses += [line for step, line in prompt.steps.items() if step == WEAK.get(weakest)]
    if level >= 3:
        clauses += [line for step, line in prompt.steps.items() if step != "verdict"]
    return " . ".join([*clauses, *([f"label {label_text(prompt.label)}"] if level == LADDER else [])])


def _shaped(outputs: Outputs, batch: MicroBatch) -> Tensor:
    return off_policy_shaped(outputs["plain"], batch["behaviour"], batch["advantages"])


def _first_ratio(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Probability of the first token under the plain prompt over that under the hint: the label-first trap at work."""
    return torch.exp(outputs["plain"][:, 0] - batch["behaviour"][:, 0])
