"""Judges whose steps can be checked: true steps beside a prompt, and what a rollout's own steps are worth."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.records import Rollout
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.rationale import LABEL_LINE, STEPS, Parsed

CREDITED = (*STEPS, "label")  # the steps that carry credit, in the order of their index
NAN = float("nan")


def verified_steps(parsed: Parsed | None, prompt: JudgePrompt, covered: Sequence[str]) -> list[float]:
    """1 or 0 for every step of CREDITED against the stored line, NaN where none is stored; the label always has one."""
    if parsed is None:
        return [NAN] * len(CREDITED)
    stored = {step: prompt.steps[step] for step in covered if step in prompt.steps}
    lines = [float(parsed.steps.get(step) == stored[step]) if step in stored else NAN for step in STEPS]
    return [*lines, float(parsed.label == prompt.label)]


def category_right(parsed: Parsed, prompt: JudgePrompt) -> float:
    """1 when the stated relation is the true one; NaN without truth."""
    if "category" not in prompt.steps:
        return NAN
    stated, true = (lines.get("category", "").rsplit(" ", 1)[-1] for lines in (parsed.steps, prompt.steps))
    return float(stated == true)


def attribute_f1(parsed: Parsed, prompt: JudgePrompt) -> float:
    """F1 of (attribute, verdict) pairs against the true checks; 1 when there is none in both; NaN without truth."""
    if "checks" not in prompt.steps:
        return NAN
    stated, true = (_checks(lines.get("checks", "")) for lines in (parsed.steps, prompt.steps))
    return 2 * len(stated & true) / (len(stated) + len(true)) if stated or true else 1.0


def _checks(line: str) -> set[tuple[str, int]]:
    """The checks of a line, each numbered among its equals."""
    clauses = [" ".join(clause.split()) for clause in line.partition(" ")[2].split(";")]
    checks = [clause for clause in clauses if clause not in ("", "none")]
    return {(check, checks[:i].count(check)) for i, check in enumerate(checks)}


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
