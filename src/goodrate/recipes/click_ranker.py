"""A click ranker: learned from impressions, with position bias taken out, and written as a folder that serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from goodrate.catalog.impressions import Impressions, read_impressions
from goodrate.learning.fit import FitResult, fit
from goodrate.ranking.ranker_features import FeatureSet
from goodrate.recipes.click_features import PairReader, pair_reader
from goodrate.recipes.click_settings import Settings
from goodrate.recipes.click_source import ClickSource, is_dev
from goodrate.recipes.click_stream import learn_stream
from goodrate.recipes.click_training import Trained, new_model, new_optimizers, settled_reading, written
from goodrate.recipes.registry import Progress, Recipe, TrainingResult
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.run_folder import RunFolder, file_stamp


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train on the log, write out/ranker and measure it on the queries kept aside; with follow, again and again."""
    judge = None if settings.judge is None else open_judge(settings.judge)
    impressions = None if settings.stream else _read(settings)
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
        if impressions is None:
            return learn_stream(settings, folder, reader, features, judge, progress)
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
        self._reading = settled_reading(settings, folder, lambda: self._log)
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
        log, share = self._log, self._settings.dev_share
        trained = Trained(
            log.features, self._reading, self._model, self._judge.name if self._judge else None, len(log.log),
            fitted.updates, log, np.flatnonzero(is_dev(log, share)),
        )  # fmt: skip
        return written(self._settings, self._folder.path, trained, self._notes())

    def _notes(self) -> Iterator[str]:
        log = self._log
        yield f"{len(log.log):,} impressions, {int(log.log.clicked.sum()):,} clicks, {len(log.pairs):,} pairs"
        unknown = int((~log.known).sum())
        if unknown:
            yield f"{unknown:,} of {len(log.known):,} items of the log are not in the index: they have their ids alone"


def _read(settings: Settings) -> Impressions:
    """The log as it is. Raises as read_impressions."""
    return Impressions.of(read_impressions(settings.events, settings.events_map or None, settings.skip_bad))


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


CLICK_RANKER = Recipe(Settings, run, needs_data=False)
