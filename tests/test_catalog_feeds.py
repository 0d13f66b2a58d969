"""Google Merchant feeds and Shopify exports, read without a map."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.api.reading import CATALOG_FORMATS
from goodrate.catalog.formats import ITEM_FORMATS
from goodrate.catalog.readers import frame_catalog, read_catalog

TSV = (
    "id\ttitle\tdescription\tlink\timage link\tprice\tsale_price\tbrand\tgtin\tproduct_type\tgoogle product category\t"
    "item_group_id\tcolor\tshipping(country:price)\n"
    "007\tDesk lamp\tA lamp.\thttps://s.example/7\thttps://s.example/7.jpg\t39.50 USD\t29.50 USD\tKira\t4006381333931\t"
    "Home > Lighting\t594\tlamp\twhite\tDE:4.90\n"
    "8\tRug\t\thttps://s.example/8\t\t120.00 USD\t\tVelto\t\t\tHome & Garden > Decor > Rugs\t\t\t\n"
)
RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title><link>https://s.example</link>
<item><title>Lamp | Shop</title><g:title>Desk lamp</g:title><g:id>007</g:id><link>https://s.example/7</link>
<description><![CDATA[A lamp.]]></description><g:image_link>https://s.example/7.jpg</g:image_link>
<g:price>39.50 USD</g:price><g:sale_price>29.50 USD</g:sale_price><g:brand>Kira</g:brand><g:gtin>4006381333931</g:gtin>
<g:product_type>Home &gt; Lighting</g:product_type><g:google_product_category>594</g:google_product_category>
<g:item_group_id>lamp</g:item_group_id><g:color>white</g:color>
<g:shipping><g:country>DE</g:country><g:price>4.90</g:price></g:shipping></item>
<item><g:id>8</g:id><title>Rug</title><link>https://s.example/8</link><g:price>120.00 USD</g:price>
<g:brand>Velto</g:brand>
<g:google_product_category>Home &amp; Garden &gt; Decor &gt; Rugs</g:google_product_category></item>
</channel></rss>
"""
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title>'
    '<entry><id>tag:1</id><g:id>007</g:id><title>Desk lamp</title><summary>A lamp.</summary><link href="https://s/7"/>'
    "<g:price>29.50</g:price><g:material>oak</g:material><g:material>brass</g:material>"
    "<g:product_detail><g:section_name>General</g:section_name><g:attribute_name>Bulb</g:attribute_name>"
    "<g:attribute_value>E14</g:attribute_value></g:product_detail>"
    "<g:installment><g:months>6</g:months><g:amount>5</g:amount></g:installment></entry></feed>"
)
SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,"
    "Option2 Value,Variant SKU,Variant Price,Variant Compare At Price,Variant Barcode,Image Src,Image Position,"
    "Variant Image,SEO Title,Google Shopping / MPN,Fabric (product.metafields.custom.fabric),Status\n"
    'shirt,Shirt,"Soft, warm.",Kira,Apparel > Tops,Shirts,"summer, cotton",true,Color,Red,Size,M,S-R-M,19.90,29.90,'
    "'0012345678905,https://i/1.jpg,1,,A shirt,M-1,linen,active\n"
    "shirt,,,,,,,,,Blue,,M,S-B-M,21.90,,,https://i/2.jpg,2,https://i/blue.jpg,,,,\n"
    "shirt,,,,,,,,,,,,,,,,https://i/3.jpg,3,,,,,\n"
    "mug,Mug,,Velto,Home > Mugs,,,true,Title,Default Title,,,M-1,9.00,,,,,,,,,active\n"
    "old,Old hat,,Velto,,,,true,Title,Default Title,,,H-1,9.00,,,,,,,,,archived\n"
)


def attributes(path: Path, format: str) -> list[dict]:
    return [json.loads(text) for text in read_catalog(path, format).frame["attributes"]]


