"""Fill an index from a catalogue: only what is new or changed is encoded, in parts that survive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.catalog.rendering import render_items
from goodrate.retrieval.store import WRITE_ROWS, Store, text_hashes

ENCODE_ROWS = 512  # items a part: what an interruption can lose


class ItemEncoder(Protocol):
    """What indexing and searching need of an encoder; models.encoder.Encoder is one."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    def encode_items(self, texts: list[str]) -> np.ndarray: ...
    def encode_queries(self, texts: list[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class IndexReport:
    """What indexing did, in items. added + changed + unchanged is the catalogue; encoded are those given a vector."""

    added: int
    changed: int
    unchanged: int
    encoded: int


def index_catalog(
    store: Store, catalog: Catalog, encoder: ItemEncoder | None, progress: Callable[[int, int], None] | None = None
) -> IndexReport:
    """Bring every item of the catalogue into the index. Items of the index that the catalogue lacks stay.

    encoder: the one the index was made with, None for an index without vectors. progress: called with (done, total)
    items written. An item whose text is as before keeps its vector; one that is equal throughout is not written.
    """
    store.require_encoder(encoder.fingerprint if encoder else None)
    before = store.stored_hashes()
    write, encode = _pending(store, catalog, before)
    report = progress or (lambda done, total: None)
    report(0, len(write) + len(encode))
    if write:
        store.upsert(_subset(catalog, write), _stored_vectors(store, write), refresh=False)
        report(len(write), len(write) + len(encode))
    size = ENCODE_ROWS if encoder else WRITE_ROWS
    for start in range(0, len(encode), size):
        part = _subset(catalog, encode[start : start + size])
        store.upsert(part, _encoded(store, encoder, part), refresh=False)
        report(len(write) + start + len(part), len(write) + len(encode))
    store.refresh()
    added = sum(item not in before for item in catalog.ids)
    changed = len(write) + len(encode) - added
    return IndexReport(added, changed, len(catalog) - added - changed, len(encode) if encoder else 0)


def _pending(store: Store, catalog: Catalog, before: dict[str, str]) -> tuple[list[str], list[str]]:
    """Ids to write with the vector they have, and ids to encode."""
    hashes = zip(catalog.ids, text_hashes(catalog, store.encoded_fields), strict=True)
    same_text = {item for item, text_hash in hashes if before.get(item) == text_hash}
    encode = [item for item in catalog.ids if item not in same_text]
    if not same_text:
        return [], encode
    stored = store.all_items().frame
    equal = set(catalog.frame.join(stored, on=list(ITEM_COLUMNS), how="semi", nulls_equal=True)["id"])
    return [item for item in catalog.ids if item in same_text and item not in equal], encode


def _subset(catalog: Catalog, ids: Sequence[str]) -> Catalog:
    """Some items as a catalogue of their own."""
    return Catalog(catalog.frame.filter(pl.col("id").is_in(list(ids))))


def _stored_vectors(store: Store, ids: Sequence[str]) -> np.ndarray | None:
    """The stored vectors of these items, in their order."""
    if store.dimension is None:
        return None
    stored_ids, vectors = store.vectors()
    row = {item: index for index, item in enumerate(stored_ids)}
    return vectors[[row[item] for item in ids]]


def _encoded(store: Store, encoder: ItemEncoder | None, part: Catalog) -> np.ndarray | None:
    """Vectors of the items (N, D) float32, None without an encoder."""
    return None if encoder is None else encoder.encode_items(render_items(part.frame, store.encoded_fields))
