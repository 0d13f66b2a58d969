"""What an index keeps of each item beside its own columns: what is searched, filtered and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from goodrate.catalog.inferred import with_acting
from goodrate.catalog.normal_form import normal_form
from goodrate.catalog.rendering import lexical_texts, render_items
from goodrate.retrieval.identifiers import item_identifiers
from goodrate.retrieval.tags import item_tags


def text_hashes(texts: Sequence[str]) -> list[str]:
    """A hash of what the encoder reads of each item: equal hash and encoder, equal vector."""
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def with_row_columns(
    frame: pl.DataFrame, encoded_fields: Sequence[str], inferred_from: float, hashes: Sequence[str] | None
) -> pl.DataFrame:
    """Items (catalog.items.ITEM_COLUMNS) with the other columns of the table, but for the vector.

    inferred_from: the confidence from which filled-in attributes are found, filtered and counted like the shop's own.
    hashes: text_hashes of what the encoder reads; None = made here.
    """
    if hashes is None:
        hashes = text_hashes(render_items(frame, encoded_fields))
    acting = with_acting(frame, inferred_from)
    core, attributes = lexical_texts(acting)
    codes = item_identifiers(frame)
    columns = {"text": core, "attribute_text": attributes, "identifiers": codes, "text_hash": hashes}
    named = frame.with_columns(pl.Series(name, values, pl.String) for name, values in columns.items())
    return named.with_columns(normal_form(frame["title"]).alias("title_normal"), *item_tags(acting))
