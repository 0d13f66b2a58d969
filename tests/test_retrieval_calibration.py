"""What an index learns of its cosines without judgements, and the settings that its searches take."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.retrieval.calibration import CALIBRATION_FILE, SPREAD, Calibration, calibrate, read_calibration
from goodrate.retrieval.search_settings import SETTINGS_FILE, SearchSettings, read_settings
from goodrate.retrieval.search_words import SearchWords
from goodrate.retrieval.store import Store

TITLES = ["running trainers white", "leather trainers black", "desk lamp oak", "floor lamp steel", "wool blanket grey"]


class Meanings:
    """Shoes on the first axis, lights on the second, textiles on the third; what has no meaning is near to nothing."""

    fingerprint, dimension = "meanings", 4
    words = {"trainers": 0, "sneakers": 0, "running": 0, "lamp": 1, "light": 1, "blanket": 2, "zweck": 1}

    class tokenizer:  # noqa: N801
        @staticmethod
        def get_vocab() -> dict[str, int]:
            return {"sneakers": 0, "light": 1}

    def encode_items(self, texts: list[str]) -> np.ndarray:
        vectors = np.full((len(texts), 4), 0.1, dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, [self.words[word] for word in text.lower().split() if word in self.words]] = 1
            vectors[row, 3] += sum(map(ord, text)) % 7 / 50  # nothing is quite like another
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode_items


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    frame = pl.DataFrame({"id": [f"i{n}" for n in range(5)], "title": TITLES})
    folder = tmp_path_factory.mktemp("calibrated") / "index"
    made = Index(Store.create(folder, "meanings", 4), Meanings())
    made.add(Catalog(frame))
    return made


def test_an_index_knows_how_its_cosines_spread_and_how_near_non_words_come(index: Index) -> None:
    found = read_calibration(index.store)
    vectors = Meanings().encode_items(TITLES)
    short = Meanings().encode_queries([" ".join(title.split()[:3]) for title in TITLES])
    assert found.items == 5 and found.index == index.store.manifest.id
    assert found.spread == pytest.approx(float((short @ vectors.T).std()), rel=1e-4)
    # weight * log(1 + items) / sqrt(spread * the usual spread)
    assert found.dense_gain(2.0) == pytest.approx(2 * math.log(6) / math.sqrt(found.spread * SPREAD))
    assert found.floor is not None and 0 < found.floor < 1


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_what_is_no_query_finds_nothing_and_an_unknown_word_is_understood(index: Index, mode: str) -> None:
    for gibberish in ("asdf qwerty zxcv", "xkcd wqpz", "qqqq"):
        assert len(index.search(gibberish, mode=mode)) == 0
    assert {result.item["id"] for result in index.search("sneakers", 2, mode=mode)} == {"i0", "i1"}  # no title has it
    assert {result.item["id"] for result in index.search("zweck", 2, mode=mode)} == {"i2", "i3"}  # known to no list
    assert len(index.search("trainers xkcd", mode=mode)) == 5  # more than half of it is known
    assert len(index.taking_words_as_typed().search("xkcd wqpz", mode=mode)) == 0
    assert len(index.taking_words_as_typed().search("sneakers", mode=mode)) == 5


def test_a_filter_does_not_change_whether_a_query_means_something(index: Index) -> None:
    assert [result.item["id"] for result in index.search("zweck", where="id = 'i4'")] == ["i4"]
    assert len(index.search("xkcd wqpz", where="id = 'i4'")) == 0


def test_without_a_floor_the_nearest_items_come_back(index: Index) -> None:
    index.searcher.settings.model_copy(update={"floor": False}).write(index.store.path)
    try:
        assert len(index.searcher.search("xkcd wqpz")) == 5
    finally:
        (index.store.path / SETTINGS_FILE).unlink()


def test_words_are_known_by_letters_and_everything_is_where_nothing_is_known(index: Index) -> None:
    assert index.words.knows("trainers") and index.words.knows("lamp qqqq") and not index.words.knows("lamp qqqqq")
    assert index.words.knows("desklamp") and not index.words.knows("xlampx")
    assert not index.words.knows("???") and SearchWords().knows("qqqqq")


@pytest.mark.parametrize("text", ["", "{", '{"items": 5, "spread": 0}', '{"items": 5, "index": "another"}'])
def test_a_calibration_that_cannot_be_used_is_none(tmp_path: Path, text: str) -> None:
    store = Store.create(tmp_path / "index", "meanings", 4)
    assert read_calibration(store) == Calibration(items=0)
    (store.path / CALIBRATION_FILE).write_text(text)
    assert read_calibration(store) == Calibration(items=0) and read_calibration(store).floor is None
    assert calibrate(store, Meanings()).floor is None  # an index without items
    assert calibrate(store, Meanings()).spread == SPREAD


def test_settings_are_read_back_and_wrong_ones_are_named(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == SearchSettings()
    chosen = SearchSettings(dense_weight=0.3, attribute_weight=0.1, floor=False)
    chosen.write(tmp_path)
    assert read_settings(tmp_path) == chosen
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"dense_weight": -1.0}))
    with pytest.raises(ValueError, match=r"search_settings.json: dense_weight: .*found -1.0; goodrate tune writes it"):
        read_settings(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"dense": 1.0}))
    with pytest.raises(ValueError, match=r"search_settings.json: dense: Extra inputs"):
        read_settings(tmp_path)


def test_what_shares_nothing_with_the_catalogue_must_be_nearer_by_a_margin(index: Index) -> None:
    # No text has "zweck"; the encoder takes it for a light.
    searcher = index.searcher
    near = float((Meanings().encode_queries(["zweck"]) @ Meanings().encode_items(TITLES).T).max())
    spread = searcher.calibration.spread
    for below, finds in ((0.4, False), (0.6, True)):  # spreads between the floor and the nearest item
        searcher.calibration = searcher.calibration.model_copy(update={"floor": near - below * spread})
        assert bool(searcher.search("zweck")) == finds
    searcher.calibration = searcher.calibration.model_copy(update={"floor": near - 0.4 * spread})
    assert searcher.search("lamp zweckzweck zweck", mode="dense")  # one word of the catalogue: the plain floor
    assert searcher.search("light", mode="dense")  # known to the encoder: none


def test_strange_queries_have_no_word_of_the_catalogue_nor_a_typo_of_one(index: Index) -> None:
    words = index.words
    assert all(words.is_strange(query) for query in ("sneakers", "xkcd wqpz", "qqqq", "???"))  # sneakers: no title
    assert not any(words.is_strange(query) for query in ("lamps", "qqqq lamp", "desklamp", "trainres qqqq"))
    assert not SearchWords().is_strange("qqqqq")
