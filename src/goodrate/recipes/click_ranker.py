"""A click ranker: learned from impressions, with position bias taken out, and written as a folder that serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from goodrate.catalog.impressions import Impressions, placed_impressions
from goodrate.learning.click_terms import Correction
from goodrate.learning.fit import FitResult, FitSettings, fit
from goodrate.learning.source import seed_of
from goodrate.models.click_network import ClickModel, Examination, PositionTower
from goodrate.models.deepfm import DeepFM
from goodrate.models.dynamic_table import SGD, EmbeddingEngine, EmbeddingSpec, RowWiseAdagrad, SparseAdam
from goodrate.ranking.propensities import ClickLog, check_propensities, estimated, from_randomised
from goodrate.ranking.ranker import Ranker, RankerCard, scales, write_ranker
from goodrate.ranking.ranker_features import CHANNELS, OF_ITEMS, SPARSE, FeatureSet
from goodrate.recipes.click_features import LogFeatures, PairReader, pair_keys, pair_reader
from goodrate.recipes.click_report import dev_rows
from goodrate.recipes.click_source import ClickSource, Reading, is_dev
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.run_folder import RunFolder, file_stamp

SCALES = "scales"  # the stage that settles what the numbers are scaled by, and the propensities
PLACES = 50  # of a page, below which all places are like the last one
TABLE_OPTIMIZERS = {"sgd": SGD, "row_wise_adagrad": RowWiseAdagrad, "adam": SparseAdam}


class Settings(BaseModel):
    """What to learn from and how."""

    model_config = ConfigDict(extra="forbid")
    events: str = Field(description="impressions: a file or a folder of files with query, item_id, position, clicked")
    events_map: dict[str, str] = Field(default={}, description="our column = the file's column")
    skip_bad: int = Field(default=0, ge=0, description="bad rows to tolerate in each file")
    index: str = Field(description="folder of `goodrate index`: the items, and the search whose scores are read")
    judge: str | None = Field(default=None, description="folder of the judge whose probabilities are read; null = none")
    facts: str | None = Field(default=None, description="facts.jsonl for the judge; null = that of the index, if any")
    correction: Correction = Field(
        default="examination", description="of position bias: examination (the position-based click model), "
        "position_tower (a logit of the place, dropped when serving), ipw (inverse propensity weights), naive (none)",
    )  # fmt: skip
    propensities: list[float] | None = Field(
        default=None, description="chance that the places 1, 2, ... are looked at; null = estimated from the clicks"
    )
    randomised: str | None = Field(
        default=None, description="impressions of pages in random order, to read propensities from"
    )
    clip: float = Field(default=10.0, ge=1, description="largest weight of a click, with ipw")
    sparse: list[str] = Field(default=list(SPARSE), min_length=1, description="ids that are features")
    channels: list[str] = Field(default=list(CHANNELS), description="of the search, whose scores are features")
    items: list[str] = Field(default=list(OF_ITEMS), description="numbers of the item that are features")
    rating_count: str | None = Field(default=None, description="number of ratings of an item: attributes.NAME")
    dim: int = Field(default=8, gt=0, description="floats of an embedding")
    hidden: list[int] = Field(default=[16], description="widths of the hidden layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the network's inputs and hidden layers")
    learning_rate: float = Field(default=3e-3, gt=0, description="of the dense weights")
    place_rate: float = Field(default=0.03, gt=0, description="of what is learned of the places of a page")
    table_optimizer: Literal["sgd", "row_wise_adagrad", "adam"] = Field(
        default="sgd", description="of the embeddings; with sgd an id moves as far as its clicks are surprising"
    )
    table_rate: float = Field(default=4.0, gt=0, description="of the embeddings")
    weight_decay: float = Field(default=0.01, ge=0, description="of the dense weights")
    batch_size: int = Field(default=512, gt=0)
    epochs: int = Field(default=3, gt=0, description="passes over the log, and over what it has grown by")
    dev_share: float = Field(default=0.1, ge=0, lt=1, description="of the queries, for the table at the end")
    follow: bool = Field(default=False, description="wait for more impressions and write a new ranker for them")
    follow_seconds: float | None = Field(default=None, gt=0, description="how long to wait in all; null = until Ctrl-C")
    poll_seconds: float = Field(default=5.0, gt=0, description="between two looks at the log")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(schedule="constant", warmup=0.0, precision="fp32"))

    @field_validator("propensities")
    @classmethod
    def _above_zero(cls, value: list[float] | None) -> list[float] | None:
        return None if value is None else check_propensities(value).tolist()

    @field_validator("sparse", "channels", "items")
    @classmethod
    def _known(cls, value: list[str], info: Any) -> list[str]:
        known = {"sparse": SPARSE, "channels": CHANNELS, "items": OF_ITEMS}[info.field_name]
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return value


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train on the log, write out/ranker and measure it on the queries kept aside; with follow, again and again."""
    judge = None if settings.judge is None else open_judge(settings.judge)
    impressions = _read(settings)
    folder = RunFolder(out)
    folder.require_same(settings)
    features = FeatureSet(
        tuple(settings.sparse), tuple(settings.channels), judge.scale.labels if judge else (), tuple(settings.items),
        settings.rating_count,
    )  # fmt: skip
    with VerdictStore(out / "verdicts.sqlite") as store:
        told = judge.with_notes(judge.notes, store) if judge else None
        reader = pair_reader(settings.index, features, told, settings.facts)
        folder.begin(settings, settings.fit.seed)
        training = Training(settings, folder, reader, impressions, judge, progress)
        result = training.learn()
        for grown in _growth(settings, len(impressions)):
            result = training.learn(grown)
    return result


