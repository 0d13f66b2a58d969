"""A run's numbers in TensorBoard, through accelerate's tracker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EVENTS = "tensorboard"


class Tracker:
    """Writes records to `folder`/tensorboard. Raises ValueError when TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        from accelerate.tracking import TensorBoardTracker
        from accelerate.utils import is_tensorboard_available

        if not is_tensorboard_available():
            raise ValueError("fit.tensorboard needs TensorBoard; install it with: pip install 'goodrate[tensorboard]'")
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
