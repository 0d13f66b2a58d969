"""Supervised fine-tuning of a judge: cross-entropy on the completion (TaoSR1 stage 1, arXiv 2508.12365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.token_examples import TokenExample, TokenExampleSource, TokenScorer
from goodrate.models.adapter import LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeExample, JudgeFormat, label_token_ids, stop_token_id, write_judge
from goodrate.run_folder import RunFolder


class Settings(BaseModel):
    """How to fine-tune a judge."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="model to start from: folder, hub id, or nano, the base that ships")
    format: JudgeFormat = Field(default_factory=JudgeFormat, description="what prompts and completions look like")
    optimizer: OptimizerName = Field(default="adamw", description="adamw, or muon for small models")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak; 1e-5 for pretrained models of 0.5B up")
    weight_decay: float = Field(default=0.01, ge=0)
    lora: LoraSettings | None = Field(default=None, description="train an adapter and not all weights; null = all")
    batch_size: int = Field(default=64, gt=0, description="examples in one update")
    max_tokens: int = Field(default=512, gt=1, description="longer examples are left out and counted")
    micro_tokens: int = Field(default=16384, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    label_weight: float = Field(default=1.0, gt=0, description="weight of the label token's loss against the others'")
    epochs: int = Field(default=2, gt=0, description="passes over the examples; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)


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
    kept = [example for example in encoded if len(example.token_ids) <= settings.max_tokens]
    if not kept:
        raise ValueError(f"none of {len(encoded)} examples has at most max_tokens = {settings.max_tokens} tokens")
    run.begin(settings, settings.fit.seed, examples=len(kept), left_out=len(encoded) - len(kept))
    if model.device.type == "cpu":
        model.network.set_attn_implementation("eager")  # sdpa's backward is slower on CPUs, most of all in bf16
    source = TokenExampleSource(kept, settings.batch_size, settings.micro_tokens, settings.fit.seed, settings.epochs)
    adapter = add_adapter(model.network, settings.lora, settings.fit.seed)
    optimizers = make_optimizers(model.network, settings.optimizer, settings.learning_rate, settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fit(TokenScorer(model.network), source, optimizers, budget, folder=run, on_update=progress)
    return write_judge(model, settings.format, run.path / "judge", adapter)
