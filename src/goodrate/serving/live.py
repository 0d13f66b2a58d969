"""A pipeline over a folder that others change: made anew when its files are others than before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from goodrate.run_folder import file_stamp
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable

REST = 10.0  # times the time that making it anew took: it takes at most an eleventh of all time
log = logging.getLogger(__name__)
Stamp = tuple[object, ...]


class LivePipeline:
    """The pipeline of what is in a folder now. Safe to call from many threads.

    Items are read from the index at every search and need nothing of this; it is for what is read once: which index it
    is, facts and texts.
    """

    def __init__(
        self,
        pipeline: SearchPipeline,
        reopen: Callable[[], SearchPipeline],
        files: Sequence[Path] = (),
        version: Callable[[], object] = lambda: None,
    ) -> None:
        """reopen: makes the pipeline anew. files, version: when one of them is another, that is done."""
        self._pipeline, self._reopen, self._files, self._version = pipeline, reopen, tuple(files), version
        self._lock = threading.Lock()
        self._stamp: Stamp | None = self._now()
        self._not_before = 0.0

    def current(self) -> SearchPipeline:
        """The pipeline. Raises IndexUnavailable, with the reason, while none can be made of what is in the folder."""
        with self._lock:
            stamp = self._now()
            if (stamp is None or stamp != self._stamp) and time.monotonic() >= self._not_before:
                self._renew(stamp)
            return self._pipeline

    def start(self) -> None:
        """Have each model work in a thread of its own from here on."""
        self._pipeline.start()

    def stop(self) -> None:
        """End the threads of the models."""
        self._pipeline.stop()

    def _now(self) -> Stamp | None:
        """What the folder holds; None, which is always another one, when the index does not say."""
        try:
            return (*(file_stamp(path) for path in self._files), self._version())
        except (OSError, ValueError, RuntimeError):
            return None

    def _renew(self, stamp: Stamp | None) -> None:
        start = time.monotonic()
        try:
            fresh = self._reopen()
        except (OSError, ValueError, RuntimeError) as error:
            self._stamp = None  # until it can be opened, every request tries
            raise IndexUnavailable(f"the index was changed and cannot be opened: {error}") from error
        fresh.desk = self._pipeline.desk  # the same judge
        fresh.overrules = self._pipeline.overrules
        self._pipeline, self._stamp = fresh, stamp
        self._not_before = time.monotonic() + REST * (time.monotonic() - start)
        log.info("the index was changed and is opened anew")
