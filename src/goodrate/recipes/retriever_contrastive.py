"""Contrastive training of the retriever: InfoNCE over batch and random negatives (stage 1 of Retrieval-GRPO).

Paper: arXiv 2511.13885 eq. 5. Here items known to answer a query are never its negatives. Mined negatives are the
baseline that the paper removes; Matryoshka dimensions (arXiv 2205.13147) are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
from goodrate.learning.contrastive import Pair, PairSource, TwoTower
from goodrate.learning.fit import FitSettings, fit
from goodrate.models.encoder import Encoder
from goodrate.recipes.hard_negatives import HardNegativeSettings, hard_negatives
from goodrate.run_folder import RunFolder, new_folder

__all__ = ["Pair", "Settings", "train"]


FIELDS_TEXT = "what the encoder reads of an item; an index made with it gives it the same"


class Settings(BaseModel):
    """How to train a retriever."""

    model_config = ConfigDict(extra="forbid")
    encoder: str = Field(description="sentence-transformers folder or hub id to start from")
    fields: list[str] = Field(default=list(RENDERED_FIELDS), description=FIELDS_TEXT)
    learning_rate: float = Field(default=5e-4, gt=0, description="peak; 2e-5 for pretrained encoders")
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=64, gt=1, description="pairs in one update, each the others' negatives")
    random_negatives: int = Field(default=64, ge=0, description="items drawn from the whole catalogue for each update")
    temperature: float = Field(default=0.05, gt=0, description="of the softmax over cosines")
    hard_negatives: HardNegativeSettings | None = Field(default=None, description="mine some too; null = none")
    matryoshka: list[int] | None = Field(
        default=None, description="also train the vectors' first so many floats: [32, 64]; null = whole vectors alone"
    )
    epochs: int = Field(default=3, gt=0, description="passes over the pairs; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)

    @field_validator("fields")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        check_fields(value)
        return value


def train(
    settings: Settings,
    pairs: Sequence[Pair],
    items: Mapping[str, str],
    out: str | Path,
    *,
    positives: Mapping[str, AbstractSet[str]] | None = None,
    encoder: Encoder | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train and write the encoder folder `out/encoder`; a killed run resumes from `out`. Returns that folder.

    items: text of settings.fields by item id, the whole catalogue. positives: query -> ids of all items known to answer
    it. encoder: start from this one (a new small one) instead of loading settings.encoder.
    """
    run = RunFolder(out)
    run.require_same(settings)
    encoder = encoder or Encoder.load(settings.encoder)
    dimensions = require_dimensions(settings, encoder)
    run.begin(settings, settings.fit.seed, pairs=len(pairs), items=len(items))
    if encoder.device.type == "cpu":
        encoder.network.set_attn_implementation("eager")  # sdpa's backward takes twice the time on CPUs, in bf16
    seed, hard = settings.fit.seed, None
    if settings.hard_negatives:
        queries = [pair.query for pair in pairs]
        hard = hard_negatives(settings.hard_negatives, queries, items, encoder, run.path / "words", seed)
    source = PairSource(
        pairs, items, positives or {}, encoder.tokenize,
        batch_size=settings.batch_size, random_negatives=settings.random_negatives,
        temperature=settings.temperature, seed=seed, epochs=settings.epochs,
        dimensions=dimensions, hard=hard,
    )  # fmt: skip
    parameters = encoder.network.parameters()
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, (0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fit(TwoTower(encoder, dimensions), source, [optimizer], budget, folder=run, on_update=progress)
    return write_encoder(encoder, run, settings.fields)


def require_dimensions(settings: Settings, encoder: Encoder) -> list[int]:
    """The shorter vectors that are trained, too. ValueError for lengths that the encoder does not have."""
    dimensions = settings.matryoshka or []
    if any(not 0 < d < encoder.dimension for d in dimensions):
        raise ValueError(f"matryoshka = {dimensions}: expected numbers from 1 to {encoder.dimension - 1}")
    return dimensions


def write_encoder(encoder: Encoder, run: RunFolder, fields: Sequence[str] = RENDERED_FIELDS) -> Path:
    """Save a trained encoder as the run's folder `encoder`; it appears complete or not at all.

    It remembers of which fields item texts were, so that an index gives it the same.
    """
    encoder.network.eval()
    encoder.rules = replace(encoder.rules, item_fields=tuple(fields))
    with new_folder(run.path / "encoder") as beside:
        encoder.save(beside)
    return run.path / "encoder"
