"""Supervised fine-tuning of a judge: cross-entropy on the completion (TaoSR1 stage 1, arXiv 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import TRAINED, FitSettings
from goodrate.learning.records import Update
from goodrate.learning.token_examples import TokenExample, token_update
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import label_token_ids, open_start, stop_token_id, write_judge
from goodrate.recipes.text_sft import TextSettings, TrainingPlan, tune
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.run_folder import RunFolder

__all__ = ["FitSettings", "Settings", "encode", "train"]


class Settings(TextSettings):
    """How to fine-tune a judge. What is not set follows from the model's size (recipes.judge_defaults)."""

    format: JudgeFormat = Field(default_factory=JudgeFormat, description="what prompts and completions look like")
    label_weight: float = Field(default=1.0, gt=0, description="weight of the label token's loss against the others'")
    batch_tokens: int | None = Field(
        default=None,
        gt=0,
        description="tokens in one update in place of batch_size, which is set to as many examples",
    )

    @model_validator(mode="after")
    def _one_batch(self) -> Self:
        if self.batch_tokens is not None and "batch_size" in self.model_fields_set:
            raise ValueError("batch_size and batch_tokens both say how large an update is: give one")
        return self


def encode(
    model: CausalLM, prompt: JudgePrompt, settings: Settings, labels: Sequence[int], open_end: bool = False
) -> TokenExample:
    """Loss on the completion and its stop token.

    open_end: on the label alone, where it stands first: what follows is not known.
    Raises ValueError naming a prompt without a completion, and when no label token is where the order wants it.
    """
    if prompt.completion is None:
        raise ValueError(f"{prompt.example_id}: no completion; SFT needs one of every prompt")
    read = model.encode_pair(prompt.prefix, prompt.suffix)
    completion = [*model.encode(prompt.completion), stop_token_id(model)]
    places = [place for place, token in enumerate(completion) if token in labels]
    first = settings.format.order == "label_first"
    if not places or (first and places[0] != 0):
        raise ValueError(f"completion {prompt.completion[:40]!r}: no label where {settings.format.order} has it")
    weights = [prompt.weight] * len(completion)
    weights[0 if first else places[-1]] *= settings.label_weight
    if open_end and first:
        weights[1:] = [0.0] * (len(weights) - 1)
    return TokenExample((*read, *completion), (*([0.0] * len(read)), *weights))


def counted_update(examples: Sequence[TokenExample], max_tokens: int) -> Update:
    """An update of the language term that knows how many tokens it has."""
    tokens = float(sum(len(example.token_ids) for example in examples))
    return replace(token_update(examples, max_tokens), facts={TRAINED: tokens})


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[..., None] | None = None,
    model: CausalLM | None = None,
    plan: Callable[[TrainingPlan], None] | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes. model: settings.model, if loaded.

    Where some prompts have a reason, the others teach the label alone and not that nothing follows it: a judge that
    is shown reasons of a quarter of its pairs would else never write one.
    plan: is told how long it will take before it begins.
    """
    run = RunFolder(out)
    model = model or open_start(settings.model, settings.format)
    labels = label_token_ids(model, settings.format.relevance_scale)
    reasoned = any(prompt.steps for prompt in prompts)
    encoded = [encode(model, prompt, settings, labels, reasoned and not prompt.steps) for prompt in prompts]
    adapter = tune(settings, model, encoded, run, progress, update_of=counted_update, plan=plan)
    return write_judge(model, settings.format, run.path / "judge", adapter)
