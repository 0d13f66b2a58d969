"""What a judge's rollouts say and the reward of the label, for every recipe that trains a judge on its own words."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.preferences import PreferencePair, preference_pairs
from goodrate.learning.records import Prompts, Reward, Rollout
from goodrate.learning.rewards import UNPARSED, label_reward
from goodrate.learning.rollout import Sampling, sample
from goodrate.learning.rollout_method import PlainSampling, PolicyExample
from goodrate.learning.source import seed_of
from goodrate.models.causal_lm import CausalLM, Completion
from goodrate.recipes.judge_folder import JudgeFormat, label_token_ids, open_judge, stop_token_id
from goodrate.relevance.rationale import Parsed, contradicts, parse
from goodrate.relevance.rule_map import COLUMNS, deciding_rules, derives
from goodrate.relevance.rulebook import RuleBook
from goodrate.scale import get_scale


@dataclass(frozen=True)
class LabelledPrompt:
    """The two parts of a judge's prompt and the gold label position."""

    example_id: str
    prefix: str
    suffix: str
    label: int

    @property
    def served(self) -> tuple[str, str]:
        """The prompt that the trained judge will be asked with."""
        return self.prefix, self.suffix


def policy_examples(model: CausalLM, prompts: Sequence[LabelledPrompt], room: int) -> list[PolicyExample]:
    """Prompts as token ids; ValueError naming the first that leaves less than `room` tokens for its completion."""
    examples = []
    for prompt in prompts:
        ids = model.encode_pair(prompt.prefix, prompt.suffix)
        if model.max_length is not None and len(ids) + room > model.max_length:
            raise ValueError(f"{prompt.example_id}: {len(ids)} tokens leave no room for {room} of {model.max_length}")
        examples.append(PolicyExample(prompt.example_id, tuple(ids), prompt.label))
    return examples


def unsure(
    model: CausalLM, prompts: Sequence[LabelledPrompt], judge_format: JudgeFormat, below: float
) -> list[LabelledPrompt]:
    """The prompts whose likeliest label has a probability under `below`: the pool that sampling does not waste time on.

    Each is asked as it will be in serving, with its retrieved text where it has one; one forward pass tells. Pools
    under 0.7 are those of DyKnow-RAG (arXiv 2510.11122). below = 1: all.
    Raises ValueError for a reason-first judge, whose label is not its first token, and when no prompt is left.
    """
    if below >= 1:
        return list(prompts)
    if judge_format.order != "label_first":
        raise ValueError("pool_confidence needs a label-first judge: only its first token is the label")
    logits = model.label_logits([p.served for p in prompts], label_token_ids(model, judge_format.scale))
    sure = torch.from_numpy(logits).softmax(1).amax(1)
    chosen = [prompt for prompt, most in zip(prompts, sure.tolist(), strict=True) if most < below]
    if not chosen:
        raise ValueError(f"pool_confidence = {below}: the judge is surer of every one of {len(prompts)} prompts")
    return chosen


LabelNeeds = Literal["nothing", "readable", "consistent", "derived"]


