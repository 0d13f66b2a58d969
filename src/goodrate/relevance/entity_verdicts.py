"""Verdicts of a model on (query, entity) pairs: computed once, kept in memory and in one SQLite table.

Each is two numbers: how far the entity supports the query, and how far it conflicts with it. They are rounded to half
floats before they are used, so that a verdict is the same whether it was kept or computed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from goodrate.catalog.normal_form import normal_text
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.entities import WANTS, WHOLE_ITEM, WHOLE_TEXT, Entity, EntityRules
from goodrate.relevance.pairs import TEXT, Item
from goodrate.relevance.verdict_store import full_disk_named, key_batches, open_table
from goodrate.strict_json import dumps

TABLE = "CREATE TABLE IF NOT EXISTS query_entities (key BLOB PRIMARY KEY, verdict BLOB NOT NULL) WITHOUT ROWID"
HALF = np.dtype("<f2")
MEMORY, ITEMS = 1 << 28, 200_000  # bytes of verdicts, and items, that are kept in memory
READ = ("title", "description", "brand", "category", "attributes", TEXT)


class QueryEntityModel(Protocol):
    """What says how an entity stands to a query."""

    fingerprint: str

    def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Support and conflict (N, 2) in 0..1 of N pairs; NaN for what it cannot read."""
        ...


