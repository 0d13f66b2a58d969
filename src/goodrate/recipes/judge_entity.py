"""A judge of entities, trained end to end: labels of items teach verdicts on (query, entity) through the logic.

It starts at the calibrated cosine of the whole item, which stands in the logic (relevance.entity_start), and learns how
its parts stand beside that; of the training the state is kept that is best on training queries that were held out.

After EBRM (arXiv 2307.00370); see relevance.entity_judge and docs/entity_judge.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from goodrate.catalog.splits import evenly
from goodrate.evaluation.classification import area_under_curve
from goodrate.examples.data import TrainingData
from goodrate.learning.best_state import BestState, with_checks
from goodrate.learning.fit import FitSettings, fit
from goodrate.models.cross_encoder import CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.recipes.dev_table import DEV_PAIRS, tune_and_measure
from goodrate.recipes.encoder_baseline import FIELDS, fitted_card
from goodrate.recipes.entity_learning import ItemLists, LogicScorer, StatedPairs, StateScorer
from goodrate.recipes.entity_lift import StatedPair, entity_shares, stated_pairs
from goodrate.recipes.held_out import SHARE, held_out, query_losses, told
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data, write_rows
from goodrate.relevance.catalog_entities import learned_rules, sharing
from goodrate.relevance.cross_encoder_judge import START
from goodrate.relevance.encoder_judge import EncoderJudge, write_own_encoder
from goodrate.relevance.entities import WHOLE_TEXT, Entity, EntityRules
from goodrate.relevance.entity_judge import MODEL_FOLDER, TOO_MANY, Card, EntityJudge, write_entity_judge
from goodrate.relevance.entity_model import MAX_TOKENS, STATES, corrected, new_model
from goodrate.relevance.entity_start import EntityStart
from goodrate.relevance.entity_verdicts import EntityTable
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import Item, JudgedPair, gold_labels
from goodrate.relevance.soft_logic import LABELS, UNKNOWN
from goodrate.run_folder import RunFolder, new_folder
from goodrate.scale import RelevanceScale, scale_entry

PRETRAINED = 5_000_000  # parameters from which on an encoder counts as pretrained, and its rate is that of one
HEAD_FACTOR = 10.0  # the head's rate over that of a pretrained encoder: its weights are new
PRETRAINING = "pretraining"
LAYERS = 2  # of a start that are trained
COSINE = "the cosine of the whole item in its logic, and the rule for what a query excludes"


class Settings(BaseModel):
    """Which model, which entities, which logic, and how long."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="text encoder to start from: sentence-transformers folder or hub id")
    sources: Literal["all", "structured", "spans"] = Field("all", description="of entities: attributes, spans, or both")
    types: int = Field(8, ge=0, description="of attributes that a query can constrain, beside brand and detail")
    tnorm: Literal["product", "goedel", "lukasiewicz", "mean"] = Field("product", description="mean: pooling, no logic")
    unknown: float = Field(UNKNOWN, ge=0, le=1, description="cost of a wanted type that an item says nothing of")
    logic_temperature: float = Field(1.0, ge=1, description="of long products")
    constraints_conflict: bool | None = Field(
        None,
        description="whether a constraint in conflict is more than one unmet; null = no on the scale esci, else yes",
    )
    start_fields: list[str] | None = Field(
        list(FIELDS), description="what the cosine that it starts at reads of an item; null = start from nothing"
    )
    language: str = Field("en", description="of the rule that what a query excludes is in conflict; empty = no rule")
    layers: int | None = Field(LAYERS, gt=0, description="the last so many of a start are trained; null = all")
    check_share: float = Field(
        SHARE, ge=0, lt=1,
        description="of the training queries, which say when to stop and whether training helped; 0 = train on all",
    )  # fmt: skip
    pretrain: int | None = Field(
        None, ge=0, description="passes over the query-entity pairs that judgements state; null = 2 without a start, "
        "else 0",
    )  # fmt: skip
    learning_rate: float | None = Field(
        None, gt=0,
        description="peak; null = for pretrained encoders 2e-5 from a start and 5e-5 without (the head's is 10 times "
        "it), else 5e-4",
    )  # fmt: skip
    weight_decay: float = Field(0.01, ge=0)
    queries: int = Field(4, gt=0, description="in an update")
    items: int = Field(8, gt=0, description="of each query in an update")
    epochs: int = Field(2, gt=0, description="passes over the judged pairs; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)


@dataclass(frozen=True)
class Setup:
    """What training starts from. start: what stands in the logic before it; None: nothing."""

    model: CrossEncoder
    rules: EntityRules
    card: Card
    start: EntityStart | None = None

    def judge(self) -> EntityJudge:
        """The judge with the model as it is; no verdict is kept."""
        silent = self.start is not None and not self.model.head.weight.any() and not self.model.head.bias.any()
        return EntityJudge(self.start if silent and self.start else _AsItIs(self.model, self.start), self.rules,
                           self.card)  # fmt: skip


class _AsItIs:
    """A model whose weights may change, as relevance.entity_verdicts asks one."""

    fingerprint = ""

    def __init__(self, model: CrossEncoder, start: EntityStart | None) -> None:
        self._model, self._start = model, start

    def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Support and conflict (N, 2)."""
        return corrected(self._model, self._start, queries, entities)


def set_up(
    settings: Settings, items: Sequence[Item], scale: RelevanceScale, pairs: Sequence[JudgedPair] = ()
) -> Setup:  # fmt: skip
    """The model with a new head, the rules of the catalogue's entities, the card, and the start of labelled pairs.

    Raises FileNotFoundError for a missing model, ValueError for a scale that the logic cannot give.
    """
    if len(scale) not in LABELS:
        raise ValueError(f"scale {scale.name} has {len(scale)} labels; {TOO_MANY}")
    encoder = Encoder.load(settings.model, precision="auto")
    most = min(MAX_TOKENS, encoder.rules.max_length)
    model = CrossEncoder(encoder, STATES, most, settings.fit.seed)
    rules, conflict = learned_rules(items, settings.sources, settings.types), settings.constraints_conflict
    if settings.start_fields is not None:
        rules = replace(rules, types=(*rules.types, WHOLE_TEXT), whole=tuple(settings.start_fields))
    card = Card(
        scale=scale_entry(scale), types=rules.types, sources=rules.sources, most=rules.most, tnorm=settings.tnorm,
        unknown=settings.unknown, logic_temperature=settings.logic_temperature, labelled_pairs=len(pairs),
        constraints_conflict=scale.name != "esci" if conflict is None else conflict, whole=rules.whole,
        language=settings.language if rules.whole else "",
    )  # fmt: skip
    if settings.start_fields is None:
        return Setup(new_model(model), rules, card)
    model.silence()
    frozen = Encoder.load(settings.model, precision="auto")
    odds = fitted_card(settings.model, frozen, scale, pairs, gold_labels(pairs), settings.start_fields)
    return Setup(model, rules, card, EntityStart(EncoderJudge(frozen, odds), card.logic, card.language))


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train on the training pairs; tune and measure on the dev queries."""
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    pairs, items = data.training_pairs(), list(data.rows.values())
    setup = set_up(settings, items, data.scale, pairs)
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, data.choice.split_seed)
    notes = train(settings, setup, pairs, items, out, progress)
    write_judge(out / "judge", setup)
    report = tune_and_measure(out / "judge", data)
    rows = {**report.rows, "category alone": _kind_row(out / "judge", data.pairs("dev"))}
    write_rows(out, rows)
    return TrainingResult(
        out / "judge", rows, (*data.notes, *notes, *report.notes), (*report.warnings, *report.advice)
    )  # fmt: skip


