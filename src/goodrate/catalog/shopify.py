"""Shopify's product export: rows under a Handle, of which the first has what all share, as one row for each variant."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from goodrate.catalog.raw_table import ROW

NEW_NAMES = {  # of the newer template -> of the older one
    "url_handle": "handle", "description": "body_html", "sku": "variant_sku", "barcode": "variant_barcode",
    "price": "variant_price", "compare_at_price": "variant_compare_at_price", "product_image_url": "image_src",
    "variant_image_url": "variant_image", "published_on_online_store": "published", "google_shopping_mpn": "mpn",
}  # fmt: skip
IGNORED = (
    "variant_*", "inventory_*", "weight_*", "seo_*", "google_shopping_*", "included_*", "price_*", "unit_price_*",
    "compare_at_price_*", "option?_*", "image_*", "gift_card", "fulfillment_service", "requires_shipping", "taxable",
    "charge_tax", "tax_code", "cost_per_item", "continue_selling_when_out_of_stock", "template_suffix", "status",
    "published",
)  # fmt: skip
OF_A_VARIANT = re.compile(r"(variant|image|included|price|compare_at_price|inventory|weight)_.*|option\d_value|handle")
_METAFIELD = re.compile(r".*\(product\.metafields\.(?:[^.)]*\.)*([^.)]+)\)")
OPTIONS = (1, 2, 3)
RENAMED = {"variant_sku": "sku", "variant_barcode": "gtin", "variant_compare_at_price": "compare_at_price"}
USED = (*RENAMED, "variant_image", "image_src", *(f"option{n}_{part}" for n in OPTIONS for part in ("name", "value")))


def shopify_name(name: str) -> str:
    """A column's name in one form for both templates; metafields have the name of their key.

    >>> [shopify_name(name) for name in ("Body (HTML)", "SKU", "Fabric (product.metafields.custom.fabric)")]
    ['body_html', 'variant_sku', 'fabric']
    """
    metafield = _METAFIELD.fullmatch(name)
    plain = re.sub(r"\W+", "_", (metafield[1] if metafield else name).lower()).strip("_")
    return plain if metafield else NEW_NAMES.get(plain, plain)


def variants(path: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One row a variant, with what the first row of its Handle says; and what was left out.

    frame: ROW and the columns of an export, renamed. Adds id, image, attributes (the options), sku, gtin and
    compare_at_price; tags become lists. Raises ValueError when there is no Handle or no Title.
    """
    for name in ("handle", "title"):
        if name not in frame.columns:
            raise ValueError(f"{path} has no column {name.capitalize()}; expected a product export of Shopify")
    frame = frame.with_columns(_text(name) for name in frame.columns if name not in (ROW, *_numeric(frame)))
    own = [name for name in ("title", "variant_sku", "variant_price", "option1_value") if name in frame.columns]
    items = pl.any_horizontal(_filled(name) for name in own)
    shared = [name for name in frame.columns if name != ROW and not OF_A_VARIANT.fullmatch(name)]
    pictures = [name for name in ("image_src",) if name in frame.columns]
    first = {name: pl.col(name).filter(_filled(name)).first().over("handle") for name in (*shared, *pictures)}
    frame = frame.with_columns(
        items.alias("is_item"),
        *(pl.when(_filled(name)).then(name).otherwise(first[name]).alias(name) for name in shared),
        *(first[name].alias("image") for name in pictures),
    ).filter("is_item").drop("is_item")  # fmt: skip
    frame, notes = _for_sale(frame)
    frame, note = _with_ids(frame.with_columns(_more(frame)))
    return frame.drop(USED, strict=False), (*notes, *note)


def _numeric(frame: pl.DataFrame) -> list[str]:
    return [name for name, dtype in frame.schema.items() if dtype.is_numeric()]


def _text(name: str) -> pl.Expr:
    """A column as text without blanks around it; Shopify guards numbers that are texts with a quote: '00123."""
    return pl.col(name).cast(pl.String).str.strip_chars().str.replace(r"^'(\d+)$", "${1}")


def _filled(name: str) -> pl.Expr:
    return pl.col(name).is_not_null() & (pl.col(name).cast(pl.String) != "")


def _for_sale(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The variants of products that the shop shows."""
    hidden = pl.lit(False)
    if "status" in frame.columns:
        hidden |= pl.col("status").str.to_lowercase().is_in(["draft", "archived", "unlisted"])
    if "published" in frame.columns:
        hidden |= pl.col("published").cast(pl.String).str.to_lowercase() == "false"
    shown = frame.filter(~hidden.fill_null(False))
    left_out = len(frame) - len(shown)
    note = f"{left_out:,} variants of products that are draft, archived or not published are left out"
    return shown, (note,) if left_out else ()


def _more(frame: pl.DataFrame) -> list[pl.Expr]:
    """The columns that are made of others."""
    more: list[pl.Expr] = [pl.col(theirs).alias(ours) for theirs, ours in RENAMED.items() if theirs in frame.columns]
    if "tags" in frame.columns:
        tags = pl.col("tags").str.split(",").list.eval(pl.element().str.strip_chars())
        more.append(pl.when(_filled("tags")).then(tags).alias("tags"))
    if "variant_image" in frame.columns:
        product = pl.col("image") if "image" in frame.columns else pl.lit(None, dtype=pl.String)
        more.append(pl.when(_filled("variant_image")).then("variant_image").otherwise(product).alias("image"))
    pairs = [_option(number) for number in OPTIONS if {f"option{number}_{part}" for part in ("name", "value")}
             <= set(frame.columns)]  # fmt: skip
    if pairs:
        joined = pl.concat_str(pairs, separator=",", ignore_nulls=True)
        more.append((pl.lit("{") + joined + pl.lit("}")).alias("attributes"))
    return more


def _option(number: int) -> pl.Expr:
    """An option as `"Color":"Red"`, null where there is none; Shopify writes Title, Default Title for none."""
    name, value = f"option{number}_name", f"option{number}_value"
    none = (pl.col(name) == "Title") & (pl.col(value) == "Default Title")
    return pl.when(_filled(name) & _filled(value) & ~none).then(_json(name) + pl.lit(":") + _json(value))


def _json(name: str) -> pl.Expr:
    """A column of texts as JSON texts."""
    as_object = pl.struct(pl.col(name).cast(pl.String).alias("v")).struct.json_encode()
    return as_object.str.strip_prefix('{"v":').str.head(-1)


def _with_ids(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The variants with an id: the SKU where each has one of its own, else the Handle and the options."""
    skus = frame["sku"].cast(pl.String).fill_null("") if "sku" in frame.columns else pl.Series("sku", [""])
    if (skus != "").all() and skus.n_unique() == len(frame):
        return frame.with_columns(pl.col("sku").alias("id")), ()
    values = [name for number in OPTIONS if (name := f"option{number}_value") in frame.columns]
    named = [pl.when(_filled(name)).then(pl.col(name).cast(pl.String)) for name in values]
    whole = pl.concat_str([pl.col("handle"), *named], separator="/", ignore_nulls=True)
    alone = pl.len().over("handle") == 1
    frame = frame.with_columns(pl.when(alone).then(pl.col("handle")).otherwise(whole).alias("id"))
    return frame, ("ids are Handle/option values, because SKUs are missing or occur twice",)