class Training:
    """A model of clicks that goes on learning from a log that grows."""

    def __init__(
        self, settings: Settings, folder: RunFolder, reader: PairReader, log: Impressions,
        judge: CalibratedJudge | None, progress: Progress,
    ) -> None:  # fmt: skip
        self._settings, self._folder, self._reader, self._judge = settings, folder, reader, judge
        self._progress = progress
        self._log = reader.read(log, progress)
        self._reading = _reading(settings, folder, self._log)
        self._model = new_model(settings, self._log.features, self._reading)
        self._source = ClickSource(self._log, self._learned_rows(), self._reading)

    def _learned_rows(self) -> np.ndarray:
        return np.flatnonzero(~is_dev(self._log, self._settings.dev_share))

    def learn(self, log: Impressions | None = None) -> TrainingResult:
        """Learn what has not been learned, of a log that begins with the one before, and write the ranker."""
        if log is not None:
            self._log = self._reader.read(log, self._progress)
            self._source.use(self._log, self._learned_rows())
        optimizers = new_optimizers(self._settings, self._model)
        budget = self._settings.fit
        fitted = fit(self._model, self._source, optimizers, budget, folder=self._folder, on_update=self._progress)
        return self._written(fitted)

    def _written(self, fitted: FitResult) -> TrainingResult:
        """The ranker's folder, the table of the dev queries, and what has to be said."""
        settings, log = self._settings, self._log
        facts = {"impressions": len(log.log), "updates": fitted.updates, "events": settings.events}
        card = RankerCard(
            log.features, self._reading.mean, self._reading.spread, settings.dim, tuple(settings.hidden),
            correction=settings.correction, judge=self._judge.name if self._judge else None, trained=facts,
        )  # fmt: skip
        weights = {name: weight.detach().cpu().numpy() for name, weight in self._model.wanted.state_dict().items()}
        ranker = write_ranker(self._folder.path / "ranker", card, weights, table_rows(self._model))
        rows = dev_rows(Ranker.open(ranker), log, np.flatnonzero(is_dev(log, settings.dev_share)))
        write_rows(self._folder.path, rows)
        return TrainingResult(ranker, rows, tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        log = self._log
        yield f"{len(log.log):,} impressions, {int(log.log.clicked.sum()):,} clicks, {len(log.pairs):,} pairs"
        unknown = int((~log.known).sum())
        if unknown:
            yield f"{unknown:,} of {len(log.known):,} items of the log are not in the index: they have their ids alone"
        seen = places(self._model)
        if seen is not None:
            shown = ", ".join(f"{value:.2f}" for value in seen[:10])
            yield f"examination of the places 1 to {min(10, len(seen))}: {shown}"


def _read(settings: Settings) -> Impressions:
    """The log as it is. Raises as placed_impressions."""
    return Impressions.of(placed_impressions(settings.events, settings.events_map or None, settings.skip_bad))


def _growth(settings: Settings, known: int) -> Iterator[Impressions]:
    """The log each time it has grown, for as long as the settings say.

    A log that cannot be read may be in the middle of a row: it is an error when nothing more comes.
    """
    until = time.monotonic() + (settings.follow_seconds or np.inf)
    seen = failed = None
    while settings.follow and time.monotonic() < until:
        time.sleep(min(settings.poll_seconds, max(0.0, until - time.monotonic())))
        stamp = _stamp(Path(settings.events))
        if stamp == seen and failed is None:
            continue
        try:
            log, seen, failed = _read(settings), stamp, None
        except (ValueError, OSError):
            if failed == stamp:
                raise
            failed = stamp
            continue
        if len(log) < known:
            raise ValueError(f"{settings.events}: had {known:,} impressions and has {len(log):,}; a log grows")
        if len(log) > known:
            known = len(log)
            yield log


def _stamp(events: Path) -> tuple[object, ...]:
    """Another one after every change of the file, or of a file of the folder."""
    files = sorted(events.iterdir()) if events.is_dir() else [events]
    return tuple((file.name, file_stamp(file)) for file in files)


def _reading(settings: Settings, folder: RunFolder, log: LogFeatures) -> Reading:
    """How impressions become batches: settled on the first log, and the same for all that is added."""
    if not folder.stage_done(SCALES):
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
        settings.correction, settings.batch_size, settings.epochs, settings.fit.seed, tuple(held["mean"]),
        tuple(held["spread"]), None if told is None else np.asarray(told), settings.clip,
    )  # fmt: skip


def _propensities(settings: Settings, log: LogFeatures, rows: np.ndarray) -> np.ndarray | None:
    """Those that are given or read from a randomised log; for ipw those that are estimated, too."""
    if settings.propensities is not None:
        return np.asarray(settings.propensities)
    if settings.randomised is not None:
        random = Impressions.of(placed_impressions(settings.randomised, settings.events_map or None, settings.skip_bad))
        return from_randomised(random.position, random.clicked)
    if settings.correction != "ipw":
        return None
    held = log.log
    return estimated(ClickLog(pair_keys(held)[rows], held.position[rows], held.clicked[rows]))


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
    """Feature -> ids (N,) and rows (N, 1 + D) of its table."""
    engine = model.wanted.embed
    assert isinstance(engine, EmbeddingEngine)
    rows = {}
    for name, table in engine.tables.items():
        ids = table.ids()
        rows[name] = ids.cpu().numpy(), table.slot(ids).detach().cpu().numpy()
    return rows


def places(model: ClickModel) -> np.ndarray | None:
    """The examination of the places 1 to PLACES that the model was given or has learned; None without one."""
    if "examination" not in model.places:
        return None
    with torch.no_grad():
        return model.places["examination"](torch.arange(1, PLACES + 1)).exp().numpy()


CLICK_RANKER = Recipe(Settings, run, needs_data=False)
