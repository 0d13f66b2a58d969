"""Sessions from a file of lines that grows: read where the last reading ended, whatever killed it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from goodrate import strict_json
from goodrate.serving.clicks import SessionBody, learn, need_online
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable

SECONDS = 2.0  # between two looks at the file
log = logging.getLogger(__name__)


def read_events(current: Callable[[], SearchPipeline], path: Path, stop: threading.Event | None = None) -> int:
    """Learn from the whole lines of a file that were not read yet; how many sessions were learned from.

    A line is what POST /clicks takes as one session. Lines that are none are left out with a warning that names the
    line's first byte. A file that is shorter than what was read is another one and is read from its beginning. While
    the log of the weights cannot be written nothing is read, nor while the index cannot be (IndexUnavailable).
    """
    online, learned = need_online(current()), 0
    if not path.is_file():
        return 0
    start = online.events_read
    if path.stat().st_size < start:
        log.warning("%s is shorter than what was read of it; it is read from its beginning", path)
        start = 0
    with path.open("rb") as file:
        file.seek(start)
        for raw in file:
            if (stop is not None and stop.is_set()) or not raw.endswith(b"\n"):
                break
            start += len(raw)
            learned += _line(current(), path, raw, start)
            if online.frozen:
                return learned
    online.events_read = start
    return learned


def _line(pipeline: SearchPipeline, path: Path, raw: bytes, end: int) -> bool:
    try:
        body = SessionBody.model_validate(strict_json.parse(raw.decode()))
        return learn(pipeline, body.session(), end)
    except IndexUnavailable:
        raise  # the line is sound, and is read when the index is
    except (ValidationError, ValueError) as error:
        if raw.strip():
            log.warning("%s: line at byte %d left out: %s", path, end - len(raw), str(error).splitlines()[0])
        return False


def follow_events(current: Callable[[], SearchPipeline], path: Path, seconds: float = SECONDS) -> threading.Event:
    """Read the file again and again in a thread of its own, until the event that is returned is set."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            try:
                read_events(current, path, stop)
            except (OSError, ValueError) as error:
                log.warning("%s cannot be read: %s", path, error)
            stop.wait(seconds)

    threading.Thread(target=follow, name="click events", daemon=True).start()
    return stop
