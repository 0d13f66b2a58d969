"""Currency, image and parent_id: from the file to the answer, and into no text that a model reads."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.api.index import Index
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import lexical_texts
from goodrate.relevance.listing import listing
from goodrate.serving.answers import search_json

ROWS = [
    {"id": "s1", "title": "lamp", "price": "39.5", "currency": "EUR", "image": "pics/q1.jpg", "parent_id": "g7"},
    {"id": "s2", "title": "lamp shade", "price": "9", "currency": "SEK", "image": None, "parent_id": None},
]


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


WRITERS = {
    "csv": lambda frame: frame.write_csv().encode(),
    "jsonl": lambda frame: frame.write_ndjson().encode(),
    "parquet": parquet,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_columns_come_from_every_kind_of_file_and_are_no_attributes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"items.{kind}"
    path.write_bytes(WRITERS[kind](pl.DataFrame(ROWS)))
    frame = read_catalog(path).frame
    assert frame.select("currency", "image", "parent_id", "attributes").rows() == [
        ("EUR", "pics/q1.jpg", "g7", "{}"),
        ("SEK", "", "", "{}"),
    ]


def test_they_are_in_answers_and_filters_and_in_no_text(tmp_path: Path) -> None:
    catalog = read_catalog_of_rows(tmp_path)
    index = Index.create(tmp_path / "index", catalog)
    response = index.search("lamp", where="currency = 'EUR' AND parent_id IN ('g7', 'g8')")
    (item,) = [result["item"] for result in search_json(response, None)["results"]]
    assert (item["currency"], item["image"], item["parent_id"]) == ("EUR", "pics/q1.jpg", "g7")
    with pytest.raises(ValueError, match="no column named image that can be filtered"):
        index.search("lamp", where="image = 'pics/q1.jpg'")
    read = [*catalog.text(), *lexical_texts(catalog.frame)[0], *lexical_texts(catalog.frame)[1]]
    read += [listing(row) for row in catalog]
    for hidden in ("EUR", "SEK", "pics", "g7"):
        assert not any(hidden in text for text in read)
    assert index.search("g7").retrieved == 0
    assert json.loads(json.dumps(catalog.to_rows()))[1]["parent_id"] == ""


def read_catalog_of_rows(tmp_path: Path):
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return read_catalog(path)
