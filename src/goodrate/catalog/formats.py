"""Catalogue and judgement files as others write them: ESCI, WANDS, the Chorus conversion, Google Merchant, Shopify."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from goodrate.catalog import shopify
from goodrate.catalog.attribute_text import compact_object
from goodrate.catalog.raw_table import RawTable, Reshape
from goodrate.strict_json import compact, parse


@dataclass(frozen=True)
class Format:
    """How to read one published layout.

    columns: our name -> their names, tried in order. row_by_row: those of our names that take in each row the first of
    their names that is filled there. ignored: columns that are no item text, as patterns (seo_*). rename, reshape: see
    raw_table.Wanted. parse_attributes: turns their attributes text into a JSON object. price_factor: multiplies prices
    into whole currency units. locale_column: what the part after ':' of a format such as esci:us selects.
    """

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    parse_attributes: Callable[[str], str] | None = None
    price_factor: float = 1.0
    locale_columns: tuple[str, ...] = ()
    row_by_row: tuple[str, ...] = ()
    rename: Callable[[str], str] = str
    reshape: Reshape | None = None


def merchant_name(name: str) -> str:
    """A column of a feed in the form of Google's attribute names.

    >>> [merchant_name(name) for name in ("g:Image Link", "google product category", "price")]
    ['image_link', 'google_product_category', 'price']
    """
    return name.strip().lower().removeprefix("g:").replace(" ", "_").replace("-", "_")


def wands_features(text: str) -> str:
    """WANDS writes 'name : value|name:value'; a name that comes again makes a list.

    >>> wands_features("color : red|color:blue| legs : 4|broken")
    '{"color":["red","blue"],"legs":"4"}'
    """
    values: dict[str, list[str]] = {}
    for part in text.split("|"):
        name, colon, value = (piece.strip() for piece in part.partition(":"))
        if name and colon and value and value not in values.setdefault(name, []):
            values[name].append(value)
    return compact({name: entries[0] if len(entries) == 1 else entries for name, entries in values.items() if entries})


def chorus_attributes(text: str) -> str:
    """Chorus names say the type: attr_t_ text, attr_n_ number, attr_b_ bool. The first of two equal names stays.

    >>> chorus_attributes('{"attr_t_colour":"Black","attr_b_wi_fi":true}')
    '{"colour":"Black","wi_fi":true}'
    """
    named: dict[str, object] = {}
    for name, value in parse(text).items():
        short = name[7:] if name[:7] in ("attr_t_", "attr_n_", "attr_b_") else name
        named.setdefault(short.strip("_").replace("__", "_"), value)
    return compact(named)


# What a feed says to Google alone.
MERCHANT_IGNORED = (
    "link", "mobile_link", "canonical_link", "ads_*", "additional_image_link", "lifestyle_image_link", "shipping*",
    "tax*", "excluded_destination", "included_destination", "shopping_ads_excluded_country", "min_handling_time",
    "max_handling_time", "cost_of_goods_sold", "identifier_exists", "custom_label_?", "sale_price_effective_date",
    "transit_time_label", "pause", "short_title", "updated", "pubdate", "guid", "promotion_id",
)  # fmt: skip

GENERIC = Format({"attributes": ("attributes",)}, parse_attributes=compact_object)

ITEM_FORMATS = {
    "esci": Format(
        {
            "id": ("product_id", "id"),
            "title": ("product_title", "title"),
            "description": ("product_description", "description"),
            "brand": ("product_brand", "brand"),
        },
        ignored=("product_locale", "locale"),
        locale_columns=("product_locale", "locale"),
    ),
    "wands": Format(
        {
            "id": ("product_id",),
            "title": ("product_name",),
            "description": ("product_description",),
            "category": ("category hierarchy",),
            "rating": ("average_rating",),
            "attributes": ("product_features",),
        },
        ignored=("rating_count", "review_count"),
        parse_attributes=wands_features,
    ),
    "chorus": Format(
        {"description": ("short_description",), "attributes": ("attributes",)},
        ignored=("date_released", "img_500x500"),
        parse_attributes=chorus_attributes,
        price_factor=0.01,
    ),
    "merchant": Format(
        {
            "description": ("description", "summary", "content"),
            "category": ("product_type", "google_product_category"),
            "price": ("sale_price", "price"),
            "image": ("image_link",),
            "parent_id": ("item_group_id",),
            "attributes": ("attributes",),
        },
        ignored=MERCHANT_IGNORED,
        parse_attributes=compact_object,
        row_by_row=("description", "category", "price"),
        rename=merchant_name,
    ),
    "shopify": Format(
        {
            "description": ("body_html",),
            "brand": ("vendor",),
            "category": ("type", "product_category"),
            "price": ("variant_price",),
            "parent_id": ("handle",),
            "attributes": ("attributes",),
        },
        ignored=shopify.IGNORED,
        parse_attributes=compact_object,
        row_by_row=("category",),
        rename=shopify.shopify_name,
        reshape=shopify.variants,
    ),
}

# Columns by which an export is known again: only ever suggested, never assumed.
SIGNS = {
    "shopify": {"handle", "variant_price", "body_html"}, "merchant": {"image_link", "link", "price"},
    "wands": {"product_name", "product_features"}, "esci": {"product_title", "product_locale"},
}  # fmt: skip

JUDGEMENT_FORMATS = {
    "esci": Format({"item_id": ("product_id",), "label": ("esci_label",)}, locale_columns=("product_locale",)),
    "wands": Format({"item_id": ("product_id",)}),
    "chorus": Format({"item_id": ("docid",), "label": ("rating",)}),
    "quepid": Format(
        {
            "query": ("query", "Query Text"),
            "item_id": ("docid", "doc_id", "Doc ID"),
            "label": ("rating", "Rating"),
        }
    ),
    **dict.fromkeys(("trec", "ltr", "rre", "srw", "rank_eval", "quepid_json"), GENERIC),  # judgement_formats
}


def find_format(name: str | None, formats: dict[str, Format]) -> tuple[Format, str | None]:
    """The format of that name and the locale after its colon. Raises ValueError with the known names."""
    if name is None:
        return GENERIC, None
    base, _, locale = name.partition(":")
    if base not in formats:
        raise ValueError(f"unknown format {name!r}; accepted: {', '.join(formats)}, or none for a file with a header")
    if locale and not formats[base].locale_columns:
        raise ValueError(f"format {base!r} has no locales; write {base!r}")
    return formats[base], locale or None


def likely_format(columns: Collection[str]) -> str | None:
    """The format whose signs are among the columns of a file, None when it is none of them."""
    for name, signs in SIGNS.items():
        if signs <= {ITEM_FORMATS[name].rename(column) for column in columns}:
            return name
    return None


def option_for(columns: Collection[str], option: str) -> str:
    """What maps the columns of a file: a format that it looks like, or `option`."""
    likely = likely_format(columns)
    return f"--format {likely}, or {option}" if likely else option


def resolve_columns(names: Collection[str], layout: Format, mapping: dict[str, str] | None) -> dict[str, list[str]]:
    """Our name -> the column names to try, the user's own first. Raises ValueError for a name that is not ours."""
    mapping = mapping or {}
    for ours in mapping:
        if ours not in names:
            raise ValueError(f"--map knows {', '.join(names)}; got {ours!r}")
    return {name: [mapping[name]] if name in mapping else [*layout.columns.get(name, (name,))] for name in names}


