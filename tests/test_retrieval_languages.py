"""Languages: stemming, words without blanks, and the rules by which queries are read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.retrieval.languages import LANGUAGES
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.store import Store


def searcher(folder: Path, language: str, titles: dict[str, str]) -> Searcher:
    store = Store.create(folder / "index", None, None, language=language)
    store.upsert(Catalog(pl.DataFrame({"id": list(titles), "title": list(titles.values())})), None)
    return Searcher(Store.open(folder / "index"), None)


@pytest.mark.parametrize(
    ("language", "title", "query"),
    [
        ("en", "wireless headphones", "headphone"),
        ("de", "Lampen aus Holz", "Lampe"),
        ("fr", "lampes de bureau", "lampe"),
        ("es", "zapatos rojos", "zapato rojo"),
        ("it", "scarpe rosse", "scarpa rossa"),
        ("ja", "\u30ef\u30a4\u30e4\u30ec\u30b9\u30a4\u30e4\u30db\u30f3", "\u30a4\u30e4\u30db\u30f3"),
        ("zh", "\u65e0\u7ebf\u84dd\u7259\u8033\u673a", "\u8033\u673a"),
    ],
)
def test_words_are_found_in_other_forms(tmp_path: Path, language: str, title: str, query: str) -> None:
    found = searcher(tmp_path, language, {"right": title, "other": "xyz abc"}).search(query)
    assert [hit.item_id for hit in found] == ["right"]


def test_without_a_language_words_are_found_as_they_are_alone(tmp_path: Path) -> None:
    plain = searcher(tmp_path, "none", {"a": "red lamps"})
    assert plain.search("lamp") == [] and plain.search("lamps") and plain.read("lamp without shade").constraints is None


def test_queries_are_read_by_the_rules_of_the_language(tmp_path: Path) -> None:
    german = searcher(tmp_path, "de", {"shade": "Lampe mit Schirm", "bare": "Lampe aus Holz"})
    assert [(hit.item_id, hit.excluded) for hit in german.search("Lampe ohne Schirm")] == [
        ("bare", False),
        ("shade", True),
    ]


def test_an_unknown_language_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown language 'klingon'; known: ar, da, de"):
        Store.create(tmp_path / "index", None, None, language="klingon")
    assert not (tmp_path / "index" / "store.json").exists() and "none" in LANGUAGES
