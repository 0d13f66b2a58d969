"""A cross-encoder as a judge: an encoder that reads query and item together, fine-tuned on graded lists.

Cross-entropy over labels and an order within each query (learning.graded_lists). With silver items of the catalogue,
and after a training on a cosine's own grades, where the settings ask for them (recipes.silver_pairs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.data import TrainingData
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.graded_lists import (
    GradedList,
    GradedListSource,
    GradedPair,
    ListScorer,
    Order,
    Shape,
    terms_of,
)
from goodrate.models.cross_encoder import CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.encoder_baseline import FIELDS, encoder_card, fitted_card
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.recipes.silver_pairs import (
    Neighbourhood,
    PretrainSettings,
    SilverSettings,
    cosine_grades,
    silver_items,
    title_words,
)
from goodrate.relevance.cross_encoder_judge import Card, pair_tokens, write_cross_encoder_judge
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.pairs import Item, JudgedPair, Pair, gold_labels
from goodrate.run_folder import RunFolder, new_folder
from goodrate.scale import RelevanceScale, scale_entry

HEAD_FACTOR = 10.0  # the head's rate over the encoder's: its weights are new
ITEMS = 5000  # drawn from a larger catalogue, for silver pairs
PRETRAIN = "pretrain"


class Settings(BaseModel):
    """What to start from, what is read, and how it is trained."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="text encoder to start from: a sentence-transformers or BERT folder, or a hub id")
    fields: list[str] = Field(default=list(FIELDS), description="what is read of an item")
    max_tokens: int = Field(default=96, gt=0, description="of query and item together; an item loses its end")
    product: bool = Field(default=True, description="the head reads how alike the two texts' states are, too")
    order: Order = Field(default="pairwise", description="of a query's items: RankNet, LambdaLoss, or labels alone")
    order_weight: float = Field(default=1.0, gt=0, description="of the order's loss beside that of the labels")
    silver: SilverSettings | None = Field(default=None, description="unjudged items as the lowest label; null = none")
    pretrain: PretrainSettings | None = Field(default=None, description="learn a cosine's grades first; null = no")
    encoder: str | None = Field(
        default=None, description="whose cosine that is, and finds hard items; null = the model"
    )
    learning_rate: float = Field(default=5e-5, gt=0, allow_inf_nan=False, description="peak; the head's is 10 times it")
    weight_decay: float = Field(default=0.01, ge=0)
    queries: int = Field(default=8, gt=0, description="in one update")
    items: int = Field(default=8, gt=0, description="judged items of each, drawn anew every time")
    micro_tokens: int = Field(default=16384, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=5, gt=0, description="passes over the queries; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train on the training pairs; tune and measure on dev beside a constant and a cosine."""
    encoder = Encoder.load(settings.model, precision="auto")
    model = CrossEncoder(encoder, len(data.scale), settings.max_tokens, settings.fit.seed, settings.product)
    card = Card(scale=scale_entry(data.scale), max_tokens=settings.max_tokens, fields=tuple(settings.fields))
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    pairs = data.training_pairs()
    hood = neighbourhood(settings, encoder, pairs, list(data.rows.values()), data.scale)
    silver = silver_of(settings, pairs, hood)
    lists, lost = graded_lists(model, pairs, data.scale, settings, silver)
    before = pretraining_lists(model, settings, pairs, hood) if settings.pretrain else []
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, settings.fit.seed)
    train(settings, model, lists, data.scale, out, progress, before)
    with new_folder(out / "judge") as beside:
        write_cross_encoder_judge(beside, replace(card, labelled_pairs=len(pairs) - lost), model)
    rival = data.baseline or settings.encoder or settings.model
    report = tune_and_measure(out / "judge", replace(data, baseline=rival))
    notes = [f"{lost:,} training pairs left out: the query leaves no room for an item"] if lost else []
    said = (*data.notes, *notes, *report.notes)
    return TrainingResult(out / "judge", report.rows, said, (*report.warnings, *report.advice))


def train(
    settings: Settings, model: CrossEncoder, lists: Sequence[GradedList], scale: RelevanceScale, out: Path,
    progress: Progress, before: Sequence[GradedList] = (),
) -> None:  # fmt: skip
    """Train in place, first on the lists `before` where there are some; a killed run resumes from `out`."""
    if model.encoder.device.type == "cpu":
        model.network.set_attn_implementation("eager")  # sdpa's backward is the slower one on CPUs
    if before:
        assert settings.pretrain is not None
        budget = settings.fit.model_copy(update={"updates": None, "seconds": None})
        first = settings.model_copy(update={"fit": budget, "epochs": settings.pretrain.epochs, "order": "none"})
        _fit(first, model, before, scale, RunFolder(out / PRETRAIN), progress)
    _fit(settings, model, lists, scale, RunFolder(out), progress)
    model.eval()


