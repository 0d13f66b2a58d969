"""Fusion and the searcher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.catalog.items import Catalog
from goodrate.retrieval.calibration import Calibration
from goodrate.retrieval.fusion import ChannelPart, Hit, listed, reciprocal_rank_fusion, relative_fusion, score_fusion
from goodrate.retrieval.hybrid import fused
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.search_settings import HEAD, SearchSettings
from goodrate.retrieval.store import Store


def ranked(*ids: str) -> list[Hit]:
    return [Hit(item, float(len(ids) - index), index + 1) for index, item in enumerate(ids)]


def test_fused_scores_and_shares() -> None:
    hits = reciprocal_rank_fusion({"lexical": ranked("a", "b"), "dense": ranked("b", "c")}, k0=60)
    # b: 1/62 + 1/61 = 0.032522; a: 1/61 = 0.016393; c: 1/62 = 0.016129
    assert [(hit.item_id, round(hit.score, 6), hit.rank) for hit in hits] == [
        ("b", 0.032522, 1),
        ("a", 0.016393, 2),
        ("c", 0.016129, 3),
    ]
    # shares of b: (1/62) / (1/62 + 1/61) = 61/123 and 62/123
    assert hits[0].channels["lexical"] == ChannelPart(2, 1.0, pytest.approx(61 / 123))
    assert hits[0].channels["dense"] == ChannelPart(1, 2.0, pytest.approx(62 / 123))
    assert set(hits[1].channels) == {"lexical"} and hits[1].channels["lexical"].share == 1.0


def test_ties_go_by_id_and_wrong_input_is_refused() -> None:
    assert [hit.item_id for hit in reciprocal_rank_fusion({"x": ranked("b"), "y": ranked("a")})] == ["a", "b"]
    assert reciprocal_rank_fusion({}) == [] and reciprocal_rank_fusion({"x": []}, k=3) == []
    with pytest.raises(ValueError, match="names item 'a' twice"):
        reciprocal_rank_fusion({"x": ranked("a", "a")})
    with pytest.raises(ValueError, match="k0 must be positive"):
        reciprocal_rank_fusion({"x": ranked("a")}, k0=0)


orders = st.lists(st.permutations(list("abcdef")), min_size=1, max_size=3)


@given(orders, st.integers(1, 6))
def test_k_is_a_prefix_and_channel_order_does_not_matter(given_orders: list[list[str]], k: int) -> None:
    channels = {f"c{index}": ranked(*order) for index, order in enumerate(given_orders)}
    whole = reciprocal_rank_fusion(channels)
    assert reciprocal_rank_fusion(channels, k=k) == whole[:k]
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)
    turned = reciprocal_rank_fusion(dict(reversed(channels.items())))
    assert {hit.item_id: round(hit.score, 12) for hit in turned} == {hit.item_id: round(hit.score, 12) for hit in whole}
    assert all(sum(part.share for part in hit.channels.values()) == pytest.approx(1.0) for hit in whole)


class Signs:
    """A fake encoder: everything about seating is +1 on the first axis, everything else on the second."""

    fingerprint, dimension = "signs", 2

    def encode_items(self, texts: list[str]) -> np.ndarray:
        return np.array([[1, 0] if "chair" in text or "sofa" in text else [0, 1] for text in texts], dtype=np.float32)

    encode_queries = encode_items


@pytest.fixture
def store(tmp_path: Path) -> Store:
    items = Catalog(
        pl.DataFrame({"id": ["a", "b", "c"], "title": ["oak chair", "red sofa", "oak lamp"], "price": [9.0, 5.0, 1.0]})
    )
    made = Store.create(tmp_path / "s", "signs", 2)
    made.upsert(items, Signs().encode_items(items.frame["title"].to_list()))
    return made


def test_modes(store: Store) -> None:
    searcher = Searcher(store, Signs())
    assert [hit.item_id for hit in searcher.search("oak chair", mode="lexical")] == ["a", "c"]
    dense = searcher.search("oak chair", mode="dense", k=2)
    assert [(hit.item_id, hit.score) for hit in dense] == [("a", 1.0), ("b", 1.0)]
    hybrid = searcher.search("oak chair")
    # Cosines 1, 1, 0 are worth 0.6 log(1 + 3 items) / 0.1 each more than the lowest one; words count as BM25 has them.
    words = {hit.item_id: hit.score for hit in store.search_text("oak chair", 3)}
    meaning = 0.6 * np.log(4) / 0.1
    assert [hit.item_id for hit in hybrid] == ["a", "b", "c"]
    assert [hit.score for hit in hybrid] == pytest.approx([words["a"] + meaning, meaning, words["c"]])
    assert hybrid[0].channels["dense"].share == pytest.approx(meaning / (words["a"] + meaning))
    assert hybrid[2].channels["dense"].share == 0 and hybrid[2].channels["dense"].rank == 3
    # by ranks a: first in both, 2/61; b: second by meaning, 1/62; c: second by words 1/62 and third by meaning 1/63
    ranks = Searcher(store, Signs(), settings=SearchSettings(fusion="ranks", dense_weight=1.0)).search("oak chair")
    assert [hit.item_id for hit in ranks] == ["a", "c", "b"]
    assert [hit.score for hit in ranks] == pytest.approx([2 / 61, 1 / 62 + 1 / 63, 1 / 62])
    assert [hit.item_id for hit in searcher.search("oak chair", where="price < 6")] == ["b", "c"]


def test_what_a_searcher_refuses(store: Store) -> None:
    assert [hit.item_id for hit in Searcher(store, None).search("chair")] == ["a"]  # no encoder: words only
    with pytest.raises(ValueError, match="without an encoder; only mode lexical"):
        Searcher(store, None).search("chair", mode="hybrid")
    with pytest.raises(ValueError, match="unknown mode 'fuzzy'; accepted: hybrid, lexical, dense"):
        Searcher(store, Signs()).search("chair", mode="fuzzy")
    with pytest.raises(ValueError, match="the query is empty"):
        Searcher(store, Signs()).search("  ")
    other = Signs()
    other.fingerprint = "another"
    with pytest.raises(ValueError, match="made with encoder signs .*not with encoder another"):
        Searcher(store, other)


def test_a_channel_with_more_weight_than_all_others_together_decides() -> None:
    others = {"lexical": [Hit("a", 9.0, 1), Hit("b", 8.0, 2)], "dense": [Hit("a", 0.9, 1)]}
    fused = reciprocal_rank_fusion({**others, "identifier": [Hit("c", 1.0, 1)]}, weights={"identifier": 3.0})
    assert [hit.item_id for hit in fused] == ["c", "a", "b"]
    assert fused[0].score == pytest.approx(3 / 61) and fused[0].channels["identifier"].share == 1
    assert fused[1].channels["dense"].share == pytest.approx(0.5)


def test_scores_are_summed_without_being_stretched() -> None:
    # Words tell the items hardly apart, meaning does: 0.1 of BM25 against 10 * 0.4. Ranks would call that a draw.
    lexical = [Hit("a", 5.1, 1), Hit("b", 5.0, 2)]
    dense = [Hit("b", 0.9, 1), Hit("a", 0.5, 2), Hit("c", 0.4, 3)]
    fused = score_fusion({"lexical": lexical, "dense": dense}, {"dense": 10.0}, from_lowest=["dense"])
    assert [(hit.item_id, round(hit.score, 9)) for hit in fused] == [("b", 10.0), ("a", 6.1), ("c", 0.0)]
    assert fused[0].channels["lexical"] == ChannelPart(2, 5.0, pytest.approx(0.5))
    assert fused[1].channels["dense"] == ChannelPart(2, 0.5, pytest.approx(1 / 6.1))
    assert fused[2].channels["dense"] == ChannelPart(3, 0.4, 1.0)  # a sum of nothing is all of its one channel
    with pytest.raises(ValueError, match="names item 'a' twice"):
        score_fusion({"x": [Hit("a", 2.0, 1), Hit("a", 1.0, 2)]})


def test_what_a_deciding_channel_finds_is_before_all_others() -> None:
    others = {"lexical": [Hit("a", 30.0, 1), Hit("b", 8.0, 2)], "dense": [Hit("a", 0.9, 1), Hit("d", 0.1, 2)]}
    named = [Hit("c", 0.5, 1), Hit("b", 0.2, 2)]
    fused = score_fusion({**others, "identifier": named}, {"dense": 10.0}, 3, ["dense"], ["identifier"])
    # the best is a, 30 + 10 * 0.8 = 38; c: 0.5 and 38 more; b: 8 of words, 0.2 and 38 more
    assert [(hit.item_id, round(hit.score, 9)) for hit in fused] == [("b", 46.2), ("c", 38.5), ("a", 38.0)]
    assert fused[1].channels["identifier"].share == 1


@given(orders, st.integers(1, 6))
def test_summed_scores_do_not_depend_on_the_order_of_channels(given_orders: list[list[str]], k: int) -> None:
    channels = {f"c{index}": ranked(*order) for index, order in enumerate(given_orders)}
    whole = score_fusion(channels, from_lowest=["c1"])
    assert score_fusion(channels, k=k, from_lowest=["c1"]) == whole[:k]
    turned = score_fusion(dict(reversed(channels.items())), from_lowest=["c1"])
    assert {hit.item_id: round(hit.score, 9) for hit in turned} == {hit.item_id: round(hit.score, 9) for hit in whole}
    assert all(sum(part.share for part in hit.channels.values()) == pytest.approx(1.0) for hit in whole)


def test_a_list_is_chosen_by_stretched_scores_and_its_head_ordered_by_scores() -> None:
    # Words: a full list (depth 3) from 9 to 5, so 5 is 0 and 6 is a quarter. Meaning: 0.9 to 0.5.
    found = {
        "lexical": [Hit("a", 9.0, 1), Hit("b", 6.0, 2), Hit("c", 5.0, 3)],
        "dense": [Hit("d", 0.9, 1), Hit("b", 0.7, 2), Hit("e", 0.5, 3)],
    }
    chosen = relative_fusion(found, {"lexical": 0.6, "dense": 0.4}, 3)
    want = {"a": 0.6, "d": 0.4, "b": 0.6 / 4 + 0.4 / 2, "c": 0.0, "e": 0.0}
    assert {hit.item_id: round(hit.score, 9) for hit in chosen} == pytest.approx(want)
    assert [hit.item_id for hit in chosen] == ["a", "d", "b", "c", "e"]
    # Not full: everything that shares a word was found, so 0 is where words start, but not where cosines do.
    partial = relative_fusion(found, {"lexical": 0.6, "dense": 0.4}, 4, from_lowest=["dense"])
    assert {hit.item_id: hit.score for hit in partial}["c"] == pytest.approx(0.6 * 5 / 9)
    assert {hit.item_id: hit.score for hit in partial}["e"] == 0
    ordered = score_fusion(found, {"dense": 10.0}, from_lowest=["dense"])  # a 9, b 8, c 5, d 4, e 0
    together = listed(chosen, ordered, 2)
    assert [(hit.item_id, hit.rank) for hit in together] == [("a", 1), ("d", 2), ("b", 3), ("c", 4), ("e", 5)]
    assert [round(hit.score, 9) for hit in together] == [9.0, 4.0, 8.0, 5.0, 0.0]
    assert [hit.item_id for hit in listed(chosen, ordered, 3)] == ["a", "b", "d", "c", "e"]
    named = relative_fusion(
        {**found, "identifier": [Hit("e", 0.5, 1)]}, {"lexical": 0.6, "dense": 0.4}, 3, deciding=["identifier"]
    )
    assert named[0].item_id == "e"


def test_items_found_by_meaning_alone_have_their_share_of_a_list_that_words_fill() -> None:
    # A hundred items share the query's words and hardly differ; the scores of words are high, those of meaning are not.
    words = [Hit(f"w{n:03}", 30 - n / 100, n + 1) for n in range(100)]
    meaning = [Hit(f"m{n:03}", 0.8 - n / 1000, n + 1) for n in range(100)]
    found, calibration = {"lexical": words, "dense": meaning}, Calibration(items=1000)
    alone = fused(found, SearchSettings(fusion="scores"), calibration, 100)
    assert {hit.item_id[0] for hit in alone} == {"w"}
    hits = fused(found, SearchSettings(), calibration)
    assert 40 <= sum(hit.item_id[0] == "m" for hit in hits[:100]) <= 50
    assert [hit.rank for hit in hits] == list(range(1, 201)) and len({hit.item_id for hit in hits}) == 200
    head = hits[:HEAD]
    assert head == sorted(head, key=lambda hit: -hit.score)
    assert fused(found, SearchSettings(), calibration, 10) == hits[:10]
    lone = fused({"lexical": words}, SearchSettings(), calibration)
    assert [hit.item_id for hit in lone] == [hit.item_id for hit in words]


class Flat:
    """An encoder that holds every query for most like the first items."""

    fingerprint, dimension = "flat", 2

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0]] * len(texts), dtype=np.float32)


@pytest.fixture(scope="module")
def players(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Thirty players whose texts hold the query's words, and the one that has its number."""
    titles = [f"Kira DVD player silver {n}" for n in range(30)] + ["Kira radio DLM-63090", "Lamp KX200 400/77"]
    ids = [f"p{n}" for n in range(30)] + ["radio", "4016138712345"]
    frame = pl.DataFrame({"id": ids, "title": titles, "brand": "Kira"})
    store = Store.create(tmp_path_factory.mktemp("players") / "index", "flat", 2)
    store.upsert(Catalog(frame), np.array([[1.0 - n / 100, 0.0] for n in range(32)], dtype=np.float32))
    return store


