"""The part of a run that is done, kept so that a run which is broken off goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goodrate import strict_json

FILE = ".unfinished.jsonl"


class UnfinishedLook:
    """The results of each query that is done. A file of a run of other things (key) is begun anew."""

    def __init__(self, history: Path, key: str) -> None:
        """key: a hash of all that decides the results."""
        self.path = history / FILE
        self.pages: dict[str, list[dict[str, Any]]] = {}
        history.mkdir(parents=True, exist_ok=True)
        kept = self._kept(key)
        if kept is None:
            self.path.write_text(strict_json.dumps({"key": key}) + "\n", encoding="utf-8")
        else:
            os.truncate(self.path, kept)

    def add(self, query: str, page: Sequence[Mapping[str, Any]]) -> None:
        """Keep the results of a query; they outlive the process when this returns."""
        self.pages[query] = [dict(row) for row in page]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(strict_json.dumps({"query": query, "page": self.pages[query]}) + "\n")

    def _kept(self, key: str) -> int | None:
        """Read what is there: the length in bytes of its whole lines, None when it is of another run or none."""
        if not self.path.is_file():
            return None
        lines = self.path.read_bytes().split(b"\n")[:-1]  # behind the last line break is half a line, or nothing
        if not lines or _object(lines[0]).get("key") != key:
            return None
        length = len(lines[0]) + 1
        for line in lines[1:]:
            told = _object(line)
            if not isinstance(told.get("page"), list):
                break
            self.pages[str(told["query"])] = told["page"]
            length += len(line) + 1
        return length


def _object(line: bytes) -> dict[str, Any]:
    """The object of a line, an empty one where it is none."""
    try:
        value = strict_json.parse(line.decode("utf-8"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
