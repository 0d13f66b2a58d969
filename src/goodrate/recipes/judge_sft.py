"""Supervised fine-tuning of a judge: cross-entropy on the completion (TaoSR1 stage 1, arXiv 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from goodrate.learning.fit import FitSettings
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeExample, JudgeFormat, label_token_ids, stop_token_id, write_judge
from goodrate.recipes.text_sft import TextSettings, tune
from goodrate.run_folder import RunFolder

__all__ = ["FitSettings", "JudgeExample", "Settings", "encode", "train"]


class Settings(TextSettings):
    """How to fine-tune a judge."""

    format: JudgeFormat = Field(default_factory=JudgeFormat, description="what prompts and completions look like")
    label_weight: float = Field(default=1.0, gt=0, description="weight of the label token's loss against the others'")


def encode(model: CausalLM, example: JudgeExample, settings: Settings, labels: Sequence[int]) -> TokenExample:
    """Loss on the completion and its stop token. ValueError when no label token is where the order wants it."""
    prompt = model.encode_pair(example.prefix, example.suffix)
    completion = [*model.encode(example.completion), stop_token_id(model)]
    places = [place for place, token in enumerate(completion) if token in labels]
    first = settings.format.order == "label_first"
    if not places or (first and places[0] != 0):
        raise ValueError(f"completion {example.completion[:40]!r}: no label where {settings.format.order} has it")
    weights = [example.weight] * len(completion)
    weights[0 if first else places[-1]] *= settings.label_weight
    return TokenExample((*prompt, *completion), (*([0.0] * len(prompt)), *weights))


def train(
    settings: Settings,
    examples: Sequence[JudgeExample],
    out: str | Path,
    progress: Callable[..., None] | None = None,
    model: CausalLM | None = None,
) -> Path:
    """Train and write the judge folder `out/judge`; a killed run resumes. model: settings.model, if loaded."""
    run = RunFolder(out)
    model = model or CausalLM.load(settings.model)
    labels = label_token_ids(model, settings.format.scale)
    encoded = [encode(model, example, settings, labels) for example in examples]
    adapter = tune(settings, model, encoded, run, progress)
    return write_judge(model, settings.format, run.path / "judge", adapter)
