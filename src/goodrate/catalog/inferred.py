"""Filled-in attributes: what models say of items beside the shop's own data, in a column of its own.

`inferred_attributes` is a JSON list of objects (ENTRY), `[]` for none. The shop's own values always win: an entry of an
attribute that the item has itself is kept and never acts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from goodrate.catalog.attribute_text import PAIR, merged_objects
from goodrate.catalog.normal_form import normal_form, normal_text
from goodrate.catalog.problems import BadRow
from goodrate.strict_json import compact, parse

INFERRED = "inferred_attributes"  # the column
READ_FROM = 0.5  # the confidence from which judges read it and pages show it: likelier right than wrong
NONE = "[]"
FIELDS: dict[str, type[pl.DataType]] = {
    "attribute": pl.String,
    "value": pl.String,
    "confidence": pl.Float64,  # a probability, 0..1
    "source": pl.String,  # whose it is: a run of that source replaces all of its values
    "model": pl.String,  # the fingerprint of what said it
}
ENTRY = pl.Struct(FIELDS)
OWN_COLUMNS = ("brand", "category")  # an item that has one has the attribute of that name
DIGITS = 4  # of a confidence
INFERRED_FROM = 0.8  # the confidence from which an index finds, filters and counts an entry, unless it says otherwise
_NAME = r'^"((?:[^"\\]|\\.)*)":'


def entries_of(texts: pl.Series) -> pl.DataFrame:
    """row (the place in `texts`) and FIELDS of all entries, row by row."""
    frame = pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "entry": texts}).filter(
        pl.col("entry").fill_null(NONE).is_in([NONE, ""]).not_()
    )
    read = frame.with_columns(pl.col("entry").str.json_decode(pl.List(ENTRY))).explode("entry").drop_nulls()
    return read.unnest("entry").with_columns(pl.col("model").fill_null(""))


def texts_of(entries: pl.DataFrame, rows: int) -> pl.Series:
    """The column (rows,) of entries: row and FIELDS. Entries go by attribute and source."""
    rounded = entries.with_columns(pl.col("confidence").round(DIGITS)).sort("row", "attribute", "source")
    listed = rounded.group_by("row", maintain_order=True).agg(entry=pl.struct(*FIELDS))
    written = listed.select(
        "row", text=pl.struct(list="entry").struct.json_encode().str.strip_prefix('{"list":').str.strip_suffix("}")
    )
    every = pl.DataFrame({"row": pl.int_range(rows, eager=True)}, schema={"row": listed.schema["row"]})
    return every.join(written, on="row", how="left", maintain_order="left")["text"].fill_null(NONE).alias(INFERRED)


def layer_of(guesses: Sequence[Mapping[str, tuple[str, float]]], source: str, model: str) -> pl.Series:
    """The column (N,) of one source. guesses: attribute -> (value, confidence) of each item."""
    rows = [
        (row, attribute, value, float(confidence), source, model)
        for row, own in enumerate(guesses)
        for attribute, (value, confidence) in own.items()
    ]
    frame = pl.DataFrame(rows, schema={"row": pl.Int64, **FIELDS}, orient="row")
    return texts_of(frame, len(guesses))


def sources_of(texts: pl.Series) -> set[str]:
    """Whose values are in a column."""
    return set(entries_of(texts)["source"])


def replaced(before: pl.Series, after: pl.Series, sources: Collection[str]) -> pl.Series:
    """The column (N,) where the values of some sources are those of `after`, and all others those of `before`."""
    kept = entries_of(before).filter(~pl.col("source").is_in(list(sources)))
    if kept.is_empty():
        return after
    return texts_of(pl.concat([kept, entries_of(after)]), len(after))


def acting(frame: pl.DataFrame, least: float) -> pl.DataFrame:
    """row and FIELDS of the entries that count for the rows of a frame: of each attribute that the item has not got
    itself (names in their normal form) the most confident one, from `least` on.

    frame: attributes (compact JSON), the column INFERRED, and of OWN_COLUMNS those that it has.
    """
    entries = entries_of(frame[INFERRED]).filter(pl.col("confidence") >= least)
    if entries.is_empty():
        return entries
    named = entries.with_columns(name=normal_form(entries["attribute"]))
    own = _own_names(frame.with_row_index("row").filter(pl.col("row").is_in(named["row"].unique().implode())))
    free = named.join(own, on=["row", "name"], how="anti").filter(pl.col("value").str.strip_chars() != "")
    best = free.sort("row", "name", "confidence", "source", descending=[False, False, True, False])
    return best.unique(["row", "name"], keep="first", maintain_order=True).select("row", *FIELDS)


def _own_names(frame: pl.DataFrame) -> pl.DataFrame:
    """row and name (normal form) of what items have themselves."""
    pairs = frame.select(pl.col("row").cast(pl.Int64), pair=pl.col("attributes").str.extract_all(PAIR)).explode("pair")
    bare = pairs["pair"].str.extract(_NAME, 1)
    escaped = {text: str(parse(f'"{text}"')) for text in bare.filter(bare.str.contains("\\", literal=True)).unique()}
    found = pairs.select("row", name=normal_form(bare.replace(escaped) if escaped else bare)).drop_nulls()
    columns = [
        frame.filter(pl.col(name).fill_null("") != "").select(pl.col("row").cast(pl.Int64), name=pl.lit(name))
        for name in OWN_COLUMNS
        if name in frame.columns
    ]
    return pl.concat([found, *columns]).unique()


def with_acting(frame: pl.DataFrame, least: float) -> pl.DataFrame:
    """The frame with what acts among its attributes, as if the shop had stated it."""
    entries = acting(frame, least)
    if entries.is_empty():
        return frame
    listed = entries.group_by("row", maintain_order=True).agg("attribute", "value")
    objects = ["{}"] * len(frame)
    for row, names, values in listed.rows():
        objects[row] = compact(dict(zip(names, values, strict=True)))
    return frame.with_columns(merged_objects(frame["attributes"], pl.Series(objects, dtype=pl.String)))


def shown(text: str, attributes: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Attribute -> value, confidence and source of one item's filled-in attributes, as pages and JSON show them.

    text: its INFERRED. attributes, columns: what it has itself. Those from READ_FROM on, the most confident of each.
    >>> told = '[{"attribute":"color","value":"red","confidence":0.9,"source":"probe","model":"1f"}]'
    >>> shown(told, {}, {}), shown(told, {"Color": "blue"}, {})
    ({'color': {'value': 'red', 'confidence': 0.9, 'source': 'probe'}}, {})
    """
    if text in ("", NONE):
        return {}
    taken = {normal_text(name) for name in attributes} | {name for name in OWN_COLUMNS if columns.get(name)}
    found: dict[str, dict[str, Any]] = {}
    for one in sorted(parse(text), key=lambda one: (-one["confidence"], one["source"])):
        name = normal_text(one["attribute"])
        if name not in taken and one["confidence"] >= READ_FROM:
            taken.add(name)
            found[one["attribute"]] = {part: one[part] for part in ("value", "confidence", "source")}
    return found


