"""Fill an index from a catalogue: only what is new or changed is encoded, in parts that survive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl

from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.catalog.rendering import render_items
from goodrate.retrieval.filled_in import layered
from goodrate.retrieval.manifest import is_index, require_free
from goodrate.retrieval.pictures import keep_pictures
from goodrate.retrieval.remote import located
from goodrate.retrieval.store import WRITE_ROWS, Store, text_hashes
from goodrate.retrieval.syncing import IndexPlan, Missing, Sync
from goodrate.retrieval.turns import writing_turn

ENCODE_ROWS = 512  # items a part: what an interruption can lose
# What an encoder reads that was not trained on other texts: attributes drown the title (docs/tune.md).
PRETRAINED_FIELDS = ("title", "description")
FEW = 20  # a catalogue of less than one in so many items of the index is compared by id, a larger one with all of it


class ItemEncoder(Protocol):
    """What indexing and searching need of an encoder; models.encoder.Encoder is one."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    def encode_items(self, texts: list[str]) -> np.ndarray: ...
    def encode_queries(self, texts: list[str]) -> np.ndarray: ...


@runtime_checkable
class PartsEncoder(Protocol):
    """An encoder that works on several parts of the items at once; bulk.encoding.ClusterEncoder is one."""

    def encode_parts(self, parts: list[list[str]]) -> Iterator[tuple[int, np.ndarray]]: ...


@dataclass(frozen=True)
class IndexReport:
    """What indexing did, in items. added + changed + unchanged is the catalogue; encoded are those given a vector.

    removed: items that the catalogue lacks and a sync took out; missing: those that the index still has.
    """

    added: int
    changed: int
    unchanged: int
    encoded: int
    removed: int = 0
    missing: int = 0


def index_catalog(
    store: Store, catalog: Catalog, encoder: ItemEncoder | None, progress: Callable[[int, int], None] | None = None,
    sync: Sync | None = None,
) -> IndexReport:  # fmt: skip
    """Bring every item of the catalogue into the index. Items that the catalogue lacks stay, unless sync removes them.

    encoder: the one the index was made with, None for an index without vectors. progress: called with (done, total)
    items written. An item whose text is as before keeps its vector; one that is equal throughout is not written.
    Removal comes last, so an interrupted run has lost nothing. The index is held for writing all the time: another
    writer waits (turns.WAIT_S), or is waited for. Raises ValueError, with nothing written, when sync may not remove.
    """
    store.require_encoder(encoder.fingerprint if encoder else None)
    with writing_turn(store.path):
        if catalog.pictures is not None:
            keep_pictures(store, catalog.pictures)
        return _indexed(store, catalog, encoder, progress or (lambda done, total: None), sync)


def plan_catalog(store: Store, catalog: Catalog) -> IndexPlan:
    """What index_catalog would do; nothing is written and nothing encoded."""
    before = store.stored_hashes()
    catalog = layered(store, catalog)
    write, encode = _pending(store, catalog, before, _rendered(store, catalog, before, keep=False)[0])
    touched = {*write, *encode}
    added = tuple(item for item in catalog.ids if item not in before)
    changed = tuple(item for item in catalog.ids if item in before and item in touched)
    unchanged = len(catalog) - len(added) - len(changed)
    return IndexPlan(added, changed, unchanged, Missing.of(before, catalog))


def plan_folder(path: Path, catalog: Catalog) -> IndexPlan:
    """What indexing a catalogue into a folder would do; a folder without an index gets all items. Raises ValueError."""
    path = located(path)
    if is_index(path):
        return plan_catalog(Store.open(path), catalog)
    require_free(path)
    return IndexPlan(tuple(catalog.ids), (), 0, Missing((), 0))


def _indexed(
    store: Store, catalog: Catalog, encoder: ItemEncoder | None, report: Callable[[int, int], None], sync: Sync | None
) -> IndexReport:
    """What index_catalog does, in its turn."""
    before = store.stored_hashes()
    catalog = layered(store, catalog)
    missing = Missing.of(before, catalog)
    if sync is not None:
        missing.check(store.path, sync.limit)
        if missing.ids and sync.told is not None:
            sync.told(missing.removal())
    hashes, texts = _rendered(store, catalog, before, keep=encoder is not None)
    write, encode = _pending(store, catalog, before, hashes)
    total = len(write) + len(encode)
    report(0, total)
    if write:
        store.update(_subset(catalog, write), refresh=False, hashes=[hashes[item] for item in write], layered=True)
        report(len(write), total)
    size = ENCODE_ROWS if encoder else WRITE_ROWS
    parts = [slice(start, start + size) for start in range(0, len(encode), size)]
    done = len(write)
    for number, vectors in _encoded(encoder, texts, parts):
        ids = encode[parts[number]]
        own = [hashes[item] for item in ids]
        store.upsert(_subset(catalog, ids), vectors, refresh=False, hashes=own, layered=True)
        done += len(ids)
        report(done, total)
    removed = store.remove(missing.ids) if sync is not None and missing.ids else 0
    if not removed:  # removing brings the full text up to date
        store.refresh()
    added = sum(item not in before for item in catalog.ids)
    changed, encoded = total - added, len(encode) if encoder else 0
    return IndexReport(added, changed, len(catalog) - total, encoded, removed, len(missing.ids) - removed)


def _encoded(
    encoder: ItemEncoder | None, texts: pl.Series, parts: list[slice]
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(number, vectors) of each part of the texts, in the order in which they are done; None without an encoder."""
    if isinstance(encoder, PartsEncoder):
        yield from encoder.encode_parts([texts[part].to_list() for part in parts])
        return
    for number, part in enumerate(parts):
        yield number, None if encoder is None else encoder.encode_items(texts[part].to_list())


def _rendered(store: Store, catalog: Catalog, before: dict[str, str], keep: bool) -> tuple[dict[str, str], pl.Series]:
    """id -> hash of what the encoder reads, and that text of the items whose hash is another than before.

    Rendered once, in parts. keep: whether the texts are wanted; without it there are none.
    """
    hashes: dict[str, str] = {}
    texts = [pl.Series([], dtype=pl.String)]
    for start in range(0, len(catalog), WRITE_ROWS):
        part = slice(start, start + WRITE_ROWS)
        rendered = render_items(catalog.frame[part], store.encoded_fields)
        fresh = dict(zip(catalog.ids[part], text_hashes(rendered), strict=True))
        hashes |= fresh
        if keep:
            changed = [before.get(item) != text_hash for item, text_hash in fresh.items()]
            texts.append(pl.Series(rendered).filter(pl.Series(changed, dtype=pl.Boolean)))
    return hashes, pl.concat(texts)


def _pending(
    store: Store, catalog: Catalog, before: dict[str, str], hashes: dict[str, str]
) -> tuple[list[str], list[str]]:
    """Ids to write with the vector they have, and ids to encode, in catalogue order."""
    same_text = [item for item in catalog.ids if before.get(item) == hashes[item]]
    encode = [item for item in catalog.ids if before.get(item) != hashes[item]]
    if not same_text:
        return [], encode
    few = len(same_text) * FEW < len(before)
    stored = store.known_items(same_text) if few else store.all_items().frame
    equal = set(catalog.frame.join(stored, on=list(ITEM_COLUMNS), how="semi", nulls_equal=True)["id"])
    return [item for item in same_text if item not in equal], encode


def _subset(catalog: Catalog, ids: Sequence[str]) -> Catalog:
    """Some items as a catalogue of their own, in catalogue order."""
    return Catalog(catalog.frame.filter(pl.col("id").is_in(list(ids))), plain=True)
