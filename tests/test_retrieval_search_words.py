"""Spelling, suggestions and synonyms of an index: made with it, used by its searches, kept up to date."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import goodrate as gr
from goodrate.retrieval.rewriting.spelling import SPELLING_FILE
from goodrate.retrieval.search import SPELLING
from goodrate.retrieval.search_words import COUNT_FILE

TITLES = {
    "l1": "laptop 14 inch silver", "l2": "laptop sleeve black", "l3": "gaming laptop", "n1": "notebook computer oak",
    "k1": "kettle red", "k2": "kettle steel", "p1": "oat bars with raisins", "p2": "oat bars plain",
}  # fmt: skip


def frame(titles: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame({"id": list(titles), "title": list(titles.values()), "price": [10.0] * len(titles)})


@pytest.fixture
def index(tmp_path: Path) -> gr.Index:
    return gr.Index.create(tmp_path / "index", frame(TITLES))


def found(response: object) -> list[str]:
    return [result.item["id"] for result in response]  # type: ignore[attr-defined]


def test_a_misspelt_word_is_corrected_and_what_was_typed_can_be_asked_for(index: gr.Index) -> None:
    response = index.search("labtop sleeve")
    assert response.corrected and response.correction is not None and response.correction.text == "laptop sleeve"
    assert found(response)[0] == "l2"
    typed = index.search("labtop", ignore=[SPELLING])
    assert not typed.corrected and typed.correction is not None and found(typed) == []
    assert index.search("kettle red").correction is None
    assert index.taking_words_as_typed().search("labtop").correction is None


def test_only_what_is_asked_for_is_corrected_and_constraints_stay(index: gr.Index) -> None:
    response = index.search("keettle without steel under $20")
    assert response.correction is not None and response.correction.text == "kettle without steel under $20"
    assert [span.kind for span in response.spans] == ["not", "price"]
    assert [(result.item["id"], result.excluded) for result in response] == [("k1", False), ("k2", True)]


def test_a_wish_for_a_low_price_is_no_word_and_can_be_made_one(index: gr.Index) -> None:
    index.add(pl.DataFrame({"id": ["t1"], "title": ["cheap thrills poster"], "price": [10.0]}))
    response = index.search("cheap kettle")
    assert [(span.kind, span.text) for span in response.spans] == [("cheap", "cheap")]
    assert "t1" not in found(response) and "k1" in found(response)
    again = index.search("cheap kettle", ignore=[span.id for span in response.spans])
    assert not again.spans and "t1" in found(again)


def test_synonyms_beside_the_catalogue_are_another_channel(tmp_path: Path, index: gr.Index) -> None:
    assert "n1" not in found(index.search("laptop"))
    (index.store.path / "synonyms.txt").write_text("laptop, notebook\n", encoding="utf-8")
    opened = gr.Index.open(index.store.path)
    response = opened.search("laptop")
    assert found(response)[-1] == "n1" and set(response[-1].channels) == {"synonym"}
    assert "n1" not in found(opened.taking_words_as_typed().search("laptop"))


def test_suggestions_come_from_titles_and_from_a_query_log_which_the_index_keeps(index: gr.Index) -> None:
    index.add(frame({"x": "kettle black"}), queries=[("red kettle", 50.0)])
    assert index.searcher.suggest("kett", 3)[0].text == "red kettle"
    index.add(frame({f"y{n}": f"lamp {n}" for n in range(9)}))  # counted anew, without the log being given
    assert index.searcher.suggest("kett", 3)[0].text == "red kettle"


def test_words_follow_the_items_and_are_not_counted_anew_for_a_few(tmp_path: Path) -> None:
    many = {f"i{n}": f"lamp number {n}" for n in range(300)}
    index = gr.Index.create(tmp_path / "index", frame(many))
    stamp = (index.store.path / SPELLING_FILE).stat().st_mtime_ns
    index.add(frame({"i0": "umbrella"}))
    assert (index.store.path / SPELLING_FILE).stat().st_mtime_ns == stamp
    assert index.search("umbrela").correction is None
    index.add(frame({"i1": "umbrella", "i2": "umbrella", "i3": "umbrella"}))
    assert index.search("umbrela").correction.text == "umbrella"  # type: ignore[union-attr]
    (index.store.path / COUNT_FILE).write_text("{", encoding="utf-8")
    index.remove(["i4"])
    assert '"changed": 0' in (index.store.path / COUNT_FILE).read_text(encoding="utf-8")


def test_an_index_without_the_files_searches_as_typed(index: gr.Index) -> None:
    for name in ("spelling.npz", "suggestions.npz"):
        (index.store.path / name).unlink()
    opened = gr.Index.open(index.store.path)
    assert opened.search("labtop").correction is None and opened.searcher.suggest("lap", 5) == []


def test_evaluation_sees_what_goes_last(index: gr.Index) -> None:
    rows = {"query": ["oat bars without raisins"] * 2, "item_id": ["p1", "p2"], "label": [0, 3]}
    judgements = gr.read_judgements(pl.DataFrame(rows), scale="graded_0_3")
    typed = index.taking_words_as_typed()
    done = gr.evaluate([index, typed], judgements, ["ndcg@1"], judged_only=True)
    assert [one.metrics["ndcg@1"].value for one in done.report.systems] == [1.0, 0.0]


def test_a_judge_reads_the_query_that_was_searched_for(index: gr.Index) -> None:
    from goodrate.relevance.function_judge import FunctionJudge

    asked: list[str] = []

    def probabilities(query: str, items: list[object]) -> list[list[float]]:
        asked.append(query)
        return [[0.1, 0.2, 0.3, 0.4]] * len(items)

    index.rerank(FunctionJudge(probabilities, "four_level", "1")).search("labtop sleeve")  # type: ignore[arg-type]
    assert asked == ["laptop sleeve"]


def test_a_misspelt_word_inside_another_one_stays(index: gr.Index) -> None:
    corrected = index.search("xlabtopx labtop").correction
    assert corrected is not None and corrected.text.endswith(" laptop") and corrected.text.startswith("xlabtopx")


def test_a_word_that_is_typed_as_two_finds_the_one(tmp_path: Path) -> None:
    titles = ["black headset", "gaming headset", "usb headset", "head lamp", "bolt set"]
    index = gr.Index.create(tmp_path / "index", pl.DataFrame({"id": list("abcde"), "title": titles}))
    hits = index.search("head set", 5).results
    assert {hit.item["id"] for hit in hits} == set("abcde")
    assert {"a", "b", "c"} == {hit.item["id"] for hit in hits if "synonym" in hit.channels}
    assert len(index.taking_words_as_typed().search("head set", 5)) == 2
