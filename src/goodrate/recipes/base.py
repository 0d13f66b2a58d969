"""Training of the base model: language-model loss over a stream of documents of the shop's language."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.learning.document_stream import DocumentSource, DocumentStream
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.token_examples import TokenScorer
from goodrate.models.causal_lm import CausalLM
from goodrate.run_folder import RunFolder, new_folder


class NetworkSettings(BaseModel):
    """A Qwen3 configuration; the vocabulary comes from the tokenizer."""

    model_config = ConfigDict(extra="forbid")
    hidden: int = Field(default=192, gt=0)
    layers: int = Field(default=6, gt=0)
    heads: int = Field(default=6, gt=0)
    key_value_heads: int = Field(default=2, gt=0)
    intermediate: int = Field(default=512, gt=0)
    max_positions: int = Field(default=1024, gt=0)


class Settings(BaseModel):
    """How to train a base model."""

    model_config = ConfigDict(extra="forbid")
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    optimizer: OptimizerName = Field(default="muon", description="muon learns in a third of adamw's time here")
    learning_rate: float = Field(default=3e-3, gt=0, description="AdamW's peak rate; Muon's follows from it")
    weight_decay: float = Field(default=0.02, ge=0)
    batch_size: int = Field(default=48, gt=0, description="documents in one update, of mixed kinds and lengths")
    micro_tokens: int = Field(default=1600, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(seconds=3600))


def make_network(settings: NetworkSettings, tokenizer: Any, seed: int) -> Any:
    """A Qwen3 causal LM with tied embeddings, initialised from the seed."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.key_value_heads,
        head_dim=settings.hidden // settings.heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def train_base(
    settings: Settings,
    documents: DocumentStream,
    tokenizer: Any,
    out: str | Path,
    *,
    progress: Callable[[dict[str, Any]], None] | None = None,
    evaluate: Callable[[CausalLM, int], dict[str, float]] | None = None,
    start: str | Path | None = None,
) -> Path:
    """Train and write the model folder `out/model`; a killed run resumes from `out`.

    start: a model folder to go on from; None = from scratch.

    documents(start): the documents from number `start` on, each a TokenExample whose weights say where the loss is.
    evaluate(model, update): numbers for the log, for example the gates, every fit.evaluate_every updates.
    """
    run = RunFolder(out)
    run.begin(settings, settings.fit.seed)
    scratch = None if start else make_network(settings.network, tokenizer, settings.fit.seed)
    model = CausalLM.load(start) if start else CausalLM(scratch, tokenizer)
    model.network.set_attn_implementation("eager")  # on CPUs sdpa's backward is the slower one, most of all in bf16
    # pool=1: every update mixes kinds of documents; batches of one length are batches of one kind, and training swings.
    source = DocumentSource(documents, settings.batch_size, settings.micro_tokens, settings.fit.seed, pool=1)
    optimizers = make_optimizers(model.network, settings.optimizer, settings.learning_rate, settings.weight_decay)
    check = (lambda update: evaluate(model, update)) if evaluate else None
    fit(TokenScorer(model.network), source, optimizers, settings.fit, folder=run, evaluate=check, on_update=progress)
    with new_folder(run.path / "model") as beside:
        model.save(beside)
    return run.path / "model"
