"""Mining hard negatives by words or by the encoder itself: the step that Retrieval-GRPO removes (arXiv 2511.13885)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from goodrate.learning.hard_negatives import HardNegatives, Mine
from goodrate.learning.item_matrix import top_k
from goodrate.models.encoder import Encoder
from goodrate.run_folder import new_folder


class HardNegativeSettings(BaseModel):
    """Which search they come from, and how many."""

    model_config = ConfigDict(extra="forbid")
    source: Literal["lexical", "model"] = Field(default="model", description="full-text search, or the encoder")
    per_pair: int = Field(default=1, gt=0, description="mined items for each pair of an update")
    depth: int = Field(default=50, gt=0, description="first results of a query that are drawn from")
    skip: int = Field(
        default=0, ge=0, description="results passed over first: unjudged items there are often good ones"
    )
    every: int = Field(default=0, ge=0, description="model: updates between minings; 0 = once, by the start")


def hard_negatives(
    settings: HardNegativeSettings, queries: Sequence[str], items: Mapping[str, str], encoder: Encoder, folder: Path,
    seed: int,
) -> HardNegatives:  # fmt: skip
    """items: text by item id. encoder: searches with the weights that it has when it is asked. folder: for an index."""
    if settings.skip >= len(items):
        raise ValueError(f"hard_negatives.skip = {settings.skip}: the catalogue has {len(items):,} items")
    first, last = settings.skip, settings.skip + settings.depth
    mine = (
        by_model(encoder, queries, items, last)
        if settings.source == "model"
        else by_words(queries, items, last, folder)
    )
    every = settings.every if settings.source == "model" else 0
    return HardNegatives(
        lambda: {query: ranked[first:] for query, ranked in mine().items()}, settings.per_pair, seed, every
    )


def by_model(encoder: Encoder, queries: Sequence[str], items: Mapping[str, str], depth: int) -> Mine:
    """The nearest items under the encoder's weights of the moment, over the whole catalogue."""
    distinct, ids = list(dict.fromkeys(queries)), list(items)

    def mine() -> dict[str, list[str]]:
        ranked = top_k(encoder.encode_queries(distinct), encoder.encode_items(list(items.values())), depth)
        return {query: [ids[item] for item in row] for query, row in zip(distinct, ranked.tolist(), strict=True)}

    return mine


def by_words(queries: Sequence[str], items: Mapping[str, str], depth: int, folder: Path) -> Mine:
    """The first results of the store's full text over the item texts; its index is put into `folder` and kept."""

    def mine() -> dict[str, list[str]]:
        import polars as pl

        from goodrate.catalog.items import Catalog
        from goodrate.retrieval.store import Store

        if not (folder / "store.json").is_file():
            catalog = Catalog(pl.DataFrame({"id": list(items), "title": list(items.values())}), plain=True)
            with new_folder(folder) as beside:
                Store.create(beside, None, None).upsert(catalog, None)
        store = Store.open(folder)
        return {query: [hit.item_id for hit in store.search_text(query, depth)] for query in dict.fromkeys(queries)}

    return mine
