"""The share of a query's words that items have, and the head of a hybrid list that is ordered by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.api.index import Index
from goodrate.api.tuning import Recalling
from goodrate.catalog.items import Catalog
from goodrate.retrieval.calibration import Calibration
from goodrate.retrieval.coverage import asked_words, covered
from goodrate.retrieval.fusion import ChannelPart, Hit, Instead
from goodrate.retrieval.hybrid import channel_features, fused
from goodrate.retrieval.rewriting.vocabulary import Vocabulary
from goodrate.retrieval.search_settings import HEAD, SearchSettings
from goodrate.retrieval.store import Store
from goodrate.retrieval.weighing import factors_of

TITLES = ["Red Lamp", "Red lamps 2 m", "Blue sofa", "Green sofas", "Sofa bed", "Rug", "Rugs", "Rug, red", "Vase", "Jug"]


def test_a_word_is_as_rare_as_the_items_that_have_any_of_its_forms() -> None:
    words = Vocabulary.build([*((title, 1.0) for title in TITLES), ("a red vase", 0.1)])
    # red: 3 titles and one description, 3.1 of 10; lamp and lamps: 2; xylophone: none; 2m: one, written "2m" here alone
    asked = asked_words("RED lamps xylophone 2 m", words, 10)
    assert list(asked) == ["red", "lamp", "xylophone", "2m"]
    rare = [math.log(1 + (10 - held + 0.5) / (held + 0.5)) for held in (3.1, 2, 0, 0)]
    assert list(asked.values()) == pytest.approx(rare)
    assert min(asked_words("red", Vocabulary.build([("red", 1.0)] * 9), 4).values()) > 0  # counts that lag behind


def test_shares_are_of_all_that_is_asked_and_other_ways_add_what_they_have_more() -> None:
    asked, others = {"red": 1.0, "lamp": 3.0}, [{"red": 1.0, "light": 1.0}, {"red": 1.0, "lantern": 4.0}]
    texts = {"both": "Lamps, red red red", "half": "a lamp", "other": "red lights", "none": "Vase", "gone": ""}
    shares = covered(asked, others, texts)
    assert shares["lexical"] == {"both": 1.0, "half": 0.75, "other": 0.25, "none": 0.0, "gone": 0.0}
    # other: 1 of 1 by the first way, 1/5 by the second: 0.75 more than 0.25; both: 1/2 and 1/5 are less than it has
    assert shares["synonym"] == {"both": 0.0, "half": 0.0, "other": 0.75, "none": 0.0, "gone": 0.0}
    assert covered({}, [], {"a": "lamp"}) == {"lexical": {"a": 0.0}, "synonym": {"a": 0.0}}


FOUND = {
    "lexical": [Hit("repeats", 9.0, 1), Hit("whole", 6.0, 2), Hit("half", 5.0, 3)],
    "dense": [Hit("half", 0.62, 1), Hit("whole", 0.6, 2), Hit("repeats", 0.55, 3), Hit("near", 0.5, 4)],
}
SHARES = {"repeats": 0.5, "whole": 1.0, "half": 0.5, "near": 0.9}


def shares(ids: Sequence[str]) -> Instead:
    return {"lexical": {item: SHARES[item] for item in ids}, "synonym": dict.fromkeys(ids, 0.0)}


def test_the_head_is_ordered_by_shares_and_cosines_and_the_hits_keep_their_scores() -> None:
    settings, calibration = SearchSettings(share_weight=4.0, dense_weight=0.6), Calibration(items=99, spread=0.1)
    hits = fused(FOUND, settings, calibration, covering=shares)
    # in log(100): 4 share + 6 (cosine - 0.5); what words did not find has no share, whatever its text
    worth = {"whole": 4 + 0.6, "half": 2 + 0.72, "repeats": 2 + 0.3, "near": 0.0}
    assert [(hit.item_id, hit.rank) for hit in hits] == [("whole", 1), ("half", 2), ("repeats", 3), ("near", 4)]
    assert [hit.score / math.log(100) for hit in hits] == pytest.approx(list(worth.values()))
    assert hits[0].channels["lexical"] == ChannelPart(2, 6.0, pytest.approx(4 / 4.6))
    by_bm25 = fused(FOUND, settings, calibration)
    assert by_bm25[0].item_id == "repeats"
    assert fused(FOUND, settings.model_copy(update={"share_weight": 0.0}), calibration, covering=shares) == by_bm25
    first = fused({**FOUND, "identifier": [Hit("near", 1.0, 1)]}, settings, calibration, covering=shares)
    assert first[0].item_id == "near"


def test_only_the_head_is_read_and_what_follows_stays_as_it_was() -> None:
    many = [Hit(f"i{n:03}", 200.0 - n, n + 1) for n in range(80)]
    near = [Hit(hit.item_id, 0.9 - n / 1000, n + 1) for n, hit in enumerate(many)]
    asked: list[str] = []

    def turned(ids: Sequence[str]) -> Instead:
        asked.extend(ids)
        return {"lexical": {item: int(item[1:]) / 100 for item in ids}}

    found, calibration = {"lexical": many, "dense": near}, Calibration(items=99)
    hits = fused(found, SearchSettings(), calibration, covering=turned)
    assert asked == [hit.item_id for hit in many[:HEAD]]
    assert [hit.item_id for hit in hits[:HEAD]] == list(reversed(asked)) and hits[0].rank == 1
    assert hits[HEAD:] == fused(found, SearchSettings(), calibration)[HEAD:]


def test_features_times_learned_weights_order_as_the_shares_do() -> None:
    channels, weights = ("lexical", "dense", "price"), np.array([0.5, 0.2, 0.3])
    found = {**FOUND, "price": [Hit("near", 1.0, 1), Hit("half", 0.5, 2), Hit("whole", 0.25, 3), Hit("repeats", 0, 4)]}
    settings, calibration = SearchSettings(), Calibration(items=99)
    ids, features = channel_features(found, settings, calibration, channels, shares)
    hits = fused(found, settings, calibration, factors=factors_of(channels, weights), covering=shares)
    scores = dict(zip(ids, features @ weights, strict=True))
    own = np.array([hit.score for hit in hits])
    assert own == pytest.approx(np.array([scores[hit.item_id] for hit in hits]) * own.max() / max(scores.values()))


class Alike:
    """An encoder to which all is nearly the same."""

    fingerprint, dimension = "alike", 2

    def encode_items(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 1e-3 * len(text)] for text in texts], dtype=np.float32)

    encode_queries = encode_items


def made(folder: Path, titles: dict[str, str], language: str) -> Index:
    index = Index(Store.create(folder, "alike", 2, language=language), Alike())  # type: ignore[arg-type]
    index.add(Catalog(pl.DataFrame({"id": list(titles), "title": list(titles.values())})))
    return index


@pytest.mark.parametrize(("language", "first"), [("en", "whole"), ("de", "repeats")])
def test_an_index_orders_by_the_share_where_it_knows_the_endings(tmp_path: Path, language: str, first: str) -> None:
    titles = {"repeats": "lamp lamp lamp lamp", "whole": "garden lamps for a long and winding path with many gates"}
    titles |= {f"g{n}": f"garden shears of kind {n}" for n in range(6)} | {f"v{n}": f"vase {n}" for n in range(6)}
    index = made(tmp_path / "index", titles, language)
    assert index.search("garden lamp", 1).results[0].item["id"] == first
    told = Recalling(index)  # as tune asks: twice, the second time from what it remembers
    assert [told.search("garden lamp", 3)[0].item_id for _ in range(2)] == [first, first]


def test_what_was_removed_meanwhile_has_no_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made(tmp_path / "index", {"a": "red lamp", "b": "red lamp"}, "en").searcher
    monkeypatch.setattr(searcher.store, "known_texts", lambda ids: {"b": "red lamp"})
    assert [hit.item_id for hit in searcher.search("red lamp", 2)] == ["b", "a"]


def test_the_text_of_an_item_is_read_once_in_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = {"straw": "bottle with straw", "plain": "bottle without straw", "red": "red bottle"}
    searcher = made(tmp_path / "index", titles, "en").searcher
    read: list[str] = []
    texts = searcher.store.known_texts
    monkeypatch.setattr(searcher.store, "known_texts", lambda ids: [read.extend(ids), texts(ids)][1])
    hits = searcher.search("bottle without straw", 3)  # ordered by shares, then those with a straw last
    assert hits[-1].item_id == "straw" and hits[-1].excluded
    assert sorted(read) == ["plain", "red", "straw"]
