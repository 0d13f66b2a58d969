"""Impressions and clicks: streams of event files, and logs of other forms as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.catalog.impressions import ImpressionLog as ImpressionLog
from goodrate.catalog.impressions import read_impressions as read_impressions

if TYPE_CHECKING:
    from goodrate.catalog.event_columns import TimeUnit
    from goodrate.catalog.events import EventStream


def stream_events(
    path: str | Path | Sequence[str | Path], *, ids: Sequence[str] = (), numbers: Sequence[str] = (),
    label: str | None = None, time: str | None = None, time_unit: TimeUnit = "s", workers: int = 1,
    epochs: int | None = 1, seed: int | None = None, follow: float | None = None, clock_slack: float = 0.0,
) -> EventStream:  # fmt: skip
    """The events of parquet, ORC or Arrow files or folders, in batches: catalog/events.py:EventStream says what the
    arguments are. `for batch in stream_events(...).batches(4096)` reads them.
    """
    from goodrate.catalog.event_columns import EventColumns
    from goodrate.catalog.events import EventStream

    columns = EventColumns(tuple(ids), tuple(numbers), label, time, time_unit)
    return EventStream(
        path, columns, workers=workers, epochs=epochs, seed=seed, follow=follow, clock_slack=clock_slack
    )  # fmt: skip
