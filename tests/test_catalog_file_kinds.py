"""The files that shops have: separators said or found, JSON of every shape; the same items from each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.catalog.readers import read_catalog

ITEMS = [
    {"id": "007", "title": "Desk lamp", "brand": "Kira", "price": 39.5, "color": "white"},
    {"id": "8", "title": "Rug, 2 m", "brand": "Velto", "price": None, "color": "red"},
]
EXPECTED = Catalog(pl.DataFrame(ITEMS)).frame
LINES = "\n".join(map(json.dumps, ITEMS)) + "\n"
CSV = 'id;title;brand;price;color\n007;Desk lamp;Kira;39.5;white\n8;"Rug, 2 m";Velto;;red\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("excel.csv", "sep=;\r\n" + CSV.replace("\n", "\r\n")),
        ("excel.csv", '\ufeff"sep=;"\n' + CSV),
        ("caret.csv", "sep=^\n" + CSV.replace(";", "^")),
        ("pipes.csv", CSV.replace(";", "|")),
        ("pipes.txt", CSV.replace(";", "|")),
        ("tabs.txt", CSV.replace(";", "\t")),
        ("list.json", json.dumps(ITEMS)),
        ("list.json", json.dumps(ITEMS, indent=2)),
        ("list.json.gz", json.dumps(ITEMS, indent=2)),
        ("object.json", json.dumps({"products": ITEMS})),
        ("object.json", json.dumps({"shop": "ours", "count": 2, "products": ITEMS, "errors": []}, indent=1)),
        ("lines.json", LINES),
        ("lines.json.gz", "\n" + LINES),
        ("lines.jsonl", LINES),
    ],
)  # fmt: skip
def test_every_file_gives_the_same_items(tmp_path: Path, name: str, content: str) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    assert read_catalog(tmp_path / name).frame.equals(EXPECTED)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "sep=;\nid;title;price\n1;a;5\n2;;5\n", "a.csv, row 4, column title: expected title to be filled"),
        ("a.csv", "sep=;\nid;title;price\n1;a;5\n2;b\n", "a.csv, row 4, column .*: expected 3 fields, found 2"),
        ("a.csv", "sep=;\nid;id\n1;a\n", "a.csv, row 2: column 'id' occurs twice in the header"),
        ("a.csv", 'sep=;\nid;title\n1;"a\n2;b\n3;c\n', "a.csv, row 3, column title: a quote opens and never closes"),
        ("a.json", '[{"id": 1, "title": "a"}, 3]', "a.json, row 2, column .*: expected a JSON object, found a number"),
        ("a.json", '[{"id": 1, "title": "a"},\n{"id": 2, "title": }]', r"a.json: not valid JSON: .*\(line 2, char"),
        ("a.json", '{"id": 1, "title": "a"}\nno\n', "a.json, row 2, column .*: expected a JSON object: not valid"),
        ("a.json", '"text"', "a.json holds a text; expected a list of objects, or one object a line"),
        ("a.json", '{"a": [{"id": 1}], "b": [{"id": 2}]}', "a.json holds the lists a, b; expected one list of objects"),
        ("a.json", "[]", "a.json has no rows"),
        ("a.json", '{"id": 1, "name": "a"}', "a.json has no column 'title'; nearest: 'name'"),
    ],
)  # fmt: skip
def test_wrong_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_catalog(tmp_path / name)
