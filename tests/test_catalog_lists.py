"""Several values in one column: the same from jsonl, parquet and csv."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.lists import path_texts
from goodrate.catalog.readers import read_catalog

ROWS = [
    {
        "id": "1",
        "title": "a",
        "category": ["Home", "Lighting"],
        "brand": ["HP", "Poly", "HP"],
        "color": ["red", "blue"],
    },
    {"id": "2", "title": "b", "category": [], "brand": None, "color": None},
]


def parquet(rows: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


def csv(rows: list[dict], write=json.dumps) -> bytes:
    texts = [{k: write(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    return pl.DataFrame(texts).write_csv().encode()


WRITERS = {
    "jsonl": lambda rows: "\n".join(json.dumps(row) for row in rows).encode(),
    "parquet": parquet,
    "csv": csv,
    "printed.csv": lambda rows: csv(rows, repr),  # as pandas writes them
}


def read(path: Path, content: bytes):
    path.write_bytes(content)
    return read_catalog(path).frame


@pytest.mark.parametrize("kind", WRITERS)
def test_lists_are_paths_values_and_list_attributes(tmp_path: Path, kind: str) -> None:
    frame = read(tmp_path / f"items.{kind}", WRITERS[kind](ROWS))
    assert frame.select("category", "brand", "attributes").rows() == [
        ("Home > Lighting", "HP | Poly", '{"color":["red","blue"]}'),
        ("", "", "{}"),
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_several_paths_are_several_values(tmp_path: Path, kind: str) -> None:
    rows = [{"id": "1", "title": "a", "category": [["Home", "Lamps"], ["Sale"]]}]
    assert read(tmp_path / f"a.{kind}", WRITERS[kind](rows))["category"].to_list() == ["Home > Lamps | Sale"]
    rows = [{"id": "1", "title": "a", "category": ["Home>Lamps", "Sale", "Home > Lamps"]}]
    assert read(tmp_path / f"b.{kind}", WRITERS[kind](rows))["category"].to_list() == [
        "Home > Lamps | Sale | Home > Lamps"
    ]


def test_what_is_no_list_of_texts_is_refused_or_a_text(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "1", "title": "a", "category": [{"name": "Home"}], "brand": [true]}')
    with pytest.raises(ValueError) as caught:
        read_catalog(path)
    assert [line.split(", ", 1)[1] for line in str(caught.value).splitlines()[1:]] == [
        "row 1, column brand: expected a text or a list of texts, found [true]",
        'row 1, column category: expected a text or a list of texts, found [{"name":"Home"}]',
    ]
    texts = {
        "id": "1",
        "title": "[NEW] lamp",
        "brand": "[unbranded]",
        "category": "",
        "note": "[1] see below",
        "x": "[2]",
    }
    path.write_text(json.dumps(texts))
    row = read_catalog(path).frame.row(0, named=True)
    assert (row["title"], row["brand"], row["attributes"]) == (
        "[NEW] lamp", "[unbranded]", '{"note":"[1] see below","x":"[2]"}',
    )  # fmt: skip


def test_pictures_are_addresses_or_paths(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    told = ["http://x/1.jpg", ["http://x/2.jpg", "http://x/3.jpg"], {"src": "4.jpg"}, [{"url": "5.jpg"}], [], None]
    path.write_text("\n".join(json.dumps({"id": str(n), "title": "a", "image": i}) for n, i in enumerate(told)))
    pictures = ["http://x/1.jpg", "http://x/2.jpg", "4.jpg", "5.jpg", "", ""]
    assert read_catalog(path).frame["image"].to_list() == pictures
    path.write_text('{"id": "1", "title": "a", "image": {"width": 3}}')
    with pytest.raises(ValueError, match="row 1, column image: expected a text or a list of texts"):
        read_catalog(path)


HOME = ["Home", "Home/Lamps", "Home/Lamps/Desk", "Home/Rugs", "Garden/Chairs", "Garden/Tables", "Garden/Pots"]


@pytest.mark.parametrize(
    ("texts", "paths"),
    [
        (["Home>Lamps", "TV/Monitor > Parts", "Sale"], ["Home > Lamps", "TV/Monitor > Parts", "Sale"]),
        (["Home \u00bb Lamps"], ["Home > Lamps"]),
        (HOME, [text.replace("/", " > ") for text in HOME]),
        ([text.replace("/", " / ") for text in HOME], [text.replace("/", " > ") for text in HOME]),
        ([text.replace("/", "|") for text in HOME], [text.replace("/", " > ") for text in HOME]),
    ],
)  # fmt: skip
def test_the_separator_of_paths_is_found(texts: list[str], paths: list[str]) -> None:
    read, notes = path_texts(pl.Series(["", *texts, None]))
    assert read.to_list() == ["", *paths, None] and len(notes) == 1
    assert path_texts(read)[0].to_list() == read.to_list()


@pytest.mark.parametrize(
    "texts",
    [
        ["TV/Monitor", "TV/Radio", "Sofas", "Rugs", "Lamps", "Beds", "Desks"],  # most have no slash
        ["TV/Monitor", "Cups/Mugs", "Pots/Pans", "Rugs/Mats", "Hats/Caps", "Bags/Cases"],  # every head is another
        ["A/Sale", "A/New", "B/Sale", "B/New", "C/Sale", "C/New"],  # tags: no name has one parent
        ["Home/Lamps"],  # too few to tell
        ["Home | Sale", "Home | New", "Home | Red", "Home | Blue", "Home | Green"],  # several categories
        ["Home > Lamps", "TV / Monitor", "> 5 kg"],
        [""],
    ],
)  # fmt: skip
def test_names_are_never_split(texts: list[str]) -> None:
    read, notes = path_texts(pl.Series(texts))
    assert read.to_list() == texts and notes == ()
