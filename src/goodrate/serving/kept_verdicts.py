"""The verdict store of a server: a search whose verdicts cannot be kept is answered all the same."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.limits import KEEP

LOCK_SECONDS = 1.0  # a search waits no longer for another process's write
REST_SECONDS = 10.0  # after a failure, until the file is tried again
log = logging.getLogger(__name__)


class ServingVerdictStore(VerdictStore):
    """A VerdictStore that loses verdicts, counts them and says so once, where another one raises.

    not_stored: verdicts that were computed and not kept.
    """

    def __init__(self, path: str | Path, keep: int | None = KEEP) -> None:
        """keep: how many verdicts at most; None = all."""
        super().__init__(path, wait_seconds=LOCK_SECONDS, keep=keep)
        self.not_stored = 0
        self._warned = False
        self._not_before = 0.0

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """The stored verdicts by key; none while the file cannot be read."""
        if self._resting():
            return {}
        try:
            return super().get_many(keys)
        except (OSError, sqlite3.Error, ValueError) as error:
            self._failed("read", error)
            return {}

    def put_many(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write verdicts by key, or count those that cannot be written."""
        if not self._resting():
            try:
                super().put_many(verdicts)
                return
            except (OSError, sqlite3.Error) as error:
                self._failed("written", error)
        self.not_stored += len(verdicts)

    def _resting(self) -> bool:
        return time.monotonic() < self._not_before

    def _failed(self, what: str, error: Exception) -> None:
        self._not_before = time.monotonic() + REST_SECONDS
        if not self._warned:
            lost = "searches are answered and verdicts are lost; /healthz counts them"
            log.warning("%s cannot be %s: %s; %s", self.path, what, error, lost)
        self._warned = True
