"""Which attributes items have, as a table: what a model of attributes learns from and what it may answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import normal_form, normal_text
from goodrate.retrieval.tags import ATTRIBUTES, SIGN, item_tags, split_entries

LEAST = 8  # items that a value needs before a model may answer it
MOST = 60  # values an attribute may have; one with more is a name or a number, not a kind


def stated_values(items: Catalog) -> pl.DataFrame:
    """row, attribute and value in the normal form, and label and spelling as the shop writes them, of all that the
    items say themselves; a row for each entry of a list.
    """
    entries = pl.DataFrame({"row": range(len(items)), "entry": item_tags(items.frame)["facets"]}).explode("entry")
    entries = entries.drop_nulls().filter(pl.col("entry").str.starts_with(ATTRIBUTES))
    split = split_entries(entries["entry"].unique())
    parts = pl.col("entry").str.splitn(SIGN, 2)
    named = split.with_columns(label=parts.struct[0].str.strip_prefix(ATTRIBUTES), spelling=parts.struct[1])
    named = named.with_columns(attribute=pl.col("name").str.strip_prefix(ATTRIBUTES))
    joined = entries.join(named, on="entry", maintain_order="left")
    return joined.select("row", "attribute", "value", "label", "spelling")


def said_alike(stated: pl.DataFrame, same: Mapping[str, str]) -> pl.DataFrame:
    """The table of stated_values with one word for values that mean one thing: normal form -> how it is said."""
    if not same:
        return stated
    words = {normal_text(value): said for value, said in same.items()}
    said = pl.col("value").replace_strict(words, default=None, return_dtype=pl.String)
    named = stated.with_columns(spelling=pl.coalesce(said, "spelling"))
    spoken = named.with_columns(value=pl.Series(normal_form(named["spelling"])))
    return spoken.unique(["row", "attribute", "value"], keep="first", maintain_order=True)


def answerable(stated: pl.DataFrame, attributes: Collection[str] | None = None) -> dict[str, list[str]]:
    """Attribute -> the values that a model may answer, as most items spell both; ordered by name and value.

    Values of at least LEAST items, of attributes that have two of them at least and MOST at most. attributes: those
    that are wanted, None = all that are answerable. Raises ValueError naming one that is not.
    """
    single = stated.filter(pl.len().over("row", "attribute") == 1)
    labels = single.group_by("attribute").agg(pl.col("label").mode().sort().first())
    values = single.group_by("attribute", "value").agg(pl.col("spelling").mode().sort().first(), items=pl.len())
    usable = values.filter(pl.col("items") >= LEAST).sort("attribute", "value")
    counts = (
        usable.group_by("attribute", maintain_order=True)
        .agg("spelling")
        .join(labels, on="attribute", maintain_order="left")
    )
    found = {
        name: (label, spellings)
        for name, spellings, label in counts.select("attribute", "spelling", "label").rows()
        if 2 <= len(spellings) <= MOST
    }
    wanted = {normal_text(name): name for name in attributes} if attributes is not None else dict.fromkeys(found, "")
    lacking = next((given for name, given in wanted.items() if name not in found), None)
    if lacking is not None:
        raise ValueError(
            f"attribute {lacking!r}: expected one with 2 to {MOST} values that at least {LEAST} items state; "
            f"there are: {', '.join(label for label, _ in found.values()) or 'none'}"
        )
    return {found[name][0]: found[name][1] for name in found if name in wanted}


def open_values(attributes: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Attribute -> values, both in their normal form."""
    return {normal_text(name): {normal_text(value) for value in values} for name, values in attributes.items()}
