"""The catalogue: items with the same columns wherever they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from goodrate.catalog.attribute_text import compact_attributes, merged_objects
from goodrate.catalog.html_text import without_html
from goodrate.catalog.inferred import INFERRED
from goodrate.catalog.problems import BadRow
from goodrate.catalog.rendering import render_item, render_items
from goodrate.catalog.tables import json_objects

if TYPE_CHECKING:
    from goodrate.catalog.images import Pictures

__all__ = ["ITEM_COLUMNS", "PATH_SEPARATOR", "VALUE_SEPARATOR", "Catalog", "render_item", "render_items"]

PATH_SEPARATOR = " > "  # between the levels of a category, from the root
VALUE_SEPARATOR = " | "  # between several categories or brands of one item

ITEM_COLUMNS: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "title": pl.String,
    "description": pl.String,
    "brand": pl.String,
    "category": pl.String,
    "price": pl.Float64,  # null = unknown
    "rating": pl.Float64,  # null = unknown
    "currency": pl.String,  # of the price, an ISO code such as EUR; "" = unknown
    "image": pl.String,  # an address or a path; "" = none
    "clip": pl.String,  # a path of an animation below the folder of clips; "" = none
    "parent_id": pl.String,  # the group of variants that the item belongs to; "" = none
    "attributes": pl.String,  # a JSON object, name -> scalar or list
    INFERRED: pl.String,  # what models fill in (catalog.inferred), a JSON list; "[]" = nothing
}


class Catalog:
    """Items in a fixed order with unique ids.

    frame: columns of ITEM_COLUMNS; id and title are required, the others are filled with "", null and "{}". Columns
    that are not ours become attributes, as they do in files.
    skipped: rows that the reader left out because --skip-bad allowed it. notes: how the reader took what can be read in
    several ways, a line each. skipped_ids: those of skipped rows that have one. plain: the texts were read before, and
    what looks like HTML in them is meant; otherwise they become text, as those of files do. pictures: where the
    pictures lie that the column image names; None: that was not asked.
    """

    def __init__(
        self, frame: pl.DataFrame, skipped: tuple[BadRow, ...] = (), notes: tuple[str, ...] = (),
        skipped_ids: tuple[str, ...] = (), plain: bool = False, pictures: Pictures | None = None,
    ) -> None:  # fmt: skip
        typed = _normalised(frame)
        self.frame = typed if plain else without_html(typed)[0]
        self.skipped, self.notes, self.skipped_ids, self.pictures = skipped, notes, skipped_ids, pictures
        if self.frame["id"].n_unique() < len(self.frame):
            doubled = self.frame.filter(pl.col("id").is_duplicated())["id"][0]
            raise ValueError(f"item id {doubled!r} occurs more than once; ids must be unique")

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def ids(self) -> list[str]:
        """All ids in catalogue order."""
        return self.frame["id"].to_list()

    def rows(self, ids: Sequence[str]) -> pl.DataFrame:
        """The items with these ids, in the asked order. Raises ValueError for an id that is not here."""
        asked_ids = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
        rows = asked_ids.join(self.frame, on="id", how="left", maintain_order="left").select(*ITEM_COLUMNS)
        missing = rows.filter(pl.col("title").is_null())["id"].to_list()
        if missing:
            raise ValueError(f"{len(missing)} of {len(asked_ids)} ids are not in the catalogue, such as {missing[0]!r}")
        return rows

    def to_rows(self) -> list[dict[str, Any]]:
        """Every item as a mapping of ITEM_COLUMNS, in catalogue order."""
        return self.frame.to_dicts()

    def __getitem__(self, place: slice) -> Catalog:
        """Some of the items, by place: items[:5]."""
        if not isinstance(place, slice):
            raise TypeError(f"a catalogue is cut with a slice such as items[:5], not {place!r}; rows([id]) finds by id")
        return Catalog(self.frame[place], notes=self.notes, plain=True, pictures=self.pictures)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_rows())

    def __repr__(self) -> str:
        return f"Catalog of {len(self):,} items"

    def picture(self, place: int) -> bytes | None:
        """The bytes of an item's picture, by its place; None where it has none here. Raises images.PictureError."""
        return None if self.pictures is None else self.pictures.content(self.frame["image"][place])

    def text(self) -> list[str]:
        """Every item as one line of text, in catalogue order."""
        return render_items(self.frame)

    @cached_property
    def content_hash(self) -> str:
        """12 hex digits over all items and their order; the same on every machine."""
        plain = (self.frame[INFERRED] == "[]").all()
        told = self.frame.drop(INFERRED) if plain else self.frame
        return hashlib.sha256(told.write_ndjson().encode()).hexdigest()[:12]


def _normalised(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of ITEM_COLUMNS in order and type, texts without nulls."""
    for name in ("id", "title"):
        if name not in frame.columns:
            raise ValueError(f"items have no column {name!r}; found: {', '.join(frame.columns)}")
    if isinstance(frame.schema.get("attributes"), pl.Struct):
        frame = frame.with_columns(compact_attributes(frame["attributes"]))
    typed = frame.select(_column(frame, name, dtype) for name, dtype in ITEM_COLUMNS.items())
    attributes = compact_attributes(typed["attributes"])
    others = [name for name in frame.columns if name not in ITEM_COLUMNS]
    return typed.with_columns(merged_objects(attributes, json_objects(frame, others)) if others else attributes)


def _column(frame: pl.DataFrame, name: str, dtype: type[pl.DataType]) -> pl.Expr:
    """One column in its type, or its empty value."""
    empty = {"attributes": "{}", INFERRED: "[]"}.get(name, "" if dtype is pl.String else None)
    if name not in frame.columns:
        return pl.lit(empty, dtype=dtype).alias(name)
    value = pl.col(name).cast(dtype)
    return value if empty is None else value.fill_null(empty)