def pair_key(query: str, entity: Entity, model: str) -> bytes:
    """16 bytes of a query in normal form, an entity, and the model that judges them."""
    content = "\x1f".join([query, entity.type, entity.text, model])
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class EntityCache:
    """The SQLite file of query-entity verdicts: a key of 16 bytes, a value of 4. For many threads and processes."""

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError when the file is something else, OSError when it cannot be written."""
        self.path, self._lock = Path(path), threading.Lock()
        self._connection = open_table(self.path, TABLE)

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM query_entities").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """(N, 2) float16 in the order of the keys; NaN where there is none."""
        found: dict[bytes, bytes] = {}
        for part in key_batches(list(dict.fromkeys(keys))):  # type: ignore[arg-type]
            marks = ",".join("?" * len(part))
            with self._lock:
                found.update(
                    self._connection.execute(f"SELECT key, verdict FROM query_entities WHERE key IN ({marks})", part)
                )
        unknown = np.full(2, np.nan, HALF).tobytes()
        packed = b"".join(found.get(key, unknown) for key in keys)
        return np.frombuffer(packed, HALF).reshape(-1, 2)

    def put(self, keys: Sequence[bytes], verdicts: np.ndarray) -> None:
        """Keep verdicts (N, 2), in one transaction."""
        packed = [row.tobytes() for row in verdicts.astype(HALF)]
        with self._lock, full_disk_named(self.path), self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO query_entities VALUES (?, ?)", zip(keys, packed, strict=True)
            )


class EntityTable:
    """Entities by number, so that items are rows of numbers: what is looked up for a query is one gather."""

    def __init__(self, rules: EntityRules) -> None:
        self.rules, self._lock = rules, threading.Lock()
        self.entities: list[Entity] = []
        self._number: dict[Entity, int] = {}
        self._rows: dict[tuple[Any, ...], np.ndarray] = {}
        self._groups: list[int] = []
        self.demand = np.asarray([self._intern(Entity(WANTS, name), -1) for name in rules.types], dtype=np.int64)

    def _intern(self, entity: Entity, group: int) -> int:
        number = self._number.setdefault(entity, len(self.entities))
        if number == len(self.entities):
            self.entities.append(entity)
            self._groups.append(group)
        return number

    def row(self, item: Item) -> np.ndarray:
        """The numbers of an item's entities; known items are not read again."""
        return self._each([item])[0]

    def _each(self, items: Sequence[Item]) -> list[np.ndarray]:
        keys = [_read(item) for item in items]
        each = [self._rows.get(key) for key in keys]
        new = {key: item for key, item, row in zip(keys, items, each, strict=True) if row is None}
        if new:
            made = dict(zip(new, self._new_rows(list(new.values())), strict=True))
            with self._lock:
                if len(self._rows) + len(made) > ITEMS:
                    self._rows.clear()
                self._rows.update(made)
            each = [made[key] if row is None else row for key, row in zip(keys, each, strict=True)]
        return [row for row in each if row is not None]

    def _new_rows(self, items: Sequence[Item]) -> list[np.ndarray]:
        whole = field_texts(items, self.rules.whole) if self.rules.whole else [""] * len(items)
        rows = []
        for item, text in zip(items, whole, strict=True):
            told = (Entity(WHOLE_ITEM, text), Entity(WHOLE_TEXT, text)) if text.strip() else ()
            found = (*told, *self.rules.of(item))
            with self._lock:
                numbers = [self._intern(one, self.rules.group(one.type)) for one in found]
            rows.append(np.asarray(numbers, dtype=np.int64))
        return rows

    def rows(self, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (N, E) padded with -1, and the group of each, padded with -1."""
        each = self._each(items)
        lengths = np.fromiter((len(row) for row in each), np.int64, len(each))
        numbers = np.full((len(each), max(1, int(lengths.max(initial=0)))), -1, dtype=np.int64)
        numbers[np.arange(numbers.shape[1])[None] < lengths[:, None]] = np.concatenate([*each, np.zeros(0, np.int64)])
        groups = np.asarray([*self._groups, -1], dtype=np.int64)
        return numbers, groups[numbers]


def _read(item: Item) -> tuple[Any, ...]:
    """All of an item that its entities come from."""
    attributes = item.get("attributes")
    told = attributes if isinstance(attributes, str) else dumps(attributes) if attributes else ""
    return (*(item.get(name) for name in READ if name != "attributes"), told)


class QueryEntityVerdicts:
    """Verdicts by query and number of an entity: from memory, else from the cache, else from the model.

    calls: how many pairs the model was asked for. read: how many came from the cache's file.
    """

    def __init__(self, model: QueryEntityModel, table: EntityTable, cache: EntityCache | None = None) -> None:
        self.model, self.table, self.cache = model, table, cache
        self.calls = self.read = 0
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.RLock()

    def of(self, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """query -> (V, 2) float16 by number of the entity; those that are wanted, (W,) each, are there, others NaN."""
        with self._lock:
            rows = {query: self._row(query) for query in wanted}
            missing = [
                (query, int(number))
                for query, numbers in wanted.items()
                for number in np.unique(numbers)[np.isnan(rows[query][np.unique(numbers), 0])].tolist()
            ]
            if missing:
                self._fill(rows, missing)
            while len(self._known) > 1 and sum(row.nbytes for row in self._known.values()) > MEMORY:
                self._known.popitem(last=False)
            return rows

    def forget(self) -> None:
        """Drop what is in memory; what the file holds stays."""
        with self._lock:
            self._known.clear()

    def _row(self, query: str) -> np.ndarray:
        """What is known of a query, as wide as the table of entities is."""
        known, width = self._known.get(query), len(self.table.entities)
        if known is None or len(known) < width:
            grown = np.full((width + width // 8, 2), np.nan, HALF)
            if known is not None:
                grown[: len(known)] = known
            self._known[query] = known = grown
        self._known.move_to_end(query)
        return known

    def _fill(self, rows: Mapping[str, np.ndarray], missing: Sequence[tuple[str, int]]) -> None:
        normal = {query: normal_text(query) for query in rows}
        asked = [(query, number, self.table.entities[number]) for query, number in missing]
        found = np.full((len(asked), 2), np.nan, HALF)
        keys = [pair_key(normal[query], entity, self.model.fingerprint) for query, _, entity in asked]
        if self.cache is not None:
            found = self.cache.get(keys).copy()
        new = np.flatnonzero(np.isnan(found[:, 0]))
        self.read += len(asked) - len(new)
        if len(new):
            told = self.model.verdicts([normal[asked[at][0]] for at in new], [asked[at][2] for at in new])
            found[new] = np.asarray(told).astype(HALF)
            self.calls += len(new)
            read = new[~np.isnan(found[new, 0])]
            if self.cache is not None:
                self.cache.put([keys[at] for at in read], found[read])
        for (query, number, _), verdict in zip(asked, found, strict=True):
            rows[query][number] = verdict


def fill(verdicts: QueryEntityVerdicts, queries: Iterable[str], items: Sequence[Item], block: int = 64) -> int:
    """Ask for every entity of the items under every query, `block` queries at a time; how many the model computed."""
    before = verdicts.calls
    numbers = np.unique(np.concatenate([verdicts.table.demand, *(verdicts.table.row(item) for item in items)]))
    waiting = list(dict.fromkeys(queries))
    for start in range(0, len(waiting), block):
        verdicts.of(dict.fromkeys(waiting[start : start + block], numbers))
    return verdicts.calls - before
