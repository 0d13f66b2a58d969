"""A log of searches and of what shoppers do with results, in the form of User Behavior Insights (UBI): a line of JSON
each, in queries.jsonl and events.jsonl."""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goodrate.serving.appending import append_lines, opened_for_lines

QUERIES, EVENTS = "queries.jsonl", "events.jsonl"
APPLICATION = "goodrate"


class TrafficLog:
    """Both files of a folder. Safe for many threads and processes: a line is written with one call, at the end.

    What is written survives a killed process; a power cut can take the last lines.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises OSError when a file cannot be written."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._files = {name: opened_for_lines(self.folder / name) for name in (QUERIES, EVENTS)}

    def query(
        self, query_id: str, user_query: str, hits: Sequence[str], client_id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """A search and the ids of what it showed, best first."""
        record = {
            "timestamp": _now(), "query_id": query_id, "client_id": client_id, "user_query": user_query,
            "application": APPLICATION, "object_id_field": "id", "query_response_id": query_id,
            "query_response_hit_ids": list(hits), "query_attributes": dict(attributes or {}),
        }  # fmt: skip
        self._write(QUERIES, [record])

    def events(self, events: Sequence[Mapping[str, Any]]) -> None:
        """What a shopper did; an event without a time happened now."""
        self._write(EVENTS, [{"timestamp": _now(), "application": APPLICATION, **event} for event in events])

    def _write(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        with self._lock:
            append_lines(self._files[name], lines)

    def close(self) -> None:
        """Close both files."""
        for handle in self._files.values():
            os.close(handle)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