def _fit(
    settings: Settings, model: CrossEncoder, lists: Sequence[GradedList], scale: RelevanceScale, folder: RunFolder,
    progress: Progress,
) -> None:  # fmt: skip
    silver = settings.silver.random + settings.silver.hard if settings.silver else 0
    shape = Shape(settings.queries, settings.items, silver, settings.micro_tokens)
    terms = terms_of(scale.gains, settings.order, settings.order_weight)
    source = GradedListSource(
        lists, terms, model.collate, shape, seed=settings.fit.seed, epochs=settings.epochs
    )  # fmt: skip
    groups = [
        {"params": list(model.network.parameters()), "lr": settings.learning_rate},
        {"params": list(model.head.parameters()), "lr": HEAD_FACTOR * settings.learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fit(ListScorer(model), source, [optimizer], budget, folder=folder, on_update=progress)


def graded_lists(
    model: CrossEncoder, pairs: Sequence[JudgedPair], scale: RelevanceScale, settings: Settings,
    silver: Mapping[str, Sequence[Item]],
) -> tuple[list[GradedList], int]:  # fmt: skip
    """A list for each query, and how many pairs were left out because their query leaves no room.

    silver: unjudged items by query. Raises ValueError when no pair is left.
    """
    targets = np.eye(len(scale))[gold_labels(pairs)]
    graded = _by_query(model, pairs, targets, [pair.weight for pair in pairs], settings.fields)
    if not graded:
        raise ValueError(f"max_tokens = {settings.max_tokens} leaves no room for an item in any of {len(pairs)} pairs")
    guessed = [Pair(query, item) for query in graded for item in silver.get(query, ())]
    weights = [settings.silver.weight if settings.silver else 1.0] * len(guessed)
    worst = np.tile(np.eye(len(scale))[0], (len(guessed), 1))
    unjudged = _by_query(model, guessed, worst, weights, settings.fields)
    lists = [GradedList(tuple(mine), tuple(unjudged.get(query, ()))) for query, mine in graded.items()]
    return lists, len(pairs) - sum(len(one.graded) for one in lists)


def _by_query(
    model: CrossEncoder, pairs: Sequence[Pair], targets: np.ndarray, weights: Sequence[float], fields: Sequence[str]
) -> dict[str, list[GradedPair]]:
    """Those that the model can read, by query."""
    tokens = pair_tokens(model, [pair.query for pair in pairs], [pair.item for pair in pairs], fields)
    found: dict[str, list[GradedPair]] = {}
    for pair, read, target, weight in zip(pairs, tokens, targets.tolist(), weights, strict=True):
        if read is not None:
            found.setdefault(pair.query, []).append(GradedPair(read, tuple(target), weight))
    return found


def neighbourhood(
    settings: Settings, start: Encoder, pairs: Sequence[JudgedPair], items: Sequence[Item], scale: RelevanceScale
) -> Neighbourhood | None:
    """What silver pairs are made of; None where the settings want none. start: the encoder of settings.model."""
    if settings.silver is None and settings.pretrain is None:
        return None
    name = settings.encoder or settings.model
    encoder = Encoder.load(name, precision="auto") if settings.encoder else start
    if settings.pretrain is None:
        card = encoder_card(name, encoder, scale, settings.fields)
    else:
        card = fitted_card(name, encoder, scale, pairs, gold_labels(pairs), settings.fields)
    return Neighbourhood.drawn(items, EncoderJudge(encoder, card), ITEMS, settings.fit.seed)


def silver_of(
    settings: Settings, pairs: Sequence[JudgedPair], hood: Neighbourhood | None
) -> dict[str, list[Item]]:  # fmt: skip
    """Unjudged items by training query; none where the settings want none."""
    if settings.silver is None or hood is None:
        return {}
    judged: dict[str, set[str]] = {}
    for pair in pairs:
        judged.setdefault(pair.query, set()).add(pair.item_id)
    return silver_items(judged, hood, settings.silver, settings.fit.seed)


def pretraining_lists(
    model: CrossEncoder, settings: Settings, pairs: Sequence[JudgedPair], hood: Neighbourhood | None
) -> list[GradedList]:
    """The training queries, and words out of titles, with items that the cosine grades."""
    assert settings.pretrain is not None and hood is not None
    words = title_words(hood.items, settings.pretrain.queries, settings.fit.seed)
    queries = list(dict.fromkeys([*(pair.query for pair in pairs), *words]))
    grades = cosine_grades(queries, hood, settings.pretrain, settings.fit.seed)
    weights = [1.0] * len(grades.pairs)
    graded = _by_query(model, grades.pairs, grades.targets, weights, settings.fields)
    return [GradedList(tuple(mine)) for mine in graded.values()]


JUDGE_CROSS_ENCODER = Recipe(Settings, run)
