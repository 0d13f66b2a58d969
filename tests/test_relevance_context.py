"""Context texts: reading them, finding one for a query, what an empty corpus and a query without a match give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.relevance.context import ContextFinder, ContextText, context_texts, item_contexts, joined, read_contexts

TEXTS = [
    ContextText("a", "mopix demands color red"),
    ContextText("b", "best deal : lamp color blue", "irrelevant"),
    ContextText("c", "wet floors means feature antislip"),
]


class Letters:
    """An encoder that counts letters."""

    fingerprint, dimension = "letters", 26

    def encode_items(self, texts: list[str]) -> np.ndarray:
        counts = np.asarray([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    encode_queries = encode_items


def test_the_best_text_by_words_and_none_where_nothing_matches() -> None:
    finder = ContextFinder(TEXTS)
    assert finder.find("lamp approved for mopix", 2) == (
        TEXTS[0],
        TEXTS[1],
    )  # the rare word weighs as the other, shorter
    assert finder.line("slippers for wet floors") == TEXTS[2].text
    assert finder.find("zzz") == () and finder.line("zzz") is None and finder.line(" ") is None
    assert ContextFinder([]).line("lamp") is None
    assert finder.line("lamp mopix", 2) == f"{TEXTS[0].text} . {TEXTS[1].text}" and joined([]) is None


def test_with_an_encoder_the_search_is_hybrid_and_finds_what_shares_no_word() -> None:
    finder = ContextFinder(TEXTS, encoder=Letters())
    assert ContextFinder(TEXTS).find("wetfloorsmeansfeatureantislip") == ()
    assert finder.find("wetfloorsmeansfeatureantislip") == (TEXTS[2],)


def test_an_index_follows_its_texts_and_refuses_another_encoder(tmp_path: Path) -> None:
    assert ContextFinder(TEXTS, tmp_path / "i").line("lamp") == TEXTS[1].text
    later = [TEXTS[0], ContextText("c", "lamp means light")]
    assert ContextFinder(later, tmp_path / "i").find("best deal lamp", 9) == (later[1],)
    with pytest.raises(ValueError, match="was made with no encoder"):
        ContextFinder(later, tmp_path / "i", Letters())
    with pytest.raises(ValueError, match="must be unique"):
        ContextFinder([TEXTS[0], TEXTS[0]])


def test_files_and_what_is_wrong_in_them(tmp_path: Path) -> None:
    jsonl, csv = tmp_path / "t.jsonl", tmp_path / "t.csv"
    jsonl.write_text('{"id": 7, "text": "one", "kind": "helpful"}\n{"id": "b", "text": " two ", "other": 1}\n')
    assert read_contexts(jsonl) == [ContextText("7", "one", "helpful"), ContextText("b", "two")]
    csv.write_text("id,text,kind\na,one,\na,two,\nb,,\n,x,\nc,y,useful\n")
    with pytest.raises(ValueError) as wrong:
        read_contexts(csv)
    said = str(wrong.value).splitlines()[1:]
    assert [line.split(f"{csv}, ")[1] for line in said] == [
        "row 3, column id: expected an id of its own, found 'a' again",
        "row 4, column text: expected a text, found nothing",
        "row 5, column id: expected an id, found nothing",
        "row 6, column kind: expected helpful, irrelevant, misleading or nothing, found 'useful'",
    ]
    assert read_contexts(csv, skip_bad=4) == [ContextText("a", "one")]
    csv.write_text("id,body\na,one\n")
    with pytest.raises(ValueError, match="no column 'text'"):
        read_contexts(csv)


def test_a_catalogue_tells_of_its_items_in_parts() -> None:
    words = " ".join(f"w{n}" for n in range(130))
    rows = {
        "id": ["x", "y"],
        "title": ["Lamp", "Cup"],
        "description": [words, ""],
        "attributes": ['{"color":"red"}', "{}"],
    }
    texts = item_contexts(Catalog(pl.DataFrame(rows)))
    assert [(t.id, t.text[:14], len(t.text.split())) for t in texts] == [
        ("x#0", "Lamp : w0 w1 w", 122), ("x#1", "Lamp : w120 w1", 12), ("x#2", "Lamp : color r", 4),
    ]  # fmt: skip
    assert context_texts("items", lambda: Catalog(pl.DataFrame(rows))) == texts
    with pytest.raises(ValueError, match="none is given"):
        context_texts("items", None)
