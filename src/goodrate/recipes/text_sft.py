"""Supervised fine-tuning of a causal LM: what every recipe shares that trains on text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.learning.fit import FitSettings, accumulate, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.records import on_device
from goodrate.learning.token_examples import TokenExampleSource, Tokens, TokenScorer, UpdateOf, token_update
from goodrate.models.adapter import Adapter, LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.models.precision import autocast, resolve_precision
from goodrate.run_folder import RunFolder


class TextSettings(BaseModel):
    """How to fine-tune a causal LM, whatever it learns to write."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="model to start from: folder, hub id, or nano, the base that ships")
    optimizer: OptimizerName = Field(default="adamw", description="adamw, or muon for small models")
    learning_rate: float = Field(
        default=5e-4, gt=0, allow_inf_nan=False, description="peak; 1e-5 for pretrained models of 0.5B up"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    lora: LoraSettings | None = Field(default=None, description="train an adapter and not all weights; null = all")
    batch_size: int = Field(default=64, gt=0, description="examples in one update")
    max_tokens: int = Field(default=512, gt=1, description="longer examples are left out and counted")
    micro_tokens: int = Field(default=16384, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=2, gt=0, description="passes over the examples; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)


@dataclass(frozen=True)
class TrainingPlan:
    """What a run will do, told before it does it. tokens: of all updates. tokens_per_second: measured on a few examples
    without the optimizer's step. seconds: of the updates, or the budget where that is less.
    """

    updates: int
    examples: int
    tokens: int
    tokens_per_second: float
    seconds: float


def tune(
    settings: TextSettings,
    model: CausalLM,
    examples: Sequence[Tokens],
    run: RunFolder,
    progress: Callable[..., None] | None = None,
    scorer: Callable[[nn.Module], nn.Module] = TokenScorer,
    update_of: UpdateOf = token_update,
    plan: Callable[[TrainingPlan], None] | None = None,
) -> Adapter | None:
    """Train the model in place, in the run's folder; returns the adapter where one was trained. A killed run resumes.

    scorer: makes, of the network, what scores a micro-batch; whatever it adds is trained too. update_of: see
    TokenExampleSource. plan: is told how long it will take before it begins. Raises ValueError when no example is short
    enough.
    """
    fitting = [example for example in examples if len(example.token_ids) <= settings.max_tokens]
    if not fitting:
        raise ValueError(f"none of {len(examples)} examples has at most max_tokens = {settings.max_tokens} tokens")
    run.begin(settings, settings.fit.seed, examples=len(fitting), left_out=len(examples) - len(fitting))
    if model.device.type == "cpu":
        model.network.set_attn_implementation("eager")  # sdpa's backward is slower on CPUs, most of all in bf16
    source = TokenExampleSource(
        fitting, settings.batch_size, settings.micro_tokens, settings.fit.seed, settings.epochs, update_of
    )
    adapter = add_adapter(model.network, settings.lora, settings.fit.seed)
    scored = scorer(model.network)
    optimizers = make_optimizers(scored, settings.optimizer, settings.learning_rate, settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    if plan is not None:
        updates = min(budget.updates or 0, source.batches_per_epoch * settings.epochs)
        plan(_planned(scored, fitting, update_of, settings, budget, updates))
    fit(scored, source, optimizers, budget, folder=run, on_update=progress)
    return adapter


PROBED = 4  # examples of middle length that the time is measured on


def _planned(
    scored: nn.Module, examples: Sequence[Tokens], update_of: UpdateOf, settings: TextSettings, budget: FitSettings,
    updates: int,
) -> TrainingPlan:  # fmt: skip
    """The plan, from forward and backward over a few examples; no weight is changed, no gradient left."""
    by_length = sorted(examples, key=lambda example: len(example.token_ids))
    middle = max(0, len(by_length) // 2 - PROBED // 2)
    probe = by_length[middle : middle + PROBED]
    device = next(scored.parameters()).device
    precision = resolve_precision(budget.precision, device)
    rates = []
    for _ in range(2):  # the first pass warms up
        start = time.perf_counter()
        update = on_device(update_of(probe, settings.micro_tokens), device)
        accumulate(scored, update, Tensor.backward, forward_context=lambda: autocast(precision, device))
        rates.append(sum(len(example.token_ids) for example in probe) / (time.perf_counter() - start))
    scored.zero_grad(set_to_none=True)
    passes = min(settings.epochs, updates * settings.batch_size / len(examples))
    tokens = round(passes * sum(len(example.token_ids) for example in examples))
    seconds = tokens / max(rates)
    return TrainingPlan(updates, len(examples), tokens, max(rates), min(seconds, budget.seconds or seconds))
