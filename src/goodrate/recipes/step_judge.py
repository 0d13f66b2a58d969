"""A generative step reward model: it reads a prompt and a written reasoning and writes a verdict for every step.

SHE (arXiv 2510.07972) rewards steps by such a model and by stored verdicts. What it reads and writes is our design
(papers/taosr_she.md section 5): `check:` after the reasoning, then one digit a step, 1 right and 0 wrong. The reward is
the probability of the 1. It is trained on the policy's own rollouts, on pairs whose true steps are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from goodrate.learning.records import Rollout
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeExample, open_judge, stop_token_id
from goodrate.recipes.judge_rollouts import JudgeRollouts, PairSampling, policy_examples, sampled
from goodrate.recipes.judge_steps import CREDITED, KnownPrompt, verified_steps
from goodrate.recipes.text_sft import TextSettings, tune
from goodrate.relevance.rationale import STEPS, label_text
from goodrate.run_folder import RunFolder, new_folder

ASK = "check:\n"
ROOM = 2 * len(STEPS) + 2  # digits, spaces, the line break


class Settings(TextSettings):
    """How to train a step judge; `model` is best the judge that it will watch."""

    samples: int = Field(default=4, gt=0, description="rollouts per prompt, of which it learns")
    sees_label: bool = Field(default=True, description="show it the gold label, which is known wherever it is used")


@dataclass(frozen=True)
class StepScores:
    """How a step judge does on rollouts whose steps are known.

    precision, recall: of calling a step wrong, by step. first_error: share of rollouts with an error whose first wrong
    step it names. rollouts: how many.
    """

    precision: dict[str, float]
    recall: dict[str, float]
    first_error: float
    rollouts: int


class GenerativeStepJudge:
    """A trained step judge. It decides on the five steps; the label has its gold."""

    def __init__(self, folder: str | Path, sees_label: bool = True) -> None:
        self._model = CausalLM.load(folder)
        self._sees_label = sees_label
        self._digits = [self._model.encode(digit)[0] for digit in ("0", "1")]
        self._stop = stop_token_id(self._model)

    def judge(self, prompts: Sequence[KnownPrompt], rollout: Rollout) -> Tensor:
        """(N, len(CREDITED)) probability that a step is right; NaN for the label and where nothing was written."""
        texts = [self._text(ids, mask) for ids, mask in zip(rollout.completion_ids, rollout.mask, strict=True)]
        asked = [question(prompt, text, self._sees_label) for prompt, text in zip(prompts, texts, strict=True)]
        made = self._model.generate(asked, ROOM, self._stop)
        rows = [self._read(one.token_ids, one.logprobs) for one in made]
        found = torch.tensor([[*row, float("nan")] for row in rows])
        unread = torch.tensor([parsed is None for parsed in rollout.parsed])
        return found.masked_fill(unread[:, None], float("nan"))

    def _text(self, ids: Tensor, mask: Tensor) -> str:
        return str(self._model.tokenizer.decode(ids[mask].tolist(), skip_special_tokens=True))

    def _read(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> list[float]:
        """Probability of 1 for each of the first digits."""
        zero, one = self._digits
        said = [
            float(np.exp(logprob)) if token == one else 1 - float(np.exp(logprob))
            for token, logprob in zip(token_ids, logprobs, strict=True)
            if token in (zero, one)
        ][: len(STEPS)]
        return said + [float("nan")] * (len(STEPS) - len(said))


def question(prompt: KnownPrompt, written: str, sees_label: bool) -> tuple[str, str]:
    """What a step judge reads: the policy's prompt, what it wrote, the gold label, and the question."""
    gold = f"label {label_text(prompt.label)}\n" if sees_label else ""
    return prompt.prefix, f"{prompt.suffix}{written}{gold}{ASK}"


def answer(steps: Sequence[float]) -> str:
    """The verdicts as the step judge writes them.

    >>> answer([1.0, 0.0, 1.0, 1.0, 1.0])
    '1 0 1 1 1\\n'
    """
    return " ".join(str(int(value)) for value in steps) + "\n"


def examples(prompts: Sequence[KnownPrompt], rollout: Rollout, tokenizer: Any, sees_label: bool) -> list[JudgeExample]:
    """Training examples from rollouts whose steps are all known: those with a wrong step, and as many without one."""
    wrong: list[JudgeExample] = []
    right: list[JudgeExample] = []
    for row, group in enumerate(rollout.group.tolist()):
        steps = verified_steps(rollout.parsed[row], prompts[group], STEPS)[: len(STEPS)]
        if any(value != value for value in steps):
            continue
        text = tokenizer.decode(rollout.completion_ids[row][rollout.mask[row]].tolist(), skip_special_tokens=True)
        example = JudgeExample(*question(prompts[group], text, sees_label), answer(steps))
        (right if all(steps) else wrong).append(example)
    return wrong + right[: max(len(wrong), 1)]


def rolled(judge: str | Path, prompts: Sequence[KnownPrompt], samples: int, seed: int) -> tuple[Rollout, CausalLM]:
    """Rollouts of a judge on prompts, and its model."""
    model, form, rules = open_judge(judge)
    examples = policy_examples(model, prompts, form.max_new_tokens)
    how = PairSampling(samples=samples, max_new_tokens=form.max_new_tokens)
    return sampled(model, JudgeRollouts(form, rules), examples, how, seed, "step judge"), model


def train(
    settings: Settings, prompts: Sequence[KnownPrompt], out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:  # fmt: skip
    """Sample rollouts of the judge `settings.model`, train on their verdicts, write the model folder `out/model`.

    Raises ValueError when no prompt has all of its true steps.
    """
    rollout, model = rolled(settings.model, prompts, settings.samples, settings.fit.seed)
    found = examples(prompts, rollout, model.tokenizer, settings.sees_label)
    if not found:
        raise ValueError(f"none of {len(prompts)} prompts has all five true steps; a step judge has nothing to learn")
    run = RunFolder(out)
    adapter = tune(settings, model, [_encoded(model, example) for example in found], run, progress)
    if adapter:
        adapter.merge()
    with new_folder(run.path / "model") as beside:
        model.save(beside)
    return run.path / "model"


def _encoded(model: CausalLM, example: JudgeExample) -> TokenExample:
    """Loss on the answer and its stop token."""
    prompt = model.encode_pair(example.prefix, example.suffix)
    told = [*model.encode(example.completion), stop_token_id(model)]
    return TokenExample((*prompt, *told), (*([0.0] * len(prompt)), *([example.weight] * len(told))))


def evaluate(step_judge: GenerativeStepJudge, prompts: Sequence[KnownPrompt], rollout: Rollout) -> StepScores:
    """Precision and recall of calling steps wrong, and first errors, on rollouts of prompts with true steps."""
    mine = [prompts[group] for group in rollout.group.tolist()]
    truth = torch.tensor([verified_steps(p, k, STEPS) for p, k in zip(rollout.parsed, mine, strict=True)])[:, :-1]
    said = step_judge.judge(mine, rollout)[:, :-1]
    usable = ~(truth.isnan() | said.isnan()).any(1)
    wrong, called = truth[usable] == 0, said[usable] < 0.5
    hits = (wrong & called).sum(0)
    named = list(CREDITED[:-1])
    erred = wrong.any(1)
    first = wrong[erred].int().argmax(1) == torch.where(called[erred].any(1), called[erred].int().argmax(1), -1)
    return StepScores(
        dict(zip(named, (hits / called.sum(0)).tolist(), strict=True)),
        dict(zip(named, (hits / wrong.sum(0)).tolist(), strict=True)),
        float(first.float().mean()),
        int(usable.sum()),
    )