def train(
    settings: Settings, setup: Setup, pairs: Sequence[JudgedPair], items: Sequence[Item], out: Path, progress: Progress
) -> tuple[str, ...]:
    """Train the setup's model in place, first on stated pairs; a killed run resumes. Returns what is to be said."""
    training, best = prepared(settings, setup, pairs)
    if setup.start is not None and settings.check_share and best is None:
        return (told(None, COSINE),)
    notes = learn(settings, setup, training, items, out, progress, best)
    return (*notes, settled(setup.model, best))


def prepared(
    settings: Settings, setup: Setup, pairs: Sequence[JudgedPair]
) -> tuple[list[JudgedPair], BestState | None]:  # fmt: skip
    """The pairs to train on, and what watches over the held-out ones, where there are some."""
    model = setup.model
    if model.encoder.device.type == "cpu":
        model.network.set_attn_implementation("eager")  # sdpa's backward is slower on CPUs, most of all in bf16
    if setup.start is None:
        return list(pairs), None
    model.freeze_below(settings.layers)
    training, checked = held_out(pairs, settings.check_share, settings.fit.seed)
    if not checked:
        return training, None
    return training, BestState(model, lambda: query_losses(setup.judge().assess(checked).probabilities, checked))


def settled(model: CrossEncoder, best: BestState | None) -> str:
    """The model in its best state, with numbers of 0 where that is not surely better than the start; what to say."""
    if best is None:
        return ""
    best.restore()
    if not best.helped:
        model.silence()
    return told(best, COSINE)