def checked(texts: pl.Series, rows: pl.Series) -> tuple[pl.Series, list[BadRow]]:
    """A column (N,) as a file has it, in the form of texts_of; what is no list of ENTRY is a problem of its row."""
    filled = texts.fill_null("")
    distinct = filled.filter(~filled.is_in(["", NONE])).unique()
    if distinct.is_empty():
        return pl.Series(texts.name, [NONE], dtype=pl.String).new_from_index(0, len(texts)), []
    wrong = {text: reason for text in distinct if (reason := _fault(text))}
    bad = pl.DataFrame({"row": rows, "text": filled}).filter(pl.col("text").is_in(list(wrong)))
    problems = [BadRow(row, INFERRED, wrong[text]) for row, text in bad.rows()]
    usable = filled.replace(dict.fromkeys([*wrong, ""], NONE))
    return texts_of(entries_of(usable), len(usable)).alias(texts.name), problems


def _fault(text: str) -> str:
    """Why a text is no list of entries; "" for one that is."""
    expected = 'a list such as [{"attribute":"color","value":"red","confidence":0.9,"source":"probe","model":""}]'
    try:
        read = parse(text)
    except ValueError as error:
        return f"{expected}, found {text[:40]!r} ({str(error).rpartition(': ')[2]})"
    if not isinstance(read, list) or not all(isinstance(one, dict) for one in read):
        return f"{expected}, found {text[:40]!r}"
    for one in read:
        lacking = next((name for name in ("attribute", "value", "source") if not _is_text(one.get(name))), None)
        if lacking:
            return f"{expected}; {lacking} is {one.get(lacking)!r}"
        confidence = one.get("confidence")
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            return f"a confidence between 0 and 1, found {confidence!r}"
        if not isinstance(one.get("model", ""), str):
            return f"a text as model, found {one['model']!r}"
    named = [(normal_text(one["attribute"]), one["source"]) for one in read]
    return "" if len(set(named)) == len(named) else f"one value an attribute and source, found {text[:80]!r}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
