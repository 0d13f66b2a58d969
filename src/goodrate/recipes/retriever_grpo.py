"""Retrieval-GRPO: a retriever learns from its own top K, graded (TaoSearchEmb, arXiv 2511.13885 stage 2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
from goodrate.learning.advantages import Scale, group_relative
from goodrate.learning.contrastive import TwoTower
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.ranking_source import Grade, QueryExample, RankingSettings, RankingSource
from goodrate.learning.ranking_terms import RankingTermSettings, ranking_terms
from goodrate.learning.records import Ranking, Reward
from goodrate.models.encoder import Encoder
from goodrate.recipes.retriever_contrastive import FIELDS_TEXT, write_encoder
from goodrate.run_folder import RunFolder


class Settings(BaseModel):
    """How to train a retriever on its own rankings."""

    model_config = ConfigDict(extra="forbid")
    encoder: str = Field(description="sentence-transformers folder to start from; it is also the reference")
    fields: list[str] = Field(default=list(RENDERED_FIELDS), description=FIELDS_TEXT)
    learning_rate: float = Field(default=1e-4, gt=0, description="1e-6 for pretrained encoders of 0.5B up")
    weight_decay: float = Field(default=0.0, ge=0)
    advantage_scale: Scale = Field(default="population", description="z-score, or none: differences from the mean")
    advantage_clamp: float = Field(default=3.0, gt=0)
    separate: float | None = Field(
        default=None, ge=0,
        description="one loss per part of the reward, each normalised by itself, all but relevance at this weight; "
        "null = one loss on the fused reward",
    )  # fmt: skip
    rankings: RankingSettings = Field(default_factory=RankingSettings)
    loss: RankingTermSettings = Field(default_factory=RankingTermSettings)
    fit: FitSettings = Field(default_factory=lambda: FitSettings(updates=200))

    @field_validator("fields")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        check_fields(value)
        return value


def credited(ranking: Ranking, reward: Reward, settings: Settings) -> dict[str, Tensor]:
    """Advantages over the K candidates of a query, and the rewards themselves; (P, K) each.

    separate: each part of the reward has its own advantages, and all but relevance weigh this much. Policy gradients
    are linear in the advantages, so that their sum is the gradient of the separate losses' sum (on-policy, no clip).
    """
    shape = ranking.candidates.shape
    group = ranking.group.repeat_interleave(shape[1])
    weighted = [(1.0, reward.outcome)]
    if settings.separate is not None:
        unknown = reward.outcome.isnan()
        weights = {name: 1.0 if name == "relevance" else settings.separate for name in reward.parts}
        weighted = [(weights[name], part.masked_fill(unknown, float("nan"))) for name, part in reward.parts.items()]
    scaling: dict[str, Any] = {"scale": settings.advantage_scale, "clamp": settings.advantage_clamp}
    advantages = torch.stack([weight * group_relative(part, group, **scaling) for weight, part in weighted]).sum(0)
    return {"advantages": advantages.view(shape), "rewards": reward.outcome.nan_to_num(0.0).view(shape)}


def without_dropout(encoder: Encoder) -> Encoder:
    """The encoder itself, its dropout off for good: with it, ranking and loss would score by two functions."""
    for part in encoder.network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return encoder


def train(
    settings: Settings,
    queries: Sequence[QueryExample],
    items: Sequence[str],
    grade: Grade,
    out: str | Path,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train and write the encoder folder `out/encoder`; a killed run resumes from `out`.

    items: texts of settings.fields, the whole catalogue.
    """
    run = RunFolder(out)
    run.begin(settings, settings.fit.seed, queries=len(queries), items=len(items))
    encoder = without_dropout(Encoder.load(settings.encoder, precision=settings.fit.precision))
    if encoder.device.type == "cpu":
        encoder.network.set_attn_implementation("eager")
    needed = settings.loss.kl_weight > 0 or settings.loss.objective == "dpo" or settings.rankings.pool == "start"
    terms = ranking_terms(settings.loss, settings.rankings.temperature, settings.rankings.inner_steps == 1)
    source = RankingSource(
        settings.rankings, encoder, queries, items, grade,
        lambda ranking, reward: credited(ranking, reward, settings), terms,
        seed=settings.fit.seed, reference=copy.deepcopy(encoder) if needed else None,
    )  # fmt: skip
    parameters = encoder.network.parameters()
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, (0.9, 0.98), weight_decay=settings.weight_decay)
    fit(TwoTower(encoder), source, [optimizer], settings.fit, folder=run, on_update=progress)
    return write_encoder(encoder, run, settings.fields)