def learn(
    settings: Settings, setup: Setup, pairs: Sequence[JudgedPair], items: Sequence[Item], out: Path,
    progress: Progress, best: BestState | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Train on all of the pairs to the end; what is to be said of them."""
    model, rules, notes = setup.model, setup.rules, []
    passes = settings.pretrain if settings.pretrain is not None else 0 if setup.start else 2
    if passes:
        stated = stated_of(pairs, rules, items, len(setup.card.relevance_scale) - 1)
        notes.append(f"pre-training on {len(stated):,} query-entity pairs that judgements state")
        if stated:
            source = StatedPairs(
                stated, model, batch_size=64, seed=settings.fit.seed, epochs=passes, start=setup.start
            )  # fmt: skip
            _fit(settings, setup, StateScorer(model), source, passes, out / PRETRAINING, progress, None)
    table = EntityTable(rules)
    lists = ItemLists(
        pairs, table, model, queries=settings.queries, items=settings.items, seed=settings.fit.seed,
        epochs=settings.epochs, start=setup.start,
    )  # fmt: skip
    notes.append(f"{len(pairs):,} pairs have {lists.asked:,} entities; {lists.read:,} query-entity pairs are read")
    scorer = LogicScorer(model, setup.card.logic, len(setup.card.relevance_scale))
    _fit(settings, setup, scorer, lists, settings.epochs, out, progress, settings.fit.updates, best)
    return tuple(notes)


def _fit(
    settings: Settings, setup: Setup, scorer: nn.Module, source: Any, epochs: int, out: Path,
    progress: Callable[..., None], updates: int | None, best: BestState | None = None,
) -> None:  # fmt: skip
    """One stage in its own folder; it ends at once where it is done already."""
    network = setup.model.network
    size = sum(weight.numel() for weight in network.parameters())
    usual = (2e-5 if setup.start else 5e-5) if size >= PRETRAINED else 5e-4
    rate, factor = settings.learning_rate or usual, HEAD_FACTOR if size >= PRETRAINED else 1.0
    groups = [
        {"params": [weight for weight in network.parameters() if weight.requires_grad], "lr": rate},
        {"params": list(setup.model.head.parameters()), "lr": factor * rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.model_copy(update={"updates": updates or source.batches_per_epoch * epochs})
    if out.name == PRETRAINING:
        budget = budget.model_copy(update={"seconds": None})
    folder = RunFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    more: dict[str, Any] = {} if best is None else {"stateful": {"best": best}, "evaluate": best.check}
    fit(scorer, source, [optimizer], with_checks(budget) if best else budget, folder=folder, on_update=progress, **more)


def stated_of(pairs: Sequence[JudgedPair], rules: EntityRules, items: Sequence[Item], best: int) -> list[StatedPair]:
    """Query-entity pairs that judgements state; the shares of the catalogue are over at most 20,000 items."""
    shares = entity_shares([rules.of(item) for item in evenly(items, 20_000)])
    return stated_pairs(pairs, rules, shares, best)


def write_judge(folder: Path, setup: Setup) -> None:
    """The judge's folder, whole or not at all; without a model where the start says all."""
    setup.model.eval()
    with new_folder(folder) as beside:
        if setup.start is not None:
            write_own_encoder(beside / START, setup.start.judge)
        if setup.start is None or setup.model.head.weight.any():
            setup.model.save(beside / MODEL_FOLDER)
        write_entity_judge(beside, replace(setup.card), setup.rules)


def _kind_row(folder: Path, pairs: Sequence[JudgedPair]) -> dict[str, float]:
    """How well the kind alone tells the worst label from the others on dev pairs, and how far entities are shared."""
    judge = open_judge(folder).inner
    assert isinstance(judge, EntityJudge)
    rows = [pair for pair in evenly(pairs, DEV_PAIRS) if len(judge.table.row(pair.item))]
    auc = float(area_under_curve(gold_labels(rows) > 0, judge.kind_degrees(rows)))
    return {"auc of kind": auc, **sharing([judge.table.row(pair.item).tolist() for pair in rows])}


JUDGE_ENTITY = Recipe(Settings, run)