def fill_row_by_row(table: RawTable, candidates: Mapping[str, Sequence[str]], layout: Format) -> RawTable:
    """The table with, in the first column of each name of layout.row_by_row, the first filled value of all of them."""
    frame = table.frame
    for ours in layout.row_by_row:
        names = [name for name in candidates[ours] if name in frame.columns]
        filled: list[pl.Expr] = [pl.when(pl.col(name).cast(pl.String) != "").then(pl.col(name)) for name in names]
        if len({frame.schema[name] for name in names}) > 1:  # a workbook's numbers beside texts
            filled = [value.cast(pl.String) for value in filled]
        frame = frame.with_columns(pl.coalesce(filled).alias(names[0])) if len(names) > 1 else frame
    return replace(table, frame=frame)


def keep_locale(frame: pl.DataFrame, layout: Format, locale: str | None) -> pl.DataFrame:
    """The rows of one locale. Raises ValueError with the locales that exist when none matches."""
    column = next((name for name in layout.locale_columns if name in frame.columns), None)
    if locale is None or column is None:
        return frame
    matching = frame.filter(pl.col(column) == locale)
    if matching.is_empty():
        raise ValueError(f"no row has {column} {locale!r}; found: {', '.join(frame[column].unique().sort().to_list())}")
    return matching
