"""What filters and facets see of an item: short texts that name a field and one of its values.

A tag is in the normal form, and an index of the engine finds the items that have one:

    attributes.color<tab>red        the item has this value; lists have a tag for each entry
    attributes.color                it has a value at all
    attributes.weight<tab><tab>1.5e2      it has a number whose first digits these are (150 to 160)

A normal form holds no tab, so no name or value can be taken for another. An entry is a name and a value as they were
read, "attributes.Color<tab>Red": facets are counted and shown from entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import polars as pl

from goodrate.catalog.attribute_text import PAIR
from goodrate.catalog.items import PATH_SEPARATOR, VALUE_SEPARATOR
from goodrate.catalog.normal_form import normal_form
from goodrate.strict_json import parse

SIGN = "\t"  # between a name and a value
ATTRIBUTES = "attributes."
PLAIN = ("currency", "parent_id")  # columns with one value
ROOT = "category root"  # entries that say where a category tree begins; no tags
# A name and a text without escapes, a whole number, a fraction that does not end in 0, or a truth.
_SIMPLE = r'^"([^"\\\t]+)":(?:"([^"\\\t]+)"|(-?[1-9]\d{0,14}|0)(?:\.0+)?|(-?\d{1,9}\.\d{0,5}[1-9])|(true|false))$'
_NUMBER = re.compile(r"([+-]?(?:0|[1-9]\d{0,14})(?:\.\d+)?)\s?([^\d\s.,;:/+-]{1,12})?")


def normal(text: str) -> str:
    """The normal form of one text, exactly as columns have it."""
    return str(normal_form(pl.Series([text]))[0])


def number_and_unit(value: str) -> tuple[float, str] | None:
    """A normal value as a number and its unit, "" for none; None for what is no number with at most one word behind.

    Leading zeros and more than 15 digits make a code of it, and a comma may mean either thing.
    >>> number_and_unit("15.6 inch"), number_and_unit("-3"), number_and_unit("007"), number_and_unit("1,5")
    ((15.6, 'inch'), (-3.0, ''), None, None)
    """
    found = _NUMBER.fullmatch(value)
    return (float(found[1]), found[2] or "") if found else None


def bucket(number: float) -> str:
    """The first two digits of a number and its power of ten.

    >>> bucket(156.0), bucket(-0.02), bucket(0.0)
    ('1.5e+02', '-2.0e-02', '0.0e+00')
    """
    digits, power = f"{number:.16e}".split("e")
    return f"{digits[: digits.index('.') + 2]}e{power}"


def bucket_ends(name: str) -> tuple[float, float]:
    """The least and the largest number of a bucket, in any order; both may belong to the next one.

    >>> bucket_ends("1.5e+02"), bucket_ends("-2.0e-02")
    ((150.0, 160.0), (-0.02, -0.021))
    """
    digits, power = name.split("e")
    sign = "-" if digits.startswith("-") else ""
    tenths, last = int(digits.strip("-+").replace(".", "")), int(power) - 1
    return float(f"{sign}{tenths}e{last}"), float(f"{sign}{tenths + 1}e{last}")


def item_tags(frame: pl.DataFrame) -> pl.DataFrame:
    """The tags and the entries of each item, as two columns of lists of texts.

    frame: brand, category and attributes (compact JSON), and of PLAIN those that it has. Of values with one normal form
    an item has one entry; entries go by name and value.
    """
    rows = frame.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"))
    parts = [
        _read(frame["attributes"].fill_null("").str.extract_all(PAIR), _of_pair, _of_simple_pairs),
        _read(frame["brand"], _of_brand),
        _read(frame["category"], _of_category),
        *(_read(frame[name], _of_plain(name)) for name in PLAIN if name in frame.columns),
    ]
    entries = pl.concat(parts)
    entries = entries.join(_tagged(entries["entry"].unique()), on="entry", maintain_order="left")
    entries = entries.unique(["row", "term"], keep="first", maintain_order=True).sort("row", "term")
    shown = entries.group_by("row").agg(facets=pl.col("entry"))
    found = entries.filter(pl.col("name") != ROOT).explode("tags").group_by("row").agg(pl.col("tags").unique().sort())
    both = rows.join(found, on="row", how="left", maintain_order="left")
    both = both.join(shown, on="row", how="left", maintain_order="left")
    return both.select(pl.col("tags", "facets").cast(pl.List(pl.String)).fill_null([]))


Entries = Iterator[tuple[str, str]]  # names and values


def _read(
    texts: pl.Series, read: Callable[[str], Entries], fast: Callable[[pl.Series], pl.Series] | None = None
) -> pl.DataFrame:
    """The entries of texts (or lists of texts), row by row; every distinct text is read once.

    fast: the entries of those texts that need no reading one by one, null for the others.
    """
    column = pl.DataFrame({"text": texts}).with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32))
    column = column.explode("text") if texts.dtype == pl.List else column
    column = column.filter(pl.col("text").is_not_null() & (pl.col("text") != ""))
    distinct = column["text"].unique(maintain_order=True)
    known = pl.Series([None] * len(distinct), dtype=pl.String) if fast is None else fast(distinct)
    slow = distinct.filter(known.is_null()).to_list()
    read_once = [[f"{name}{SIGN}{value.replace(SIGN, ' ')}" for name, value in read(text)] for text in slow]
    schema = {"text": pl.String(), "entry": pl.List(pl.String)}
    quick = pl.DataFrame({"text": distinct, "entry": known}).drop_nulls()
    entries = pl.concat([
        pl.DataFrame({"text": slow, "entry": read_once}, schema=schema),
        quick.with_columns(pl.concat_list("entry")),
    ])  # fmt: skip
    return column.join(entries, on="text", maintain_order="left").explode("entry").drop_nulls().select("row", "entry")


def _of_pair(pair: str) -> Entries:
    """The entries of one attribute, a name and value of a JSON object; none of one that is no JSON (NaN)."""
    try:
        attribute = parse(f"{{{pair}}}")
    except ValueError:
        return
    for name, value in attribute.items():
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, (dict, list)) and entry is not None:
                yield ATTRIBUTES + name.replace(SIGN, " "), json_text(entry)


def _of_simple_pairs(pairs: pl.Series) -> pl.Series:
    """The entries of pairs of a name and a plain text, number or truth; null for those that have to be parsed."""
    parts = pairs.str.extract_groups(_SIMPLE)
    value = pl.coalesce(*(pl.col(str(group)) for group in range(2, 6)))
    return parts.struct.unnest().select(entry=ATTRIBUTES + pl.col("1") + SIGN + value)["entry"]


def json_text(value: Any) -> str:
    """A JSON value as text; numbers without an exponent, whole ones without a fraction.

    >>> json_text(15.0), json_text(1e-05), json_text(True)
    ('15', '0.00001', 'true')
    """
    if isinstance(value, float):
        return format(Decimal(str(value)), "f").removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_brand(text: str) -> Entries:
    yield from (("brand", one) for one in text.split(VALUE_SEPARATOR))


def _of_category(text: str) -> Entries:
    """Every path from its root on, and every part by itself."""
    for path in text.split(VALUE_SEPARATOR):
        parts = [part.strip() for part in path.split(PATH_SEPARATOR) if part.strip()]
        for depth in range(len(parts)):
            yield "category", PATH_SEPARATOR.join(parts[: depth + 1])
        yield from (("category", part) for part in parts[1:])
        yield from ((ROOT, part) for part in parts[:1])


def _of_plain(name: str) -> Callable[[str], Entries]:
    return lambda text: iter([(name, text)])


def _tagged(entries: pl.Series) -> pl.DataFrame:
    """entry, name, tags and term of distinct entries, without those whose value is blank. Terms go by name and value,
    in the normal form.
    """
    split = split_entries(entries)
    numbers = [number_and_unit(value) for value in split["value"].to_list()]
    buckets = pl.Series([bucket(found[0]) if found else None for found in numbers], dtype=pl.String)
    name = pl.col("name")
    tags = pl.concat_list(name, name + SIGN + pl.col("value"), name + SIGN * 2 + pl.col("bucket")).list.drop_nulls()
    ordered = split.with_columns(buckets.alias("bucket")).sort("name", "value")
    return ordered.select("entry", "name", tags=tags, term=pl.struct("name", "value").rle_id())


def split_entries(entries: pl.Series) -> pl.DataFrame:
    """entry, and its name and value in the normal form; entries whose name or value is blank are left out."""
    parts = entries.str.splitn(SIGN, 2)
    split = pl.DataFrame({
        "entry": entries,
        "name": normal_form(parts.struct.field("field_0")),
        "value": normal_form(parts.struct.field("field_1")),
    })  # fmt: skip
    return split.filter((pl.col("value") != "") & ~pl.col("name").is_in(["", ATTRIBUTES]))
