"""The layer of filled-in attributes in an index: what models say, kept beside what the shop says (catalog.inferred)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

from goodrate.catalog.inferred import INFERRED, NONE, replaced, sources_of
from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.retrieval.turns import writing_turn

if TYPE_CHECKING:
    from goodrate.retrieval.store import Store

_FILLED = f"{INFERRED} != '{NONE}'"


def filled_items(store: Store) -> Catalog:
    """The items of an index that have something filled in, ordered by id."""
    return Catalog(store.scan(list(ITEM_COLUMNS), _FILLED).sort("id"), plain=True)


def layered(store: Store, catalog: Catalog, sources: Collection[str] | None = None) -> Catalog:
    """The catalogue with all that is filled in: of these sources what it has itself, of others what the index has.

    sources: None = those that occur in the catalogue. So a shop's own file, which has none, leaves the layer as it is.
    """
    own = sources_of(catalog.frame[INFERRED]) if sources is None else sources
    held = store.scan(["id", INFERRED], _FILLED)
    held = held.filter(pl.col("id").is_in(catalog.frame["id"].implode()))
    if held.is_empty():
        return catalog
    before = catalog.frame.select("id").join(held, on="id", how="left", maintain_order="left")[INFERRED]
    column = replaced(before.fill_null(NONE), catalog.frame[INFERRED], own)
    frame, skipped = catalog.frame.with_columns(column), (catalog.skipped, catalog.notes, catalog.skipped_ids)
    return Catalog(frame, *skipped, plain=True, pictures=catalog.pictures)


def fill_in(store: Store, ids: Collection[str], column: pl.Series, source: str, refresh: bool = True) -> None:
    """Replace what one source says of items: the column (N,) of catalog.inferred, in the order of ids.

    What the shop and other sources say, and the vectors, stay. Ids that the index has not got are left out.
    """
    told = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String}).with_columns(column.alias(INFERRED))
    with writing_turn(store.path):
        rows = store.known_items(told["id"].to_list()).drop(INFERRED).sort("id")
        items = Catalog(rows.join(told, on="id", how="left", maintain_order="left"), plain=True)
        store.update(layered(store, items, {source}), refresh=refresh, layered=True)


def act_from(store: Store, confidence: float) -> None:
    """Find, filter and count filled-in attributes from this confidence on. Raises ValueError for no probability."""
    if not 0 <= confidence <= 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence:g}")
    if confidence == store.manifest.inferred_from:
        return
    with writing_turn(store.path):
        made = store.manifest.model_copy(update={"inferred_from": confidence})
        store.update(filled_items(store), layered=True, inferred_from=confidence)
        made.write(store.path)  # last: a run that was cut off is repeated
    store.reload()