@pytest.mark.parametrize("query", ["Kira DVD DLM63090", "dlm-63090", "player DLM 63090 red", "\uff24\uff2c\uff2d63090"])
@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
def test_the_item_whose_identifier_was_typed_is_first(players: Store, query: str, mode: str) -> None:
    hits = Searcher(players, Flat()).search(query, 5, mode=mode)  # type: ignore[arg-type]
    assert hits[0].item_id == "radio" and hits[0].channels["identifier"].rank == 1


def test_ids_and_parts_of_numbers_with_a_slash_are_identifiers_and_filters_hold(players: Store) -> None:
    searcher = Searcher(players, None)
    assert searcher.search("4016138712345", 1)[0].item_id == "4016138712345"
    assert searcher.search("KX200-400", 1)[0].item_id == "4016138712345"  # words; "kx200400" is no identifier of it
    assert players.search_identifiers("DLM63090", 5, "id = 'p1'") == []


def test_a_word_that_many_items_share_is_no_identifier(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", None, None)
    store.upsert(Catalog(pl.DataFrame({"id": [f"c{n:02d}" for n in range(40)], "title": ["cable cat5e"] * 40})), None)
    assert store.search_identifiers("cat5e", 10) == []
    store.remove([f"c{n:02d}" for n in range(20, 40)])
    assert len(store.search_identifiers("cat5e", 10)) == 10


@pytest.mark.parametrize("query", ["???", "\U0001f642", "- / ."])
@pytest.mark.parametrize("mode", ["hybrid", "lexical", "dense"])
def test_a_query_without_a_letter_or_digit_finds_nothing(players: Store, query: str, mode: str) -> None:
    assert Searcher(players, Flat()).search(query, 5, mode=mode) == []  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three oat bars: with raisins, without, and without a price; a lamp."""
    frame = pl.DataFrame({
        "id": ["raisin", "plain", "unpriced", "lamp"],
        "title": ["oat bars with raisins raisins", "oat bars, no raisins", "oat bars honey", "lamp"],
        "price": [10.0, 30.0, None, 5.0],
        "attributes": ["{}", "{}", '{"topping":"raisins"}', "{}"],
    })  # fmt: skip
    store = Store.create(tmp_path_factory.mktemp("bars") / "index", None, None)
    store.upsert(Catalog(frame), None)
    return store


def test_what_a_query_excludes_goes_last_and_a_price_filters(bars: Store) -> None:
    searcher = Searcher(bars, None)
    hits = searcher.search("oat bars without raisins")
    assert [(hit.item_id, hit.rank, hit.excluded) for hit in hits] == [
        ("plain", 1, False), ("raisin", 2, True), ("unpriced", 3, True),
    ]  # fmt: skip
    assert {hit.item_id for hit in searcher.search("oat bars under $20")} == {"raisin", "unpriced"}
    assert [hit.item_id for hit in searcher.search("oat bars under $20", where="price > 1")] == ["raisin"]
    assert searcher.search("oat bars without raisins", 1)[0].item_id == "plain"


def test_a_part_that_is_taken_away_is_plain_words_again_and_no_language_reads_nothing(bars: Store) -> None:
    searcher = Searcher(bars, None)
    read = searcher.read("oat bars without raisins under $20").constraints
    assert read is not None and [span.kind for span in read.spans] == ["not", "price"]
    taken_away = [span.id for span in read.spans]
    plain = [hit.item_id for hit in Searcher(bars, None, as_typed=True).search("oat bars without raisins under $20")]
    assert [hit.item_id for hit in searcher.search("oat bars without raisins under $20", ignore=taken_away)] == plain
    assert plain[0] == "raisin"
