"""Impressions and clicks: streams of event files, and logs of other forms as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.event_columns import TimeUnit
    from goodrate.catalog.events import EventStream
    from goodrate.catalog.problems import BadRow


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


@dataclass(frozen=True)
class ImpressionLog:
    """frame: query, item_id, position (from 1), clicked, and time (UTC) where there is one. skipped, notes: what was
    left out and how files were read."""

    frame: pl.DataFrame
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def write(self, path: str | Path) -> None:
        """As parquet, csv or jsonl by the ending; parquet is what `stream_events` reads."""
        from goodrate.catalog.tables import write_table

        write_table(Path(path), self.frame, ".parquet")


def read_impressions(
    files: Sequence[str | Path], *, mapping: Mapping[str, str] | None = None, clicks: Sequence[str] = (),
    impressions: Sequence[str] = (), skip_bad: int = 0,
) -> ImpressionLog:  # fmt: skip
    """Impressions of UBI files (queries and events), or of tables of query, item_id, position, clicked and time.

    mapping: our column -> the table's. clicks, impressions: names of UBI actions that are one; those of catalog/ubi.py
    unless given. Raises FileNotFoundError, or ValueError with file, row, column and what was expected.
    """
    import polars as pl

    from goodrate.catalog import impressions as tables
    from goodrate.catalog import ubi
    from goodrate.catalog.tables import read_table

    if not files:
        raise ValueError("no event file is named")
    if mapping is None and ubi.is_ubi(read_table(files[0], ubi.SIGNS[0] | ubi.SIGNS[1]).columns):
        read = ubi.read_ubi(files, clicks or ubi.CLICKED, impressions or ubi.SEEN, skip_bad)
        return ImpressionLog(read.frame, read.skipped, read.notes)
    if clicks or impressions:
        raise ValueError(f"{files[0]} is no UBI file, the only kind in which actions have names")
    frames = [tables.read_impressions(file, dict(mapping) if mapping else None, skip_bad) for file in files]
    return ImpressionLog(pl.concat(frames, how="diagonal"))
