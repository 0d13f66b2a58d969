"""The label's reward of a judge's rollouts, and what its steps must do for it: what every judge method grades by."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from goodrate.learning.records import Reward, Rollout
from goodrate.learning.rewards import UNPARSED, label_reward
from goodrate.learning.rollout_method import TokenizedPrompt
from goodrate.models.causal_lm import Completion
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.rationale import Parsed, contradicts, parse
from goodrate.relevance.rule_map import COLUMNS, deciding_rules, derives
from goodrate.relevance.rulebook import RuleBook

LabelNeeds = Literal["nothing", "readable", "consistent", "derived"]
LEAKED = "leaked_hint"


@dataclass(frozen=True)
class LabelGrader:
    """Reads a judge's completions and rewards the label.

    rule_labels: label position by rule id, to see a label that contradicts its own steps; empty = cannot be told.
    label_needs: what a right label needs, beside being right, to earn anything. refuses_hints: a completion that
    speaks of a hint is unreadable and earns nothing, for there is none when the judge is served.
    """

    judge_format: JudgeFormat
    rule_labels: dict[str, int]
    label_needs: LabelNeeds = field(default="nothing", kw_only=True)
    refuses_hints: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Raises ValueError where the judge's rule book cannot give the label what it needs."""
        if self.label_needs in ("consistent", "derived") and not self.rule_labels:
            raise ValueError(f"label_needs = {self.label_needs!r}: the judge cites no rule book")
        if self.label_needs == "derived" and not derives(self.book):
            columns = f"{', '.join(self.book.columns)}; expected {', '.join(sorted(COLUMNS))}"
            raise ValueError(f"label_needs = 'derived': the rule book has the columns {columns}. Ask for 'consistent'")

    @functools.cached_property
    def book(self) -> RuleBook:
        """The rule book that the judge cites."""
        return self.judge_format.book()

    @property
    def num_labels(self) -> int:
        """How many labels the scale has."""
        return len(self.judge_format.relevance_scale)

    def parse(self, completion: Completion) -> Parsed | None:
        """The completion read back; None when it was cut off. A label without readable steps is still a label."""
        if completion.finish_reason != "stop":
            return None
        parsed = parse(completion.text, self.judge_format.order, self.num_labels)
        if parsed and self.refuses_hints and "hint" in completion.text:
            return replace(parsed, status=LEAKED, rationale=None)
        return parsed

    def predicted(self, rollout: Rollout) -> Tensor:
        """Label positions (N,), UNPARSED where there is none."""
        labels = [UNPARSED if p is None or p.label is None else p.label for p in rollout.parsed]
        inside = [label if 0 <= label < self.num_labels else UNPARSED for label in labels]
        return torch.tensor(inside)

    def correct(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Tensor:
        """Whether the label is right and has what it needs (N,), whatever else a method rewards."""
        return self._label_reward(rollout, prompts).correct

    def grade(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        """1 for the gold label with what it needs, 0 for another, and 0 as a failure without one."""
        label = self._label_reward(rollout, prompts)
        clean = torch.tensor([parsed is None or parsed.status != LEAKED for parsed in rollout.parsed])
        return replace(label, outcome=label.outcome * clean)

    def _label_reward(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        gold = torch.tensor([prompt.label for prompt in prompts])[rollout.group]
        label = label_reward(self.predicted(rollout), gold)
        if self.label_needs == "nothing":
            return label
        founded = torch.tensor([self._founded(parsed) for parsed in rollout.parsed])
        return replace(label, outcome=label.outcome * founded, correct=label.correct * founded)

    def _founded(self, parsed: Parsed | None) -> bool:
        """Whether the steps carry the label as far as label_needs asks."""
        if parsed is None or parsed.status != "ok":
            return False
        if self.label_needs == "readable":
            return True
        if parsed.rationale is None or contradicts(parsed, self.rule_labels) is not False:
            return False
        return self.label_needs == "consistent" or parsed.rationale.rule in deciding_rules(self.book, parsed.rationale)

    def facts(self, rollout: Rollout, reward: Reward) -> dict[str, float]:
        """inconsistent: labels against their own steps. label_spread: entropy of the labels given, 0..1.

        label_margin: see label_margin. paths: see distinct_paths.
        """
        parsed: list[Any] = [p for p in rollout.parsed if p is not None]
        decided = [c for c in (contradicts(p, self.rule_labels) for p in parsed) if c is not None]
        labels = self.predicted(rollout)
        given = Counter(labels[labels >= 0].tolist())
        shares = [count / sum(given.values()) for count in given.values()]
        spread = -sum(share * math.log(share) for share in shares) / math.log(self.num_labels)
        label_first = self.judge_format.order == "label_first"
        return {
            "inconsistent": sum(decided) / len(decided) if decided else float("nan"),
            "label_spread": spread,
            "label_margin": label_margin(rollout, reward) if label_first else float("nan"),
            "paths": distinct_paths(rollout),
            "unreadable_steps": sum(p.status != "ok" for p in parsed) / max(1, len(rollout.parsed)),
        }


def label_margin(rollout: Rollout, reward: Reward) -> float:
    """How much likelier the label token is where it is right than where it is wrong, in nats, over all rollouts.

    Of a label-first judge, whose first token is the label. NaN where all are right or all are wrong.
    """
    right, wrong = reward.correct == 1, reward.correct == 0
    if not right.any() or not wrong.any():
        return float("nan")
    assert rollout.behaviour_logprobs is not None
    first = rollout.behaviour_logprobs[:, 0]
    return float(first[right].mean() - first[wrong].mean())


def distinct_paths(rollout: Rollout) -> float:
    """Mean number of different reasonings in a group; 0 where nothing was readable."""
    parsed_by_group = zip(rollout.group.tolist(), rollout.parsed, strict=True)
    distinct = {(group, reasoning_path(parsed)) for group, parsed in parsed_by_group if parsed is not None}
    return len(distinct) / len(torch.unique(rollout.group))


def reasoning_path(parsed: Parsed) -> tuple[str, ...]:
    """The way a reasoning took: its verdicts, without what it quotes of query and item."""
    return tuple(parsed.steps.get(step, "") for step in ("category", "checks", "verdict"))
