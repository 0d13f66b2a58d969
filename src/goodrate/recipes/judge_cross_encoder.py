"""A cross-encoder as a judge: an encoder that reads query and item together, fine-tuned on graded lists.

It starts at the calibrated cosine of the same encoder and learns a correction of it, 0 at first; of the training the
state is kept that is best on training queries that were held out, the start included (learning.best_state). Cross-
entropy over labels and an order within each query (learning.graded_lists). With silver items of the catalogue, and
after a training on a cosine's own grades, where the settings ask for them (recipes.silver_pairs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.examples.data import TrainingData
from goodrate.learning.best_state import BestState, with_checks
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
from goodrate.models.cross_encoder import CrossEncoder, PairTokens
from goodrate.models.encoder import Encoder
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.encoder_baseline import FIELDS, encoder_card, fitted_card
from goodrate.recipes.held_out import SHARE, held_out, query_losses, told
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.recipes.silver_pairs import (
    Neighbourhood,
    PretrainSettings,
    SilverSettings,
    cosine_grades,
    silver_items,
    title_words,
)
from goodrate.relevance.calibration import softmax
from goodrate.relevance.cross_encoder_judge import Card, pair_tokens, start_logits, write_cross_encoder_judge
from goodrate.relevance.encoder_judge import EncoderJudge, write_own_encoder
from goodrate.relevance.pairs import Item, JudgedPair, Pair, gold_labels
from goodrate.run_folder import RunFolder, new_folder
from goodrate.scale import RelevanceScale, scale_entry

LAYERS = 2  # that are trained: few labels teach little, and what lies below cannot be forgotten
HEAD_FACTOR = 10.0  # the head's rate over the encoder's: its weights are new
ITEMS = 5000  # drawn from a larger catalogue, for silver pairs
PRETRAIN = "pretrain"
COSINE = "the calibrated cosine that it started from"


class Settings(BaseModel):
    """What to start from, what is read, and how it is trained."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="text encoder to start from: a sentence-transformers or BERT folder, or a hub id")
    fields: list[str] = Field(default=list(FIELDS), description="what is read of an item")
    max_tokens: int = Field(default=96, gt=0, description="of query and item together; an item loses its end")
    start_fields: list[str] | None = Field(
        default=list(FIELDS),
        description="what the cosine that it starts at reads of an item; null = start from nothing",
    )
    layers: int | None = Field(default=LAYERS, gt=0, description="the last so many are trained; null = all")
    check_share: float = Field(
        default=SHARE, ge=0, lt=1,
        description="of the training queries, which say when to stop and whether training helped; 0 = train on all",
    )  # fmt: skip
    product: bool = Field(default=True, description="the head reads how alike the two texts' states are, too")
    order: Order = Field(default="pairwise", description="of a query's items: RankNet, LambdaLoss, or labels alone")
    order_weight: float = Field(default=1.0, gt=0, description="of the order's loss beside that of the labels")
    silver: SilverSettings | None = Field(default=None, description="unjudged items as the lowest label; null = none")
    pretrain: PretrainSettings | None = Field(default=None, description="learn a cosine's grades first; null = no")
    encoder: str | None = Field(
        default=None, description="whose cosine is the start, or graded, and finds hard items; null = the model"
    )
    learning_rate: float = Field(default=2e-5, gt=0, allow_inf_nan=False, description="peak; the head's is 10 times it")
    weight_decay: float = Field(default=0.01, ge=0)
    queries: int = Field(default=8, gt=0, description="in one update")
    items: int = Field(default=8, gt=0, description="judged items of each, drawn anew every time")
    micro_tokens: int = Field(default=16384, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=5, gt=0, description="passes over the queries; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrain is not None and self.start_fields is not None:
            raise ValueError(
                "pretrain teaches a cosine's grades, which start_fields starts at without training: "
                "leave pretrain out, or set start_fields to null"
            )
        return self


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train on the training pairs; tune and measure on dev beside a constant and a cosine."""
    encoder = Encoder.load(settings.model, precision="auto")
    model = CrossEncoder(encoder, len(data.scale), settings.max_tokens, settings.fit.seed, settings.product)
    card = Card(scale=scale_entry(data.scale), max_tokens=settings.max_tokens, fields=tuple(settings.fields))
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    pairs = data.training_pairs()
    start = started(settings, pairs, data.scale)
    if start is not None:
        model.silence()
    hood = neighbourhood(settings, encoder, pairs, list(data.rows.values()), data.scale)
    task, lost = task_of(settings, model, pairs, data.scale, start, silver_of(settings, pairs, hood))
    before = pretraining_lists(model, settings, pairs, hood) if settings.pretrain else []
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, settings.fit.seed)
    notes = [settled(model, task, train(settings, model, task, data.scale, out, progress, before))]
    with new_folder(out / "judge") as beside:
        write(beside, replace(card, labelled_pairs=len(pairs) - lost), model, start)
    rival = data.baseline or settings.encoder or settings.model
    report = tune_and_measure(out / "judge", replace(data, baseline=rival))
    notes += [f"{lost:,} training pairs left out: the query leaves no room for an item"] if lost else []
    said = (*data.notes, *(note for note in notes if note), *report.notes)
    return TrainingResult(out / "judge", report.rows, said, (*report.warnings, *report.advice))


@dataclass(frozen=True)
class Task:
    """lists: to train on. checked, tokens, start: pairs that were held out, as they are read, and the start's logits
    (N, L) of them. alone: the start holds where nobody can tell whether training helps.
    """

    lists: Sequence[GradedList]
    checked: Sequence[JudgedPair] = ()
    tokens: Sequence[PairTokens | None] = ()
    start: np.ndarray | None = None
    alone: bool = False

    def losses(self, model: CrossEncoder) -> np.ndarray:
        """Log-loss (Q,) of each held-out query."""
        numbers = model.numbers(self.tokens)
        return query_losses(softmax(numbers if self.start is None else numbers + self.start), self.checked)


def started(settings: Settings, pairs: Sequence[JudgedPair], scale: RelevanceScale) -> EncoderJudge | None:
    """The calibrated cosine of the training labels, by an encoder that is not trained; None where none is wanted."""
    if settings.start_fields is None:
        return None
    name = settings.encoder or settings.model
    encoder = Encoder.load(name, precision="auto")
    return EncoderJudge(encoder, fitted_card(name, encoder, scale, pairs, gold_labels(pairs), settings.start_fields))


def task_of(
    settings: Settings, model: CrossEncoder, pairs: Sequence[JudgedPair], scale: RelevanceScale,
    start: EncoderJudge | None, silver: Mapping[str, Sequence[Item]],
) -> tuple[Task, int]:  # fmt: skip
    """What is trained on and what is held out, and how many pairs were left out because their query leaves no room.

    silver: unjudged items by query.
    """
    training, checked = held_out(pairs, settings.check_share, settings.fit.seed) if start else (pairs, [])
    mine = {pair.query for pair in training}
    silver = {query: items for query, items in silver.items() if query in mine}
    lists, lost = graded_lists(model, training, scale, settings, silver, start)
    if start is None:
        return Task(lists), lost
    tokens = pair_tokens(model, [one.query for one in checked], [one.item for one in checked], settings.fields)
    unread = sum(one is None for one in tokens)
    alone = settings.check_share > 0 and not checked
    return Task(lists, checked, tokens, start_logits(start, checked), alone), lost + unread


def write(folder: Path, card: Card, model: CrossEncoder, start: EncoderJudge | None) -> None:
    """The judge's folder: of the start alone where the numbers are all 0."""
    if start is not None and not model.head.weight.any():
        write_own_encoder(folder, start)
    else:
        write_cross_encoder_judge(folder, card, model, start)


def train(
    settings: Settings, model: CrossEncoder, task: Task, scale: RelevanceScale, out: Path, progress: Progress,
    before: Sequence[GradedList] = (),
) -> BestState | None:  # fmt: skip
    """Train in place, first on the lists `before` where there are some; a killed run resumes from `out`.

    With queries that were held out the model ends in its best state on them, which is returned.
    """
    if task.alone:
        return None
    if model.encoder.device.type == "cpu":
        model.network.set_attn_implementation("eager")  # sdpa's backward is the slower one on CPUs
    if before:
        assert settings.pretrain is not None
        budget = settings.fit.model_copy(update={"updates": None, "seconds": None})
        first = settings.model_copy(update={"fit": budget, "epochs": settings.pretrain.epochs, "order": "none"})
        _fit(first, model, before, scale, RunFolder(out / PRETRAIN), progress)
    model.freeze_below(settings.layers)
    best = BestState(model, lambda: task.losses(model)) if task.checked else None
    _fit(settings, model, task.lists, scale, RunFolder(out), progress, best)
    model.eval()
    if best is not None:
        best.restore()
    return best


def settled(model: CrossEncoder, task: Task, best: BestState | None) -> str:
    """Numbers of 0 where the best state is not surely better than the start; what is to be said of the training."""
    if best is None:
        return told(None, COSINE) if task.alone else ""
    if not best.helped:
        model.silence()
    return told(best, COSINE)


def _fit(
    settings: Settings, model: CrossEncoder, lists: Sequence[GradedList], scale: RelevanceScale, folder: RunFolder,
    progress: Progress, best: BestState | None = None,
) -> None:  # fmt: skip
    silver = settings.silver.random + settings.silver.hard if settings.silver else 0
    shape = Shape(settings.queries, settings.items, silver, settings.micro_tokens)
    terms = terms_of(scale.gains, settings.order, settings.order_weight)
    source = GradedListSource(
        lists, terms, model.collate, shape, seed=settings.fit.seed, epochs=settings.epochs
    )  # fmt: skip
    groups = [
        {"params": [weight for weight in model.network.parameters() if weight.requires_grad],
         "lr": settings.learning_rate},
        {"params": list(model.head.parameters()), "lr": HEAD_FACTOR * settings.learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    more = {} if best is None else {"stateful": {"best": best}, "evaluate": best.check}
    fit(ListScorer(model), source, [optimizer], with_checks(budget) if best else budget, folder=folder,
        on_update=progress, **more)  # fmt: skip


def graded_lists(
    model: CrossEncoder, pairs: Sequence[JudgedPair], scale: RelevanceScale, settings: Settings,
    silver: Mapping[str, Sequence[Item]], start: EncoderJudge | None = None,
) -> tuple[list[GradedList], int]:  # fmt: skip
    """A list for each query, and how many pairs were left out because their query leaves no room.

    silver: unjudged items by query. Raises ValueError when no pair is left.
    """
    targets = np.eye(len(scale))[gold_labels(pairs)]
    graded = _by_query(model, pairs, targets, [pair.weight for pair in pairs], settings.fields, start)
    if not graded:
        raise ValueError(f"max_tokens = {settings.max_tokens} leaves no room for an item in any of {len(pairs)} pairs")
    guessed = [Pair(query, item) for query in graded for item in silver.get(query, ())]
    weights = [settings.silver.weight if settings.silver else 1.0] * len(guessed)
    worst = np.tile(np.eye(len(scale))[0], (len(guessed), 1))
    unjudged = _by_query(model, guessed, worst, weights, settings.fields, start)
    lists = [GradedList(tuple(mine), tuple(unjudged.get(query, ()))) for query, mine in graded.items()]
    return lists, len(pairs) - sum(len(one.graded) for one in lists)


def _by_query(
    model: CrossEncoder, pairs: Sequence[Pair], targets: np.ndarray, weights: Sequence[float], fields: Sequence[str],
    start: EncoderJudge | None = None,
) -> dict[str, list[GradedPair]]:  # fmt: skip
    """Those that the model can read, by query, with the start's logits."""
    tokens = pair_tokens(model, [pair.query for pair in pairs], [pair.item for pair in pairs], fields)
    found: dict[str, list[GradedPair]] = {}
    logits = start_logits(start, pairs) if start is not None else np.zeros((len(pairs), 0))
    for pair, read, target, weight, own in zip(pairs, tokens, targets.tolist(), weights, logits.tolist(), strict=True):
        if read is not None:
            found.setdefault(pair.query, []).append(GradedPair(read, tuple(target), weight, tuple(own)))
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
