"""Step reward models, trained on a judge's own rollouts on pairs whose true steps are known.

SHE (arXiv 2510.07972) rewards steps by a generative model and by stored verdicts, and has scalar models as baselines.
What the generative one reads and writes is our design (papers/taosr_she.md section 5): `check:` after the reasoning,
then one digit a step, 1 right and 0 wrong; the reward is the probability of the 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.records import Rollout
from goodrate.learning.rollout import take
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import stop_token_id
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.judge_steps import CREDITED, StepSpans, verified_steps
from goodrate.recipes.scalar_step_judge import HEAD_FILE, ScalarStepJudge, StepScorer, read_steps, step_update
from goodrate.recipes.text_sft import TextSettings, tune
from goodrate.relevance.rationale import STEPS, label_text
from goodrate.run_folder import RunFolder, new_folder
from goodrate.strict_json import dumps, read_object

QUESTION = "check:\n"
CARD = "step_judge.json"
ROOM = 2 * len(STEPS) + 2  # digits, spaces, the line break


class StepJudge(Protocol):
    """What tells of a written step whether it is right."""

    def judge(self, prompts: Sequence[JudgePrompt], rollout: Rollout) -> Tensor:
        """(N, len(CREDITED)) in 0..1, NaN where it does not decide; prompts: one per rollout."""
        ...


class Settings(TextSettings):
    """How to train a step judge; `model` is the judge that it will watch."""

    kind: Literal["generative", "scalar"] = Field(
        default="generative", description="it writes a verdict per step, or a head scores each step"
    )

    samples: int = Field(default=4, gt=0, description="rollouts per prompt, of which it learns")
    sees_label: bool = Field(default=True, description="show it the gold label, which is known wherever it is used")


@dataclass(frozen=True)
class StepScores:
    """How a step judge does on rollouts whose steps are known.

    precision, recall: of calling a step wrong, by step. first_error: share of rollouts with an error whose first wrong
    step it names. rollouts: how many. readable: how many have steps that can be read, judged or not.
    """

    precision: dict[str, float]
    recall: dict[str, float]
    first_error: float
    rollouts: int
    readable: int


class GenerativeStepJudge:
    """A trained step judge. It decides on the five steps; the label has its gold."""

    def __init__(self, folder: str | Path, sees_label: bool = True, model: CausalLM | None = None) -> None:
        """model: that of the folder, if loaded; it knows what stands around prompts."""
        self._model = model or CausalLM.load(folder)
        self._sees_label = sees_label
        self._stop = stop_token_id(self._model)

    def judge(self, prompts: Sequence[JudgePrompt], rollout: Rollout) -> Tensor:
        """(N, len(CREDITED)) probability that a step is right; NaN for the label and where nothing was written."""
        texts = [_text(self._model, ids, mask) for ids, mask in zip(rollout.completion_ids, rollout.mask, strict=True)]
        asked = [question(prompt, text, self._sees_label) for prompt, text in zip(prompts, texts, strict=True)]
        answers = self._model.generate(asked, ROOM, self._stop)
        rows = [self._read(written.token_ids, written.logprobs) for written in answers]
        verdicts = torch.tensor([[*row, float("nan")] for row in rows])
        unread = torch.tensor([parsed is None for parsed in rollout.parsed])
        return verdicts.masked_fill(unread[:, None], float("nan"))

    def _read(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> list[float]:
        """Probability of 1 for each of the first digits.

        A digit's probability is that of all tokens since the one before: " 1" may be one token where " 0" is two.
        """
        verdicts: list[float] = []
        since = 0.0
        for token, logprob in zip(token_ids, logprobs, strict=True):
            since += logprob
            digit = self._model.tokenizer.decode([token]).strip()
            if digit in ("0", "1"):
                verdicts.append(float(np.exp(since)) if digit == "1" else 1 - float(np.exp(since)))
                since = 0.0
        return [*verdicts[: len(STEPS)], *[float("nan")] * (len(STEPS) - len(verdicts))]


def question(prompt: JudgePrompt, written: str, sees_label: bool) -> tuple[str, str]:
    """What a step judge reads: the policy's prompt, what it wrote, the gold label, and the question."""
    gold = f"label {label_text(prompt.label)}\n" if sees_label else ""
    return prompt.prefix, f"{prompt.suffix}{written}{gold}{QUESTION}"


def answer(steps: Sequence[float]) -> str:
    """The verdicts as the step judge writes them.

    >>> answer([1.0, 0.0, 1.0, 1.0, 1.0])
    '1 0 1 1 1\\n'
    """
    return " ".join(str(int(value)) for value in steps) + "\n"


