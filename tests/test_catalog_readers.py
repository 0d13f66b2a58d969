"""Reading catalogues: every format and ending, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from goodrate.catalog.readers import read_catalog

ROWS = [
    {"id": "a1", "title": "Velto desk lamp", "brand": "Velto", "price": 39.5, "color": "red", "stock": 4},
    {"id": "a2", "title": 'Kira "mini" lamp, white', "brand": "Kira", "price": None, "color": None, "stock": 0},
]


def write_csv(separator: str) -> Callable[[list[dict]], bytes]:
    return lambda rows: pl.DataFrame(rows).write_csv(separator=separator).encode()


def write_jsonl(rows: list[dict]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def write_parquet(rows: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


WRITERS = {"csv": write_csv(","), "tsv": write_csv("\t"), "jsonl": write_jsonl, "parquet": write_parquet}
PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_ending_gives_the_same_items(tmp_path: Path, kind: str, packing: str) -> None:
    path = tmp_path / f"items.{kind}{packing}"
    path.write_bytes(PACKERS[packing](WRITERS[kind](ROWS)))
    catalog = read_catalog(path)
    assert catalog.ids == ["a1", "a2"]
    assert catalog.frame["title"].to_list() == ["Velto desk lamp", 'Kira "mini" lamp, white']
    assert catalog.frame["price"].to_list() == [39.5, None]
    first, second = (json.loads(text) for text in catalog.frame["attributes"])
    assert {name: str(value) for name, value in first.items()} == {"color": "red", "stock": "4"}
    assert {name: str(value) for name, value in second.items()} == {"stock": "0"}  # an empty value is no attribute


def test_map_renames_and_its_errors_name_the_column(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("docid,name\n7,lamp\n")
    assert read_catalog(path, mapping={"id": "docid", "title": "name"}).frame.row(0)[:2] == ("7", "lamp")
    with pytest.raises(ValueError, match=r"no column 'id'; nearest: 'docid' \(--map id=docid, in training"):
        read_catalog(path)
    with pytest.raises(ValueError, match=r"no column 'nam'; nearest: 'name'"):
        read_catalog(path, mapping={"id": "docid", "title": "nam"})
    with pytest.raises(ValueError, match="no column 'cost'"):
        read_catalog(path, mapping={"id": "docid", "title": "name", "price": "cost"})
    with pytest.raises(ValueError, match="--map knows id, title, .*got 'titel'"):
        read_catalog(path, mapping={"titel": "name"})


def test_bad_rows_are_listed_by_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    # Row 1 is the header; the quoted line break makes rows 2 and 3 three lines.
    path.write_text('id,title,price\na,"two\nlines",1\n,no id,2\nc,,3\nd,cheap,free\na,again,5\ne,short\nf,minus,-1\n')
    with pytest.raises(ValueError) as caught:
        read_catalog(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path} has 6 bad rows (--skip-bad N tolerates N of them, in training data.skip_bad = N):"
    assert [line.split(", ", 1)[1] for line in lines[1:]] == [
        "row 3, column id: expected id to be filled, found nothing",
        "row 4, column title: expected title to be filled, found nothing",
        "row 5, column price: expected a number such as 19.99, found 'free'",
        "row 6, column id: expected a unique id; 'a' is also in row 2",
        "row 7, column (the whole row): expected 3 fields, found 2",
        "row 8, column price: expected a number such as 19.99, found '-1'",
    ]
    catalog = read_catalog(path, skip_bad=6)
    assert catalog.ids == ["a"] and len(catalog.skipped) == 6
    with pytest.raises(ValueError, match="--skip-bad tolerates 5"):
        read_catalog(path, skip_bad=5)


def test_only_twenty_bad_rows_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(["{}"] * 25))
    with pytest.raises(ValueError) as caught:
        read_catalog(path, mapping=None)
    assert "no column 'id'" in str(caught.value)
    path.write_text("\n".join(['{"id": "a", "title": "t"}'] + ["nonsense"] * 25))
    with pytest.raises(ValueError) as caught:
        read_catalog(path)
    assert len(str(caught.value).splitlines()) == 22  # a head, 20 rows, "... and 5 more"
    assert str(caught.value).endswith("... and 5 more")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xef\xbb\xbf \n", "is empty"),
        ("a.csv", b"id,title\n", "has no rows; columns: id, title"),
        ("a.csv", b"id,title\n\n\n", "has no rows"),
        ("a.csv", "id,title\n1,caf\u00e9\n".encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8"),
        ("a.csv", "id,title\n1,a\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
        ("a.csv", b"id,title,id\n1,a,2\n", "column 'id' occurs twice"),
        ("a.jsonl", b'{"id": "1", "title": "a"}\n[1]\n', "row 2, .*expected a JSON object, found a list"),
        ("a.jsonl", b'{"id": "1", "title": {"en": "a"}}\n', "row 1, column title: expected a text or a number"),
        ("a.jsonl", b'{"id": "1", "title": "a", "attributes": "red"}\n', "row 1, column attributes"),
        ("a.jsonl.gz", b"not packed", "is not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"id": "1", "title": "a"}\n' * 99, mtime=0)[:-20], "is not a whole gzip file"),
        ("a.parquet", b"PAR1 nonsense", "is not a parquet file"),
        ("a.csv", b'id,title\n1,"open\n2,b\n', "row 2, column title: a quote opens and never closes"),
        ("a.jsonl", b'{"id": "1", "title": "a\\ud800"}\n', "row 1, .*half of a surrogate pair"),
        ("a.jsonl", b'[{"id": "1"}]', "row 1, .*expected a JSON object, found a list"),
        ("a.xls", b"PK", r"cannot read '.xls'; expected .csv"),
    ],
)  # fmt: skip
def test_broken_files_say_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_catalog(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_file_and_an_unknown_format() -> None:
    with pytest.raises(FileNotFoundError, match="no such file: nowhere.csv"):
        read_catalog("nowhere.csv")
    with pytest.raises(ValueError, match="unknown format 'amazon'; accepted: esci, wands, chorus"):
        read_catalog("nowhere.csv", format="amazon")


def test_byte_order_mark_semicolons_and_blank_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes("id;title\n1;caf\u00e9, small\n\n2;tea\n\n".encode("utf-8-sig"))
    catalog = read_catalog(path)
    assert catalog.ids == ["1", "2"] and catalog.frame["title"][0] == "caf\u00e9, small"


def test_the_untidy_tables_of_spreadsheets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for content in (
        b" id , title ,\r\n1, a ,\r\n",
        b"id,title\r1,a\r",
        b'__row__,id,title\n9,1,"a"\n',
        b"id,title\n1,a",
    ):
        path.write_bytes(content)
        expected = ("1", "a", "", "", "", None, None, "", "", "", "", "{}", "[]")
        assert read_catalog(path).frame.row(0) == expected
    path.write_bytes(b'id,title\n1,5" pipe\n2,"a ""b"", c"\n')
    assert read_catalog(path).frame["title"].to_list() == ['5" pipe', 'a "b", c']


def test_chorus_prices_are_cents_and_attribute_prefixes_go(tmp_path: Path) -> None:
    path = tmp_path / "products.jsonl"
    row = {
        "id": "9", "name": "X-1", "title": "Zeno hub", "short_description": None, "brand": "Zeno", "price": 4995,
        "ean": ["1"], "img_500x500": "http://x",
        "attributes": {"attr_t_colour": "Black", "attr_b_wi_fi": True, "attr_n_width": 17.0},
    }  # fmt: skip
    path.write_text(json.dumps(row))
    item = read_catalog(path, format="chorus").frame.row(0, named=True)
    assert (item["price"], item["description"]) == (49.95, "")
    assert json.loads(item["attributes"]) == {
        "colour": "Black",
        "wi_fi": True,
        "width": 17.0,
        "name": "X-1",
        "ean": ["1"],
    }


def test_wands_is_tab_separated_with_a_feature_column(tmp_path: Path) -> None:
    path = tmp_path / "product.csv"
    names = ("product_id", "product_name", "product_class", "category hierarchy", "product_description")
    header = "\t".join([*names, "product_features", "average_rating", "rating_count"])
    path.write_text(
        f"{header}\n0\toak bed\tBeds\tFurniture / Beds\tsolid\tcolor : oak|color:white|size : 90 cm\t4.5\t12.0\n"
    )
    item = read_catalog(path, format="wands").frame.row(0, named=True)
    assert (item["id"], item["category"], item["rating"]) == ("0", "Furniture / Beds", 4.5)
    assert json.loads(item["attributes"]) == {"color": ["oak", "white"], "size": "90 cm", "product_class": "Beds"}


def test_esci_selects_a_locale(tmp_path: Path) -> None:
    path = tmp_path / "products.parquet"
    names = [
        "product_id",
        "product_title",
        "product_description",
        "product_bullet_point",
        "product_brand",
        "product_locale",
    ]
    rows = [("B1", "lamp", None, "bright", "Velto", "us"), ("B1", "lampe", None, None, "Velto", "de")]
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(path)
    assert read_catalog(path, format="esci:de").frame["title"].to_list() == ["lampe"]
    item = read_catalog(path, format="esci:us").frame.row(0, named=True)
    assert (item["brand"], item["attributes"]) == ("Velto", '{"product_bullet_point":"bright"}')
    with pytest.raises(ValueError, match="'B1' is also in row 1"):
        read_catalog(path, format="esci")
    with pytest.raises(ValueError, match="no row has product_locale 'fr'; found: de, us"):
        read_catalog(path, format="esci:fr")
