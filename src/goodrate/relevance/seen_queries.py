"""Which queries a judge was trained and tuned on, kept in its folder: numbers on these say too much of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from goodrate.catalog.splits import stems
from goodrate.run_folder import write_atomic

SEEN_FILE = "trained_on.json"
PARTS = ("train", "dev")  # learned from; temperature and tiers set and the dev table measured on


def query_key(query: str) -> str:
    """16 hex digits that queries share which differ in order, plural, case, numbers and single letters alone.

    This is the first of the relations by which splits keep queries together (catalog.splits.query_groups); no text of
    a query can be read from it.
    >>> query_key("iPhone 7 covers") == query_key("cover iphone 8"), query_key("desk") == query_key("desk lamp")
    (True, False)
    """
    return hashlib.sha256(" ".join(sorted(stems(query))).encode()).hexdigest()[:16]


def write_seen(
    folder: str | Path, queries: Mapping[str, Iterable[str]], before: Mapping[str, str] | None = None
) -> None:
    """Write trained_on.json. queries: texts by part. before: what the judge that this one started from has seen."""
    part_of = {query_key(text): part for part in reversed(PARTS) for text in queries.get(part, ())}
    part_of = {**part_of, **{key: part for key, part in (before or {}).items() if part_of.get(key) != "train"}}
    content = {part: sorted(key for key, own in part_of.items() if own == part) for part in PARTS}
    write_atomic(Path(folder) / SEEN_FILE, json.dumps(content) + "\n")


def read_seen(folder: str | Path) -> dict[str, str]:
    """The part by query key; empty where the folder does not say. Raises ValueError naming a broken file."""
    path = Path(folder) / SEEN_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): part for part in reversed(PARTS) for key in content[part]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected {{train, dev}} with lists of query hashes: {error!r}") from error


def seen_queries(folder: str | Path, queries: Mapping[str, str]) -> dict[str, str]:
    """The part ("train", "dev") of each query id whose text, or one nearly the same, the judge of a folder has seen."""
    seen = read_seen(folder)
    parts = {query_id: seen.get(query_key(text)) for query_id, text in queries.items()} if seen else {}
    return {query_id: part for query_id, part in parts.items() if part}
