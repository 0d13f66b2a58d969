"""Judges whose steps can be checked: true steps beside a prompt, and what a rollout's own steps are worth."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from goodrate.learning.records import Rollout
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_rollouts import LabelledPrompt
from goodrate.relevance.rationale import LABEL_LINE, STEPS, Parsed

CREDITED = (*STEPS, "label")  # the steps that carry credit, in the order of their index
NAN = float("nan")


@dataclass(frozen=True)
class KnownPrompt(LabelledPrompt):
    """A prompt with the true lines of the steps that somebody verified, by step name; none need be there."""

    steps: Mapping[str, str] = field(default_factory=dict)


def verified_steps(said: Parsed | None, known: KnownPrompt, covered: Sequence[str]) -> list[float]:
    """1 or 0 for every step of CREDITED against the stored line, NaN where none is stored; the label always has one."""
    if said is None:
        return [NAN] * len(CREDITED)
    stored = {step: known.steps[step] for step in covered if step in known.steps}
    lines = [float(said.steps.get(step) == stored[step]) if step in stored else NAN for step in STEPS]
    return [*lines, float(said.label == known.label)]


def category_right(said: Parsed, known: KnownPrompt) -> float:
    """1 when the stated relation is the true one; NaN without truth."""
    if "category" not in known.steps:
        return NAN
    return float(said.steps.get("category", "").rsplit(" ", 1)[-1] == known.steps["category"].rsplit(" ", 1)[-1])


def attribute_f1(said: Parsed, known: KnownPrompt) -> float:
    """F1 of (attribute, verdict) pairs against the true checks; 1 when there is none in both; NaN without truth."""
    if "checks" not in known.steps:
        return NAN
    mine, true = (_checks(lines.get("checks", "")) for lines in (said.steps, known.steps))
    return 2 * len(mine & true) / (len(mine) + len(true)) if mine or true else 1.0


def _checks(line: str) -> set[tuple[str, int]]:
    """The checks of a line, each numbered among its equals."""
    parts = [" ".join(part.split()) for part in line.partition(" ")[2].split(";")]
    kept = [part for part in parts if part not in ("", "none")]
    return {(part, kept[:i].count(part)) for i, part in enumerate(kept)}


class StepSpans:
    """Which step a token belongs to. A token that ends a line belongs to that line."""

    def __init__(self, model: CausalLM) -> None:
        self._tokenizer = model.tokenizer

    @functools.cached_property
    def _ends_line(self) -> Tensor:
        texts = self._tokenizer.batch_decode([[i] for i in range(len(self._tokenizer))])
        return torch.tensor(["\n" in text for text in texts])

    def of(self, rollout: Rollout) -> Tensor:
        """(N, T) index into CREDITED, -1 for lines that are no step and outside the mask."""
        ends = self._ends_line[rollout.completion_ids] & rollout.mask
        line = ends.cumsum(1) - ends.long()
        names = [
            self._names(ids[mask].tolist()) for ids, mask in zip(rollout.completion_ids, rollout.mask, strict=True)
        ]
        width = max(int(line.max()) + 1, *(len(row) for row in names))
        table = torch.tensor([[*row, *[-1] * (width - len(row))] for row in names])
        return torch.where(rollout.mask, table.gather(1, line), -1)

    def _names(self, ids: list[int]) -> list[int]:
        """The step of each line of a completion."""
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return [_step(line.strip()) for line in text.split("\n")]


def _step(line: str) -> int:
    """Index into CREDITED of a line, -1 for any other."""
    if LABEL_LINE.fullmatch(line):
        return CREDITED.index("label")
    name = line.split(" ", 1)[0]
    return STEPS.index(name) if name in STEPS else -1