def usable(prompts: Sequence[JudgePrompt], rollout: Rollout, seed: int) -> tuple[Tensor, Tensor]:
    """Which rollouts to learn of, (N,) bool, and the truth of their steps (those, S).

    All with a wrong step, and as many without one. prompts: by group.
    """
    pairs = zip(rollout.parsed, rollout.group.tolist(), strict=True)
    truth = torch.tensor([verified_steps(parsed, prompts[group], STEPS)[: len(STEPS)] for parsed, group in pairs])
    known = ~truth.isnan().any(1)
    wrong, right = ((known & rows).nonzero()[:, 0] for rows in (truth.eq(0).any(1), truth.eq(1).all(1)))
    drawn = torch.randperm(len(right), generator=torch.Generator().manual_seed(seed))[: max(len(wrong), 1)]
    rows = torch.zeros(len(truth), dtype=torch.bool)
    rows[torch.cat([wrong, right[drawn]])] = True
    return rows, truth[rows]


def examples(
    prompts: Sequence[JudgePrompt], rollout: Rollout, right: Tensor, model: CausalLM, sees_label: bool
) -> list[TokenExample]:
    """What the generative kind is trained on: the question is read, the answer and its stop token are written.

    prompts: one per rollout. right: (N, len(STEPS)) 1 or 0.
    """
    stop, encoded = stop_token_id(model), []
    texts = [_text(model, ids, mask) for ids, mask in zip(rollout.completion_ids, rollout.mask, strict=True)]
    for prompt, text, verdicts in zip(prompts, texts, right.tolist(), strict=True):
        read = model.encode_pair(*question(prompt, text, sees_label))
        written = [*model.encode(answer(verdicts)), stop]
        encoded.append(TokenExample((*read, *written), (*([0.0] * len(read)), *([1.0] * len(written)))))
    return encoded


def _text(model: CausalLM, ids: Tensor, mask: Tensor) -> str:
    return str(model.tokenizer.decode(ids[mask].tolist(), skip_special_tokens=True))


def train(
    settings: Settings, prompts: Sequence[JudgePrompt], out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:  # fmt: skip
    """Sample rollouts of the judge `settings.model`, train on their verdicts, write the model folder `out/model`.

    Raises ValueError when no prompt has all of its true steps.
    """
    rollout, model = sample_rollouts(settings.model, prompts, settings.samples, settings.fit.seed, "step judge")
    rows, right = usable(prompts, rollout, settings.fit.seed)
    if not rows.any():
        raise ValueError(f"none of {len(prompts)} prompts has all five true steps; a step judge has nothing to learn")
    learned, by_rollout = take(rollout, rows), [prompts[group] for group in rollout.group[rows].tolist()]
    run, extra = RunFolder(out), dict[str, torch.Tensor]()
    if settings.kind == "scalar":
        scored = read_steps(model, StepSpans(model), by_rollout, learned, right, settings.sees_label)
        scorer = StepScorer(model.network)
        adapter = tune(settings, model, scored, run, progress, lambda network: scorer, step_update)
        extra = scorer.head()
    else:
        written = examples(by_rollout, learned, right, model, settings.sees_label)
        adapter = tune(settings, model, written, run, progress)
    if adapter:
        adapter.merge()
    with new_folder(run.path / "model") as beside:
        model.save(beside)
        if extra:
            save_file(extra, beside / HEAD_FILE)
        facts = {"kind": settings.kind, "sees_label": settings.sees_label, **model.around_prompts()}
        (beside / CARD).write_text(dumps(facts) + "\n")
    return run.path / "model"


def open_step_judge(folder: str | Path) -> StepJudge:
    """A trained step judge of either kind. Raises FileNotFoundError for a folder that holds none."""
    card = Path(folder) / CARD
    if not card.is_file():
        raise FileNotFoundError(f"{card} does not exist; `goodrate train step_judge` writes it")
    facts = read_object(card)
    kind = ScalarStepJudge if facts["kind"] == "scalar" else GenerativeStepJudge
    model = CausalLM.load(folder)
    model.surround_prompts(facts.get("chat_frame", ()), facts.get("start_token_ids", ()))
    return kind(folder, facts["sees_label"], model)


def evaluate(step_judge: StepJudge, prompts: Sequence[JudgePrompt], rollout: Rollout) -> StepScores:
    """Precision and recall of calling steps wrong, and first errors, on rollouts of prompts with true steps."""
    by_rollout = [prompts[group] for group in rollout.group.tolist()]
    pairs = zip(rollout.parsed, by_rollout, strict=True)
    truth = torch.tensor([verified_steps(parsed, prompt, STEPS) for parsed, prompt in pairs])[:, :-1]
    verdicts = step_judge.judge(by_rollout, rollout)[:, :-1]
    usable = ~(truth.isnan() | verdicts.isnan()).any(1)
    wrong, called = truth[usable] == 0, verdicts[usable] < 0.5
    hits = (wrong & called).sum(0)
    names = list(CREDITED[:-1])
    erred = wrong.any(1)
    first = wrong[erred].int().argmax(1) == torch.where(called[erred].any(1), called[erred].int().argmax(1), -1)
    return StepScores(
        dict(zip(names, (hits / called.sum(0)).tolist(), strict=True)),
        dict(zip(names, (hits / wrong.sum(0)).tolist(), strict=True)),
        float(first.float().mean()),
        int(usable.sum()),
        int((~truth.isnan().any(1)).sum()),
    )
