"""One form for comparing: what is written with other letters is found, and shown as it was written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import composed, composed_text, normal_form, normal_text
from goodrate.catalog.rendering import lexical_form
from goodrate.retrieval.identifiers import normal_identifier
from goodrate.retrieval.indexing import index_catalog
from goodrate.retrieval.rewriting.spelling import SpellingIndex
from goodrate.retrieval.rewriting.suggestions import SuggestionIndex
from goodrate.retrieval.store import Store

TITLES = [
    "Kr\u00e4utertee f\u00fcr Caf\u00e9s",
    "\uff35\uff33\uff22 hub \uff24\uff2c\uff2d\uff16\uff13\uff10\uff19\uff10",
    "Velcro\u2122 strap 2\u00bd inch",
    "plain lamp",
]


class Fingerprints:
    """An encoder that knows exactly one text per direction: equal texts alone are near."""

    fingerprint, dimension = "exact", 64

    def encode_items(self, texts: list[str]) -> np.ndarray:
        vectors = [np.random.default_rng(list(text.encode())).normal(size=64) for text in texts]
        return np.array([vector / np.linalg.norm(vector) for vector in vectors], dtype=np.float32)

    encode_queries = encode_items


@given(st.text(max_size=20))
def test_a_column_and_a_text_have_one_form_that_stays(text: str) -> None:
    assert composed(pl.Series([text])).to_list() == [composed_text(text)]
    assert normal_form(pl.Series([text])).to_list() == [normal_text(text)]
    assert composed_text(composed_text(text)) == composed_text(text)
    assert composed_text(unicodedata.normalize("NFD", text)) == composed_text(unicodedata.normalize("NFC", text))


def test_signs_are_not_glued_to_the_word_before_them() -> None:
    assert normal_text("Velcro\u2122") == "velcro" and composed_text("2\u00bd in") == "2 1\u20442 in"
    assert normal_identifier("DLM63090\u2122") == "dlm63090"
    assert lexical_form(pl.Series(["\uff15\uff10\uff10 \uff27\uff22"])).to_list() == ["500GB"]


@pytest.fixture(scope="module", params=["NFC", "NFD"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    titles = [unicodedata.normalize(request.param, title) for title in TITLES]
    frame = pl.DataFrame({"id": ["0", "1", "2", "3"], "title": titles})
    index = Index.create(tmp_path_factory.mktemp(request.param) / "index", frame)
    assert [row["title"] for row in index.items] == titles  # what is shown is as it was read
    return index


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("query", "found"),
    [("Kr\u00e4utertee", "0"), ("caf\u00e9s", "0"), ("USB", "1"), ("\uff35\uff33\uff22", "1"), ("dlm63090", "1"),
     ("\uff24\uff2c\uff2d-\uff16\uff13\uff10\uff19\uff10", "1"), ("velcro", "2")],
)  # fmt: skip
def test_every_way_to_write_a_word_finds_it(index: Index, query: str, found: str, form: str) -> None:
    assert [hit.item["id"] for hit in index.search(unicodedata.normalize(form, query))] == [found]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_encoder_reads_items_and_queries_in_one_form(tmp_path: Path, form: str) -> None:
    titles = [unicodedata.normalize(form, title) for title in TITLES]
    store = Store.create(tmp_path / "index", Fingerprints.fingerprint, Fingerprints.dimension)
    index_catalog(store, Catalog(pl.DataFrame({"id": list("0123"), "title": titles})), Fingerprints())
    dense = Index(store, Fingerprints(), mode="dense")
    for other in ("NFC", "NFD", "NFKC"):
        (best, *_) = dense.search(unicodedata.normalize(other, TITLES[0]), mode="dense")
        assert best.item["id"] == "0" and best.score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_spelling_and_suggestions_know_the_word_in_every_form(form: str) -> None:
    frame = pl.DataFrame({"id": list("0123456"), "title": [*TITLES, *[TITLES[0]] * 3], "brand": "", "category": "",
                          "description": "", "attributes": "{}"})  # fmt: skip
    frame = frame.with_columns(pl.col("title").str.normalize(form))
    spelling, suggestions = SpellingIndex.build(frame), SuggestionIndex.build(frame)
    for query in ("Kr\u00e4utertee", "\uff35\uff33\uff22", "caf\u00e9s"):
        for other in ("NFC", "NFD"):
            assert spelling.correct(unicodedata.normalize(other, query)) is None
    found = [spelling.correct(unicodedata.normalize(other, "Kr\u00e4uterte caf\u00e9s")) for other in ("NFC", "NFD")]
    assert found[0] == found[1] and found[0] is not None and found[0].text == "kr\u00e4utertee caf\u00e9s"
    typed = [suggestions.suggest(unicodedata.normalize(other, "Kr\u00e4ut")) for other in ("NFC", "NFD")]
    assert typed[0] == typed[1] and typed[0]


def test_a_corrected_query_that_was_typed_in_other_letters_is_searched(index: Index) -> None:
    for form in ("NFC", "NFD"):
        read = index.searcher.read(unicodedata.normalize(form, "Kr\u00e4uterteee"))
        assert read.correction is not None and read.correction.text == "kr\u00e4utertee"
