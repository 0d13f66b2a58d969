"""A click ranker that learns from a stream of impressions: each once, in the order in which they were written.

Of the log only the batches at hand are in memory. Queries that are kept for measuring are masked out; the newest of
their impressions are measured on whenever a ranker is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.event_files import ENDINGS, READERS
from goodrate.catalog.events import EventBatch, EventStream
from goodrate.catalog.impressions import COLUMNS, Impressions
from goodrate.learning.click_terms import click_term
from goodrate.learning.fit import FitResult, fit
from goodrate.learning.records import Update
from goodrate.learning.source import refuse_other_data
from goodrate.ranking.ranker_features import FeatureSet, query_ids
from goodrate.recipes.click_features import LogFeatures, PairReader
from goodrate.recipes.click_settings import Settings
from goodrate.recipes.click_source import Reading, click_batch, kept_queries
from goodrate.recipes.click_training import Trained, new_model, new_optimizers, settled_reading, written
from goodrate.recipes.event_source import EventSource
from goodrate.recipes.registry import Progress, TrainingResult
from goodrate.relevance.judge import CalibratedJudge
from goodrate.run_folder import RunFolder

SETTLED = 20_000  # impressions, the first ones, on which scales and propensities are settled
MEASURED = 20_000  # impressions of kept queries, the newest ones, that are measured on at most
LOOKED_AT = 20  # times as many impressions are looked through for them


def learn_stream(
    settings: Settings, folder: RunFolder, reader: PairReader, features: FeatureSet, judge: CalibratedJudge | None,
    progress: Progress,
) -> TrainingResult:  # fmt: skip
    """Learn what the stream holds and write the ranker; with follow, again whenever it holds more.

    Raises ValueError naming file, row group, row and column of what is no impression; all before it has been learned.
    """
    training = StreamTraining(settings, folder, reader, features, judge, progress)
    until = time.monotonic() + (settings.follow_seconds or np.inf)
    result, past = training.learn(), False
    while settings.follow and not (past or training.is_spent):
        past = time.monotonic() >= until  # one last look
        if training.has_more():
            result = training.learn()
        elif not past:
            time.sleep(min(settings.poll_seconds, max(0.0, until - time.monotonic())))
    return result


class StreamTraining:
    """A model of clicks that goes on learning from files that are added, or grow by row groups."""

    def __init__(
        self, settings: Settings, folder: RunFolder, reader: PairReader, features: FeatureSet,
        judge: CalibratedJudge | None, progress: Progress,
    ) -> None:  # fmt: skip
        self._settings, self._folder, self._reader, self._judge = settings, folder, reader, judge
        self._progress, self._stream = progress, open_stream(settings, settings.lanes)
        self.is_spent = False  # the budget of updates or seconds
        self._reading = settled_reading(settings, folder, lambda: reader.read(self._first(), progress))
        self._model = new_model(settings, features, self._reading)
        self._source = ClickStream(self._stream, reader, self._reading, features, settings.dev_share)

    def _first(self) -> Impressions:
        """The impressions that scales are settled on: the same whatever has been learned."""
        stream = open_stream(self._settings, 1)
        try:
            batch = next(stream.batches(SETTLED), None)
        finally:
            stream.close()
        if batch is None:
            raise ValueError(f"{self._settings.events} has no impressions yet")
        return Impressions.of(frame_of(batch))

    def learn(self) -> TrainingResult:
        """Learn what is there, with follow for write_seconds at most, and write a ranker."""
        settings = self._settings
        self._source.until = time.monotonic() + settings.write_seconds if settings.follow else None
        optimizers = new_optimizers(settings, self._model)
        fitted = fit(
            self._model, self._source, optimizers, settings.fit, folder=self._folder, on_update=self._progress
        )  # fmt: skip
        self.is_spent = fitted.stopped_by != "source"
        return self._written(fitted)

    def has_more(self) -> bool:
        """Whether something has not been read."""
        return self._stream.advance()

    def _written(self, fitted: FitResult) -> TrainingResult:
        dev = self._newest_dev() if self._settings.dev_share else None
        rows = np.arange(0 if dev is None else len(dev.log))
        trained = Trained(
            self._source.features, self._reading, self._model, self._judge.name if self._judge else None,
            self._stream.plan.rows_taken, fitted.updates, dev, rows,
        )  # fmt: skip
        return written(self._settings, self._folder.path, trained, self._notes(dev))

    def _newest_dev(self) -> LogFeatures | None:
        """The newest impressions of the queries that are kept, from the end of the stream on; None without any."""
        found: list[pl.DataFrame] = []
        looked = kept = 0
        for batch in self._stream.newest():
            frame = frame_of(batch)
            own = frame.filter(pl.Series(is_kept_aside(frame, self._settings.dev_share)))
            found, looked, kept = [*found, own], looked + len(frame), kept + len(own)
            if kept >= MEASURED or looked >= LOOKED_AT * MEASURED:
                break
        return self._reader.read(Impressions.of(pl.concat(found)), self._progress) if kept else None

    def _notes(self, dev: LogFeatures | None) -> Iterator[str]:
        taken, clicks = self._stream.plan.rows_taken, self._source.clicks
        yield f"{taken:,} impressions of the stream, {clicks:,} clicks among those of this run"
        if dev is not None:
            lost = int((~dev.known).sum())
            yield f"measured on the newest {len(dev.log):,} impressions of queries that are kept aside" + (
                f"; {lost:,} of their {len(dev.known):,} items are not in the index" if lost else ""
            )


class ClickStream:
    """Updates of a stream of impressions: a batch of each lane.

    until: a monotonic time from which on there are no more for now, so that a ranker is written; None = none.
    """

    def __init__(
        self, stream: EventStream, reader: PairReader, reading: Reading, features: FeatureSet, dev_share: float
    ) -> None:
        self.features, self.clicks = features, 0
        self.until: float | None = None
        self._stream, self._reader, self._reading, self._share = stream, reader, reading, dev_share
        term = click_term(reading.correction)
        self._source = EventSource(stream, reading.batch_size, [term], self._batch, self._learned)

    def next(self, step: int) -> Update | None:
        """The next rows of every lane; None when all have been read, and when it is time to write."""
        if self.until is not None and time.monotonic() >= self.until:
            return None
        return self._source.next(step)

    def _batch(self, events: EventBatch) -> dict[str, Any]:
        self._reader.forget()
        log = self._reader.read(Impressions.of(frame_of(events)))
        return click_batch(log, np.arange(len(log.log)), self._reading)

    def _learned(self, events: EventBatch) -> torch.Tensor:
        """Which impressions (N,) are learned from."""
        frame = frame_of(events)
        learned = ~is_kept_aside(frame, self._share)
        self.clicks += int(frame["clicked"].filter(pl.Series(learned)).sum())
        return torch.from_numpy(learned)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, and what has to be the same for a run to go on."""
        return {"stream": self._source.state_dict(), **self._own()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there. ValueError where files have changed, or for other features."""
        refuse_other_data(self._own(), state)
        self._source.load_state_dict(state["stream"])

    def _own(self) -> dict[str, Any]:
        return {"features": self.features.fingerprint, "batch_size": self._reading.batch_size}


def open_stream(settings: Settings, lanes: int) -> EventStream:
    """The stream of the settings. What is added later is read by a run of one process; several read what is there.

    Raises FileNotFoundError, and ValueError for files of another kind.
    """
    path = Path(settings.events)
    if path.is_file() and path.suffix.lower() not in READERS:
        raise ValueError(
            f"{path}: a stream is read from {ENDINGS}; goodrate events {path.name} --out impressions.parquet makes "
            "one, or leave stream out"
        )
    if not path.exists():
        raise FileNotFoundError(f"no such event file or folder: {path}")
    query, item, position, clicked = (settings.events_map.get(name, name) for name in COLUMNS)
    columns = EventColumns(texts=(query, item), position=position, label=clicked)
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if settings.follow and not alone:
        raise ValueError("follow = true: a growing stream is followed by one process, not by several")
    return EventStream(path, columns, workers=lanes, follow=0.0 if alone else None)


def frame_of(events: EventBatch) -> pl.DataFrame:
    """The impressions of a batch whose texts are query and item: COLUMNS."""
    assert events.positions is not None and events.labels is not None
    query, item = (pl.Series(pl.from_arrow(texts)) for texts in events.texts.values())
    return pl.DataFrame({"query": query, "item_id": item, "position": events.positions, "clicked": events.labels > 0})


def is_kept_aside(frame: pl.DataFrame, share: float) -> np.ndarray:
    """Whether each impression (N,) is of a query that is kept for measuring."""
    log = Impressions.of(frame)
    return kept_queries(query_ids(log.queries), share)[log.query]
