"""A run's numbers in TensorBoard, through accelerate's tracker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goodrate.extras import require

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
