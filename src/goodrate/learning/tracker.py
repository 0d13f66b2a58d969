"""Where a run's numbers go: metrics.jsonl of its folder, and TensorBoard through accelerate's tracker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from goodrate.extras import require
from goodrate.run_folder import RunFolder

EVENTS = "tensorboard"


class Tracker:
    """Writes records to `folder`/tensorboard. Raises MissingExtra when TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "fit.tensorboard")
        from accelerate.tracking import TensorBoardTracker

        self._tracker = TensorBoardTracker(EVENTS, folder)
        self._tracker.start()

    def log(self, record: Mapping[str, Any]) -> None:
        """The finite numbers of an update's record at its number."""
        numbers = {
            name: float(value)
            for name, value in record.items()
            if isinstance(value, (int, float)) and math.isfinite(value) and name != "update"
        }
        self._tracker.log(numbers, step=record["update"])

    def finish(self) -> None:
        """Write what is not on disk yet."""
        self._tracker.finish()


class Logs(ExitStack):
    """Where records go; leaving it finishes the trackers."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: list[Callable[[dict[str, Any]], None]] = []


def run_logs(folder: RunFolder | None, tensorboard: bool | None) -> Logs:
    """metrics.jsonl of the run folder, and TensorBoard where it is asked for; nothing without a folder."""
    logs = Logs()
    if folder:
        logs.sinks.append(folder.log)
        if tensorboard:
            tracker = Tracker(folder.path)
            logs.callback(tracker.finish)
            logs.sinks.append(tracker.log)
    return logs
