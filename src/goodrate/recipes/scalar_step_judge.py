"""A scalar step reward model: a judge's network with a head that scores each step where the step ends.

SHE (arXiv 2510.07972) has scalar reward models among its baselines; this form, one score a step read off the last token
of its line, is our design (papers/taosr_she.md section 5). It reads the gold label before the reasoning, because a
causal network at a step's end sees nothing behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.losses import binary
from goodrate.learning.records import MicroBatch, Outputs, Rollout, Term, Update
from goodrate.learning.token_examples import in_parts
from goodrate.models.causal_lm import CausalLM
from goodrate.models.precision import autocast, evaluating
from goodrate.recipes.judge_steps import CREDITED, NAN, StepSpans
from goodrate.relevance.rationale import STEPS, label_text

HEAD_FILE = "step_head.safetensors"
TOKENS = 16384  # padded tokens scored at once


@dataclass(frozen=True)
class StepExample:
    """What is read, where each of STEPS ends in it (-1: not written), and whether it is right (NaN: unknown)."""

    token_ids: tuple[int, ...]
    ends: tuple[int, ...]
    right: tuple[float, ...]


def read_steps(
    model: CausalLM, spans: StepSpans, prompts: Sequence[JudgePrompt], rollout: Rollout, right: Tensor, sees_label: bool
) -> list[StepExample]:
    """One example per rollout. prompts: one per rollout. right: (N, len(STEPS))."""
    steps = spans.of(rollout)
    found = []
    for row, prompt in enumerate(prompts):
        gold = model.encode(f"label {label_text(prompt.label)}\n") if sees_label else []
        before = [*model.encode_pair(prompt.prefix, prompt.suffix), *gold]
        mine = steps[row].tolist()
        ends = [len(before) + _last(mine, step) if step in mine else -1 for step in range(len(STEPS))]
        ids = (*before, *rollout.completion_ids[row][rollout.mask[row]].tolist())
        found.append(StepExample(ids, tuple(ends), tuple(right[row].tolist())))
    return found


def _last(steps: Sequence[int], step: int) -> int:
    """Where a step stands last."""
    return len(steps) - 1 - list(reversed(steps)).index(step)


class StepScorer(nn.Module):
    """forward: micro-batch -> {"steps": (N, S)}, the logit that a step is right, read where it ends."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.score = nn.Linear(network.config.hidden_size, len(STEPS))
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def head(self) -> dict[str, Tensor]:
        """The head's weights by name."""
        return {name: weight.detach().contiguous() for name, weight in self.score.state_dict().items()}

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        causal = self.network.get_base_model() if hasattr(self.network, "get_base_model") else self.network
        hidden = causal.base_model(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
        at = batch["ends"].clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1])
        return {"steps": torch.einsum("nsd,sd->ns", hidden.gather(1, at), self.score.weight) + self.score.bias}


def collate(examples: Sequence[StepExample]) -> dict[str, Tensor]:
    """input_ids (N, T) padded on the right, ends (N, S), right (N, S), mask (N, S) of steps written and known."""
    longest = max(len(example.token_ids) for example in examples)
    ids = torch.tensor([[*e.token_ids, *[0] * (longest - len(e.token_ids))] for e in examples])
    ends, right = (torch.tensor([getattr(e, name) for e in examples]) for name in ("ends", "right"))
    return {"input_ids": ids, "ends": ends, "right": right.nan_to_num(0.0), "mask": (ends >= 0) & ~right.isnan()}


def binary_cross_entropy(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Of every step's verdict, (N, S)."""
    return binary(outputs["steps"].float(), batch["right"])


STEP_TERM = Term("step_verdicts", binary_cross_entropy, mask="mask")


def step_update(examples: Sequence[StepExample], max_tokens: int) -> Update:
    """An update of the step verdicts over these examples."""
    return Update([collate(part) for part in in_parts(examples, max_tokens)], [STEP_TERM])


class ScalarStepJudge:
    """A trained step judge. It decides on the five steps; the label has its gold."""

    def __init__(self, folder: str | Path, sees_label: bool = True, model: CausalLM | None = None) -> None:
        """model: that of the folder, if loaded; it knows what stands around prompts."""
        self._model = model or CausalLM.load(folder)
        self._sees_label, self._spans = sees_label, StepSpans(self._model)  # decodes every word, so once
        self._scorer = StepScorer(self._model.network).to(self._model.device)
        self._scorer.score.load_state_dict(load_file(Path(folder) / HEAD_FILE))

    def judge(self, prompts: Sequence[JudgePrompt], rollout: Rollout) -> Tensor:
        """(N, len(CREDITED)) probability that a step is right, 0 where it was not written; NaN for the label."""
        unknown = torch.full((len(prompts), len(STEPS)), NAN)
        examples = read_steps(self._model, self._spans, prompts, rollout, unknown, self._sees_label)
        verdicts = torch.full((len(examples), len(CREDITED)), NAN)
        verdicts[:, : len(STEPS)] = step_probabilities(self._scorer, examples, self._model)
        unread = torch.tensor([parsed is None for parsed in rollout.parsed])
        return verdicts.masked_fill(unread[:, None], NAN)


def step_probabilities(scorer: nn.Module, examples: Sequence[StepExample], model: CausalLM) -> Tensor:
    """(N, len(STEPS)) on the CPU: that a step is right, 0 where it was not written."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].token_ids))
    probabilities = torch.empty(len(examples), len(STEPS))
    start = 0
    with evaluating(model.network), autocast(model.precision, model.device):
        for part in in_parts([examples[row] for row in order], TOKENS):
            batch = {name: tensor.to(model.device) for name, tensor in collate(part).items()}
            steps = scorer(batch)["steps"].float().sigmoid().masked_fill(batch["ends"] < 0, 0.0)
            probabilities[order[start : start + len(part)]] = steps.cpu()
            start += len(part)
    return probabilities