@dataclass(frozen=True)
class JudgeRollouts(PlainSampling):
    """Parsing, the label reward and the figures of a judge's rollouts.

    rule_labels: label position by rule id, to see a label that contradicts its own steps; empty = cannot be told.
    label_needs: what a right label needs, beside being right, to earn anything.
    """

    judge_format: JudgeFormat
    rule_labels: dict[str, int]
    label_needs: LabelNeeds = field(default="nothing", kw_only=True)

    def __post_init__(self) -> None:
        """Raises ValueError where the judge's rule book cannot give the label what it needs."""
        if self.label_needs in ("consistent", "derived") and not self.rule_labels:
            raise ValueError(f"label_needs = {self.label_needs!r}: the judge cites no rule book")
        if self.label_needs == "derived" and not derives(self.book):
            told = f"{', '.join(self.book.columns)}; expected {', '.join(sorted(COLUMNS))}"
            raise ValueError(f"label_needs = 'derived': the rule book has the columns {told}. Ask for 'consistent'")

    def parse(self, completion: Completion) -> Parsed | None:
        """The completion read back; None when it was cut off. A label without readable steps is still a label."""
        if completion.finish_reason != "stop":
            return None
        return parse(completion.text, self.judge_format.order, self.num_labels)

    @property
    def num_labels(self) -> int:
        """How many labels the scale has."""
        return len(get_scale(self.judge_format.scale))

    def predicted(self, rollout: Rollout) -> Tensor:
        """Label positions (N,), UNPARSED where there is none."""
        labels = [UNPARSED if p is None or p.label is None else p.label for p in rollout.parsed]
        inside = [label if 0 <= label < self.num_labels else UNPARSED for label in labels]
        return torch.tensor(inside)

    def correct(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Tensor:
        """Whether the label is right and has what it needs (N,), whatever else a method rewards."""
        return self._label_reward(rollout, examples).correct

    def grade(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Reward:
        """1 for the gold label with what it needs, 0 for another, and 0 as a failure without one."""
        return self._label_reward(rollout, examples)

    def _founded(self, said: Parsed | None) -> bool:
        """Whether the steps carry the label as far as label_needs asks."""
        if said is None or said.status != "ok":
            return False
        if self.label_needs == "readable":
            return True
        if said.rationale is None or contradicts(said, self.rule_labels) is not False:
            return False
        return self.label_needs == "consistent" or said.rationale.rule in deciding_rules(self.book, said.rationale)

    @functools.cached_property
    def book(self) -> RuleBook:
        """The rule book that the judge cites."""
        return self.judge_format.book()

    def _label_reward(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Reward:
        gold = torch.tensor([example.label for example in examples])[rollout.group]
        label = label_reward(self.predicted(rollout), gold)
        if self.label_needs == "nothing":
            return label
        founded = torch.tensor([self._founded(said) for said in rollout.parsed])
        return replace(label, outcome=label.outcome * founded, correct=label.correct * founded)

    def facts(self, rollout: Rollout, reward: Reward) -> dict[str, float]:
        """inconsistent: labels against their own steps. label_spread: entropy of the labels given, 0..1.

        label_margin: see _margin. paths: distinct reasonings of a group, mean over groups.
        """
        parsed: list[Any] = [p for p in rollout.parsed if p is not None]
        decided = [c for c in (contradicts(p, self.rule_labels) for p in parsed) if c is not None]
        labels = self.predicted(rollout)
        given = Counter(labels[labels >= 0].tolist())
        shares = [count / sum(given.values()) for count in given.values()]
        spread = -sum(share * math.log(share) for share in shares) / math.log(self.num_labels)
        return {
            "inconsistent": sum(decided) / len(decided) if decided else float("nan"),
            "label_spread": spread,
            "label_margin": self._margin(rollout, reward),
            "paths": self._paths(rollout),
            "unreadable_steps": sum(p.status != "ok" for p in parsed) / max(1, len(rollout.parsed)),
        }

    def _paths(self, rollout: Rollout) -> float:
        """Mean number of different reasonings in a group; 0 where nothing was readable."""
        told = zip(rollout.group.tolist(), rollout.parsed, strict=True)
        distinct = {(group, path(said)) for group, said in told if said is not None}
        return len(distinct) / len(torch.unique(rollout.group))

    def _margin(self, rollout: Rollout, reward: Reward) -> float:
        """How much likelier the label token is where it is right than where it is wrong, in nats, over all rollouts.

        NaN for a reason-first judge, whose label is not its first token, and where all are right or all are wrong.
        """
        right, wrong = reward.correct == 1, reward.correct == 0
        if self.judge_format.order != "label_first" or not right.any() or not wrong.any():
            return float("nan")
        assert rollout.behaviour_logprobs is not None
        first = rollout.behaviour_logprobs[:, 0]
        return float(first[right].mean() - first[wrong].mean())


def path(said: Parsed) -> tuple[str, ...]:
    """The way a reasoning took: its verdicts, without what it quotes of query and item."""
    return tuple(said.steps.get(step, "") for step in ("category", "checks", "verdict"))


class PairSampling(BaseModel):
    """How samples become preference pairs."""

    model_config = ConfigDict(extra="forbid")
    samples: int = Field(default=5, gt=1, description="completions per prompt (N of pass@N)")
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=96, gt=0)
    max_oracle_share: float = Field(default=0.3, ge=0, le=1, description="oracle pairs beyond this share are dropped")


def sampled(
    model: CausalLM,
    told: JudgeRollouts,
    examples: Sequence[PolicyExample],
    settings: PairSampling,
    seed: int,
    purpose: str,
) -> Rollout:
    """So many completions of every example; purpose: what for, part of the seeds."""
    how = Sampling(settings.samples, settings.temperature, settings.max_new_tokens, stop_token_id(model))
    prompts = Prompts(tuple(e.example_id for e in examples), tuple(e.token_ids for e in examples))
    seeds = [seed_of(seed, purpose, e.example_id, number) for e in examples for number in range(settings.samples)]
    return sample(model, prompts, how, seeds, told.parse)


def rolled(
    judge: str | Path, prompts: Sequence[LabelledPrompt], samples: int, seed: int, purpose: str
) -> tuple[Rollout, CausalLM]:
    """So many rollouts of a judge folder on every prompt, as they are sampled in training, and its model."""
    model, judge_format, rules = open_judge(judge)
    examples = policy_examples(model, prompts, judge_format.max_new_tokens)
    how = PairSampling(samples=samples, max_new_tokens=judge_format.max_new_tokens)
    return sampled(model, JudgeRollouts(judge_format, rules), examples, how, seed, purpose), model


def sample_pairs(
    model: CausalLM,
    told: JudgeRollouts,
    examples: Sequence[PolicyExample],
    oracle: Mapping[str, str],
    settings: PairSampling,
    seed: int,
) -> tuple[list[PreferencePair], dict[str, float]]:
    """Pairs from N samples per prompt, the counts of prompts by what became of them, and pass@1..N.

    Confidence of a sample is the probability of its first token: label-first, that of the label.
    """
    rollout, stop = sampled(model, told, examples, settings, seed, "pairs"), stop_token_id(model)
    correct = told.grade(rollout, examples).correct
    sound = torch.tensor([p is not None and contradicts(p, told.rule_labels) is False for p in rollout.parsed])
    assert rollout.behaviour_logprobs is not None

    def written(example_id: str) -> tuple[int, ...] | None:
        return (*model.encode(oracle[example_id]), stop) if example_id in oracle else None

    pairs, counts = preference_pairs(
        rollout, correct, sound, rollout.behaviour_logprobs[:, 0], written, settings.max_oracle_share
    )
    return pairs, {**counts, **pass_at(correct.view(len(examples), settings.samples))}


def pass_at(correct: Tensor) -> dict[str, float]:
    """pass@k, k = 1..N, from N samples of P prompts (P, N): unbiased, 1 - C(wrong, k) / C(N, k) (arXiv 2107.03374)."""
    num = correct.shape[1]
    wrong = (correct != 1).sum(1).tolist()

    def passed(k: int) -> float:
        return sum(1 - math.comb(w, k) / math.comb(num, k) for w in wrong) / len(wrong)

    return {f"pass@{k}": passed(k) for k in range(1, num + 1)}