@pytest.mark.parametrize(("name", "content"), [("feed.txt", TSV), ("feed.tsv", TSV), ("feed.xml", RSS)])
def test_a_merchant_feed_needs_no_map(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    read = read_catalog(tmp_path / name, "merchant")
    columns = ("id", "title", "description", "brand", "category", "price", "currency", "image", "parent_id")
    assert read.frame.select(columns).rows() == [
        ("007", "Desk lamp", "A lamp.", "Kira", "Home > Lighting", 29.5, "USD", "https://s.example/7.jpg", "lamp"),
        ("8", "Rug", "", "Velto", "Home & Garden > Decor > Rugs", 120.0, "USD", "", ""),
    ]
    assert [json.loads(text) for text in read.frame["attributes"]] == [{"gtin": "4006381333931", "color": "white"}, {}]


def test_what_was_made_of_the_columns_of_a_feed_is_said(tmp_path: Path) -> None:
    (tmp_path / "feed.txt").write_text(TSV)
    assert read_catalog(tmp_path / "feed.txt", "merchant").notes[:1] == (
        "columns: id, title, description, brand, category = product_type, else google_product_category, "
        "price = sale_price, else price, image = image_link, parent_id = item_group_id; "
        "2 as attributes (gtin, color); left out link, shipping(country:price)",
    )
    plain = read_catalog(tmp_path / "feed.txt", mapping={"image": "image link"})
    assert plain.notes[1] == "feed.txt has columns of a merchant file; --format merchant reads more of it"


def test_atom_lists_and_parts_of_elements(tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_text(ATOM)
    row = read_catalog(tmp_path / "feed.xml", "merchant").frame.row(0, named=True)
    assert (row["id"], row["title"], row["description"], row["price"]) == ("007", "Desk lamp", "A lamp.", 29.5)
    assert json.loads(row["attributes"]) == {
        "material": ["oak", "brass"], "bulb": "E14", "installment_months": "6", "installment_amount": "5",
    }  # fmt: skip


def test_a_large_feed_is_read_in_pieces(tmp_path: Path) -> None:
    item = "<item><g:id>{0}</g:id><title>Lamp {0}</title><description>" + "long text " * 40 + "</description></item>"
    items = "".join(item.format(n) for n in range(6000))
    head = '<rss xmlns:g="http://base.google.com/ns/1.0"><channel>'
    (tmp_path / "feed.xml").write_text(f"{head}{items}</channel></rss>")
    assert read_catalog(tmp_path / "feed.xml", "merchant").ids == [str(n) for n in range(6000)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<!DOCTYPE rss [<!ENTITY a "aaaa">]><rss><item/></rss>', "line 1: a document type .*; feeds have none"),
        ('<!DOCTYPE rss SYSTEM "file:///etc/passwd"><rss/>', "line 1: a document type"),
        ("<rss>\n<channel>\n<item></channel></rss>", "line 3: not XML that can be read: mismatched tag"),
        ("<rss><channel/></rss>", "has no <item> and no <entry>; expected a product feed"),
        (RSS.replace("<g:id>8</g:id>", ""), "row 2, column id: expected id to be filled"),
        (RSS.replace("<title>Rug</title>", "<title>Rug</title><title>Mat</title>"), "row 2, column title: .* a list"),
    ],
)
def test_broken_feeds_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "feed.xml").write_text(content)
    with pytest.raises(ValueError, match=rf"feed.xml.*{message}"):
        read_catalog(tmp_path / "feed.xml", "merchant")


def test_a_shopify_export_gives_one_item_for_each_variant(tmp_path: Path) -> None:
    path = tmp_path / "products_export.csv"
    path.write_text(SHOPIFY)
    read = read_catalog(path, "shopify")
    columns = ("id", "parent_id", "title", "description", "brand", "category", "price", "image")
    assert read.frame.select(columns).rows() == [
        ("S-R-M", "shirt", "Shirt", "Soft, warm.", "Kira", "Shirts", 19.9, "https://i/1.jpg"),
        ("S-B-M", "shirt", "Shirt", "Soft, warm.", "Kira", "Shirts", 21.9, "https://i/blue.jpg"),
        ("M-1", "mug", "Mug", "", "Velto", "Home > Mugs", 9.0, ""),
    ]
    shared = {"tags": ["summer", "cotton"], "fabric": "linen", "mpn": "M-1", "Size": "M"}
    assert attributes(path, "shopify") == [
        {"Color": "Red", "sku": "S-R-M", "gtin": "0012345678905", "compare_at_price": "29.90", **shared},
        {"Color": "Blue", "sku": "S-B-M", **shared},
        {"sku": "M-1"},
    ]
    assert read.notes[0] == "1 variants of products that are draft, archived or not published are left out"
    assert read.notes[1] == (
        "columns: id, title, description = body_html, brand = vendor, category = type, else product_category, "
        "price = variant_price, image, parent_id = handle, attributes; 6 as attributes (tags, mpn, fabric, sku, gtin, "
        "compare_at_price); left out published, image_position, seo_title, status"
    )


def test_the_newer_template_of_shopify(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text(
        "Title,URL handle,Description,Vendor,Type,SKU,Option1 name,Option1 value,Price,Product image URL,Status\n"
        "Shirt,shirt,Soft,Kira,Shirts,A,Color,Red,19.90,https://i/1.jpg,Active\n,shirt,,,,B,,Blue,21.90,,\n"
    )
    read = read_catalog(path, "shopify").frame
    assert read.select("id", "parent_id", "title", "price", "image").rows() == [
        ("A", "shirt", "Shirt", 19.9, "https://i/1.jpg"), ("B", "shirt", "Shirt", 21.9, "https://i/1.jpg"),
    ]  # fmt: skip
    assert attributes(path, "shopify") == [{"sku": "A", "Color": "Red"}, {"sku": "B", "Color": "Blue"}]


def test_variants_without_a_sku_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text(SHOPIFY.replace("S-B-M", "S-R-M"))
    read = read_catalog(path, "shopify")
    assert read.ids == ["shirt/Red/M", "shirt/Blue/M", "mug"]
    assert "ids are Handle/option values, because SKUs are missing or occur twice" in read.notes


def test_shopify_from_a_frame_with_types() -> None:
    frame = pl.DataFrame(
        {"Handle": ["mug", "mug"], "Title": ["Mug", None], "Variant SKU": ["1", "2"], "Variant Price": [9.0, 10.5]}
    )
    read = frame_catalog(frame, "shopify").frame
    assert read.select("id", "title", "price").rows() == [("1", "Mug", 9.0), ("2", "Mug", 10.5)]


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        ("id,title\n1,a\n", "shopify", "has no column Handle; expected a product export of Shopify"),
        (SHOPIFY, None, r"has no column 'id'.*--format shopify, or --map id="),
        (SHOPIFY, "shop", "unknown format 'shop'; accepted: esci, wands, chorus, merchant, shopify"),
    ],
)
def test_the_way_to_the_right_format(tmp_path: Path, content: str, format: str | None, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_catalog(tmp_path / "a.csv", format)


def test_what_help_says_of_formats_is_the_registry() -> None:
    assert CATALOG_FORMATS.replace(" or ", ", ").split(", ") == list(ITEM_FORMATS)
