"""The model of a click ranker, its optimizers, and the folder that a training leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from goodrate.catalog.impressions import Impressions, read_impressions
from goodrate.learning.source import seed_of
from goodrate.models.click_network import ClickModel, Examination, PositionTower
from goodrate.models.deepfm import DeepFM
from goodrate.models.dynamic_table import SGD, EmbeddingEngine, EmbeddingSpec, RowWiseAdagrad, SparseAdam
from goodrate.ranking.propensities import ClickLog, estimated, from_randomised
from goodrate.ranking.ranker import Ranker, RankerCard, scales, write_ranker
from goodrate.ranking.ranker_features import FeatureSet
from goodrate.recipes.click_features import LogFeatures, pair_keys
from goodrate.recipes.click_report import dev_rows
from goodrate.recipes.click_settings import Settings
from goodrate.recipes.click_source import Reading, is_dev
from goodrate.recipes.registry import TrainingResult, write_rows
from goodrate.run_folder import RunFolder

SCALES = "scales"  # the stage that settles what the numbers are scaled by, and the propensities
PLACES = 50  # of a page, below which all places are like the last one
TABLE_OPTIMIZERS = {"sgd": SGD, "row_wise_adagrad": RowWiseAdagrad, "adam": SparseAdam}


def settled_reading(settings: Settings, folder: RunFolder, first: Callable[[], LogFeatures]) -> Reading:
    """How impressions become batches: settled on the first ones, and the same for all that is added."""
    if not folder.stage_done(SCALES):
        log = first()
        rows = np.flatnonzero(~is_dev(log, settings.dev_share))
        if not len(rows):
            raise ValueError(f"{settings.events}: no query is left to learn from; set a smaller dev_share")
        if not log.log.clicked[rows].any():
            raise ValueError(f"{settings.events}: none of the {len(rows):,} impressions to learn from was clicked")
        mean, spread = scales(log.dense(rows))
        given = _propensities(settings, log, rows)
        told = None if given is None else given.tolist()
        folder.mark_done(SCALES, {"mean": list(mean), "spread": list(spread), "propensities": told})
    held = folder.stage_payload(SCALES)
    told = held["propensities"]
    return Reading(
        settings.correction, settings.batch_size, settings.passes, settings.fit.seed, tuple(held["mean"]),
        tuple(held["spread"]), None if told is None else np.asarray(told), settings.clip,
    )  # fmt: skip


def _propensities(settings: Settings, log: LogFeatures, rows: np.ndarray) -> np.ndarray | None:
    """Those that are given or read from a randomised log; for ipw those that are estimated, too."""
    if settings.propensities is not None:
        return np.asarray(settings.propensities)
    if settings.randomised is not None:
        random = Impressions.of(read_impressions(settings.randomised, settings.events_map or None, settings.skip_bad))
        return from_randomised(random.position, random.clicked)
    if settings.correction != "ipw":
        return None
    held = log.log
    return estimated(ClickLog(pair_keys(held)[rows], held.position[rows], held.clicked[rows]))


@dataclass(frozen=True)
class Trained:
    """What a ranker's folder is written from. judge: its name. rows: impressions learned from. dev: those that were
    kept for measuring, and which of them (R,); None without any.
    """

    features: FeatureSet
    reading: Reading
    model: ClickModel
    judge: str | None
    rows: int
    updates: int
    dev: LogFeatures | None
    dev_rows: np.ndarray


def written(settings: Settings, folder: Path, trained: Trained, notes: Iterator[str]) -> TrainingResult:
    """The ranker's folder, the table of the dev queries, and what has to be said."""
    facts = {"impressions": trained.rows, "updates": trained.updates, "events": settings.events}
    card = RankerCard(
        trained.features, trained.reading.mean, trained.reading.spread, settings.dim, tuple(settings.hidden),
        correction=settings.correction, judge=trained.judge, trained=facts,
    )  # fmt: skip
    weights = {name: weight.detach().cpu().numpy() for name, weight in trained.model.wanted.state_dict().items()}
    ranker = write_ranker(folder / "ranker", card, weights, table_rows(trained.model))
    rows = {} if trained.dev is None else dev_rows(Ranker.open(ranker), trained.dev, trained.dev_rows)
    write_rows(folder, rows)
    return TrainingResult(ranker, rows, (*notes, *_of_places(trained.model)))


def _of_places(model: ClickModel) -> Iterator[str]:
    seen = places(model)
    if seen is not None:
        shown = ", ".join(f"{value:.2f}" for value in seen[:10])
        yield f"examination of the places 1 to {min(10, len(seen))}: {shown}"


def new_model(settings: Settings, features: FeatureSet, reading: Reading) -> ClickModel:
    """A model that knows nothing, the same for the same settings."""
    torch.manual_seed(seed_of(settings.fit.seed, "network"))
    specs = {name: EmbeddingSpec(1 + settings.dim, init_scale=0.01) for name in features.sparse}
    engine = EmbeddingEngine(specs, settings.fit.seed)
    wanted = DeepFM(engine, features.sparse, settings.dim, len(features.dense), settings.hidden, settings.dropout)
    given = None if reading.propensities is None else reading.propensities.tolist()
    of_place: dict[str, nn.Module] = {}
    if settings.correction == "position_tower":
        of_place["tower"] = PositionTower(PLACES)
    if settings.correction == "examination":
        of_place["examination"] = Examination(PLACES, given)
    return ClickModel(wanted, of_place)


def new_optimizers(settings: Settings, model: ClickModel) -> list[torch.optim.Optimizer]:
    """AdamW of the dense weights, and what goes with it for the tables."""
    groups: list[dict[str, Any]] = [{"params": model.wanted.parameters(), "weight_decay": settings.weight_decay}]
    if model.places:  # few numbers that every impression tells of
        groups.append({"params": model.places.parameters(), "weight_decay": 0.0, "lr": settings.place_rate})
    dense = torch.optim.AdamW(groups, settings.learning_rate)
    engine = model.wanted.embed
    assert isinstance(engine, EmbeddingEngine)
    return [dense, TABLE_OPTIMIZERS[settings.table_optimizer](engine, lr=settings.table_rate)]


def table_rows(model: ClickModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Feature -> ids (N,) and rows (N, 1 + D) of its table, from all processes. All of them call it."""
    engine = model.wanted.embed
    assert isinstance(engine, EmbeddingEngine)
    rows = {}
    for name, table in engine.tables.items():
        ids = table.ids()
        parts = engine.ranks.gathered((ids.cpu().numpy(), table.slot(ids).detach().cpu().numpy()))
        own, values = zip(*parts, strict=True)
        rows[name] = np.concatenate(own), np.concatenate(values)
    return rows


def places(model: ClickModel) -> np.ndarray | None:
    """The examination of the places 1 to PLACES that the model was given or has learned; None without one."""
    if "examination" not in model.places:
        return None
    with torch.no_grad():
        return model.places["examination"](torch.arange(1, PLACES + 1)).exp().numpy()
