"""The store: exact top-k with ties, filters before the top, upserts that can be interrupted, versions, fingerprints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.retrieval import full_text, indexing, row_columns
from goodrate.retrieval.full_text import ATTRIBUTE_WEIGHT
from goodrate.retrieval.indexing import index_catalog
from goodrate.retrieval.store import Store

WORDS = ("lamp", "oak", "red", "desk", "brass", "shelf", "rug", "wool", "mat", "bulb")


def catalog(titles: list[str], first: int = 0, **columns: list) -> Catalog:
    ids = [f"i{number:04d}" for number in range(first, first + len(titles))]
    return Catalog(pl.DataFrame({"id": ids, "title": titles, **columns}))


def text_store(path: Path, items: Catalog) -> Store:
    store = Store.create(path, None, None)
    store.upsert(items, None)
    return store


def random_titles(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(2, 6))) for _ in range(count)]


class CountingEncoder:
    """A fake encoder: a text becomes the counts of ten words, normalised. It notes what it encoded."""

    fingerprint, dimension = "count-10", len(WORDS)

    def __init__(self, fail_after: int | None = None) -> None:
        self.encoded: list[str] = []
        self.fail_after = fail_after

    def encode_items(self, texts: list[str]) -> np.ndarray:
        if self.fail_after is not None and len(self.encoded) + len(texts) > self.fail_after:
            raise KeyboardInterrupt
        self.encoded += texts
        return self.encode_queries(texts)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        counts = np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_vector_search_is_the_exact_top_with_ties_by_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.integers(-2, 3, size=(400, 4)).astype(np.float32)  # few distinct values, so many exact ties
    store = Store.create(tmp_path / "s", "fake", 4)
    items = catalog(["x"] * 400)
    store.upsert(items, vectors)
    for query in rng.integers(-2, 3, size=(5, 4)).astype(np.float32):
        scores = vectors @ query
        expected = sorted(range(400), key=lambda index: (-scores[index], items.ids[index]))[:30]
        hits = store.search_vector(query, 30)
        assert [hit.item_id for hit in hits] == [items.ids[index] for index in expected]
        assert [hit.score for hit in hits] == [scores[index] for index in expected]
        assert [hit.rank for hit in hits] == list(range(1, 31))


def test_when_everything_ties_the_smallest_ids_win(tmp_path: Path) -> None:
    items = catalog(["red lamp"] * 300)
    store = text_store(tmp_path / "s", Catalog(items.frame.sample(fraction=1.0, shuffle=True, seed=0)))
    assert [hit.item_id for hit in store.search_text("lamp", 3)] == ["i0000", "i0001", "i0002"]


def test_lexical_scores_are_those_of_bm25s(tmp_path: Path) -> None:
    bm25s = pytest.importorskip("bm25s")
    titles = random_titles(300)
    colors = random_titles(300, seed=1)
    items = catalog(titles, attributes=[json.dumps({"note": text}) for text in colors])
    store = text_store(tmp_path / "s", items)

    def peer(texts: list[str], query: str) -> np.ndarray:
        index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        index.index([text.split() for text in texts], show_progress=False)
        return index.get_scores(query.split())

    for query in ("oak lamp", "red wool rug", "shelf", "bulb brass desk mat"):
        core = peer([f"{text} {text}" for text in titles], query)  # a title counts twice
        expected = core + ATTRIBUTE_WEIGHT * peer([f"note {text}" for text in colors], query)
        hits = store.search_text(query, 300)
        ours = np.zeros(300)
        for hit in hits:
            ours[int(hit.item_id[1:])] = hit.score
        # Lance keeps the factor (k1 + 1) = 2.2 of the original formula, which Lucene drops; it changes no ranking.
        np.testing.assert_allclose(ours / 2.2, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    "query", ['"', "(", "a:b", "lamp AND (", "lamp^2 +oak -x ~", "\\", "\x00lamp", "'; --", "%", "lamp*"]
)
def test_no_character_is_special_in_a_query(tmp_path: Path, query: str) -> None:
    store = text_store(tmp_path / "s", catalog(["oak lamp", "desk"]))
    found = {hit.item_id for hit in store.search_text(query, 5)}
    assert found == ({"i0000"} if "lamp" in query else set())


def test_filters_apply_before_the_top(tmp_path: Path) -> None:
    prices = [float(number) if number % 2 else None for number in range(200)]
    items = catalog(
        ["oak lamp"] * 200, price=prices, brand=["Kira" if number > 190 else "O'Neill" for number in range(200)]
    )
    store = Store.create(tmp_path / "s", "fake", 2)
    store.upsert(items, np.ones((200, 2), dtype=np.float32))
    for search in (lambda **kw: store.search_text("lamp", **kw), lambda **kw: store.search_vector(np.ones(2), **kw)):
        assert [h.item_id for h in search(k=3, where="brand = 'Kira' AND price > 193")] == ["i0195", "i0197", "i0199"]
        assert [h.item_id for h in search(k=9, where="price < 4")] == ["i0001", "i0003"]  # fewer, never wrong ones
        assert len(search(k=200, where="brand = 'O''Neill'")) == 191
        assert search(k=3, where="price < 0") == []


def test_wrong_filters_are_refused(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(["lamp"], price=[5.0], brand=["Kira"]))
    with pytest.raises(ValueError, match="no column named brnd"):
        store.search_text("lamp", 1, where="brnd = 'x'")


def test_upsert_twice_changes_nothing_and_replaces_by_id(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(["oak lamp", "red rug"]))
    before = store.search_text("lamp", 5)
    store.upsert(catalog(["oak lamp", "red rug"]), None)
    assert (len(store), store.search_text("lamp", 5)) == (2, before)
    store.upsert(catalog(["brass bulb"], first=1), None)
    assert store.items(["i0001", "i0000"])["title"].to_list() == ["brass bulb", "oak lamp"]
    assert store.search_text("rug", 5) == []
    fresh = text_store(tmp_path / "fresh", catalog(["oak lamp", "brass bulb"]))
    assert store.search_text("lamp", 5) == fresh.search_text("lamp", 5)  # statistics forget the replaced text


def test_remove_counts_and_quotes(tmp_path: Path) -> None:
    items = Catalog(pl.DataFrame({"id": ["a'b", "c"], "title": ["lamp", "lamp"]}))
    store = text_store(tmp_path / "s", items)
    assert store.remove(["a'b", "unknown"]) == 1
    assert store.all_items().ids == ["c"]
    with pytest.raises(ValueError, match='not in the catalogue, such as "a\'b"'):
        store.items(["a'b"])


def test_an_old_version_can_be_read(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(["lamp"]))
    old = store.version
    store.upsert(catalog(["rug"], first=7), None)
    assert (len(Store.open(tmp_path / "s", version=old)), len(Store.open(tmp_path / "s"))) == (1, 2)
    with pytest.raises(ValueError, match="has no version 999"):
        Store.open(tmp_path / "s", version=999)


def test_open_and_create_refuse_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no store.json"):
        Store.open(tmp_path)
    store = Store.create(tmp_path / "s", "sha-one", 3)
    with pytest.raises(ValueError, match="already holds an index"):
        Store.create(tmp_path / "s", "sha-one", 3)
    with pytest.raises(ValueError, match=r"made with encoder sha-one .*not with encoder sha-two"):
        store.require_encoder("sha-two")
    with pytest.raises(ValueError, match=r"shape \(1, 2\); this index expects \(1, 3\)"):
        store.upsert(catalog(["lamp"]), np.ones((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        store.upsert(catalog(["lamp"]), np.full((1, 3), np.nan, dtype=np.float32))
    assert len(store) == 0 and store.search_vector(np.ones(3), 5) == [] and store.search_text("lamp", 5) == []


def test_only_new_and_changed_texts_are_encoded(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    store = Store.create(tmp_path / "s", encoder.fingerprint, encoder.dimension)
    first = catalog(["oak lamp", "red rug", "wool mat"], price=[1.0, 2.0, 3.0])
    report = index_catalog(store, first, encoder)
    assert (report.added, report.changed, report.unchanged, report.encoded) == (3, 0, 0, 3)
    second = catalog(["oak lamp", "red rug", "wool rug", "bulb"], price=[1.0, 9.0, 3.0, 4.0])
    report = index_catalog(store, second, encoder)
    # unchanged: i0000; a price only: i0001 (keeps its vector); a title: i0002; new: i0003
    assert (report.added, report.changed, report.unchanged, report.encoded) == (1, 2, 1, 2)
    assert sorted(encoder.encoded[3:]) == ["bulb", "wool rug"]
    ids, vectors = store.vectors()
    assert ids == second.ids
    np.testing.assert_allclose(vectors, encoder.encode_queries(second.frame["title"].to_list()), atol=1e-6)
    assert store.items(["i0001"])["price"].to_list() == [9.0]


def test_an_interrupted_run_leaves_a_usable_index_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.retrieval.indexing.ENCODE_ROWS", 10)
    items = catalog(random_titles(35))
    store = Store.create(tmp_path / "s", "count-10", len(WORDS))
    with pytest.raises(KeyboardInterrupt):
        index_catalog(store, items, CountingEncoder(fail_after=25))
    reopened = Store.open(tmp_path / "s")
    assert len(reopened) == 20
    found = {hit.item_id for hit in reopened.search_text("lamp", 50)}  # rows that are in no full-text index yet
    assert found == {i for i, title in zip(items.ids[:20], items.frame["title"], strict=False) if "lamp" in title}
    encoder = CountingEncoder()
    assert index_catalog(reopened, items, encoder).encoded == 15 and len(encoder.encoded) == 15
    whole = Store.create(tmp_path / "whole", "count-10", len(WORDS))
    index_catalog(whole, items, CountingEncoder())
    assert reopened.search_text("oak lamp", 35) == whole.search_text("oak lamp", 35)
    np.testing.assert_array_equal(reopened.vectors()[1], whole.vectors()[1])


def test_units_match_however_they_are_written(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(["usb cable 2 m", "usb cable 3m", "usb-c cable, 2m"]))
    assert {hit.item_id for hit in store.search_text("2m", 5)} == {"i0000", "i0002"}
    assert store.search_text("2 m", 5) == store.search_text("2m", 5)


def test_an_index_remembers_what_its_encoder_reads(tmp_path: Path) -> None:
    """Only a change in an encoded field asks for a new vector."""
    seen: list[str] = []

    class Reader:
        fingerprint, dimension = "reader", 1

        def encode_items(self, texts: list[str]) -> np.ndarray:
            seen.extend(texts)
            return np.ones((len(texts), 1), dtype=np.float32)

        encode_queries = encode_items

    def catalog(brand: str) -> Catalog:
        return Catalog(pl.DataFrame({"id": ["a"], "title": ["red lamp"], "brand": [brand]}))

    Store.create(tmp_path / "s", "reader", 1, encoded_fields=["title"])
    store = Store.open(tmp_path / "s")
    assert index_catalog(store, catalog("kira"), Reader()).encoded == 1 and seen == ["red lamp"]
    report = index_catalog(store, catalog("velto"), Reader())
    assert (report.changed, report.encoded) == (1, 0) and store.items(["a"])["brand"][0] == "velto"
    assert [hit.item_id for hit in store.search_text("velto", 5)] == ["a"]
    with pytest.raises(ValueError, match="cannot render field 'colour'; accepted: title"):
        Store.create(tmp_path / "t", "reader", 1, encoded_fields=["colour"])


def test_an_open_index_sees_what_another_one_writes(tmp_path: Path) -> None:
    catalog = Catalog(pl.DataFrame({"id": ["a", "b"], "title": ["red lamp", "blue chair"]}))
    first = Store.create(tmp_path / "idx", None, None)
    first.upsert(catalog, None)
    other = Store.open(tmp_path / "idx")
    other.upsert(Catalog(pl.DataFrame({"id": ["c"], "title": ["green lamp"]})), None)
    assert len(first) == 3 and {hit.item_id for hit in first.search_text("lamp", 5)} == {"a", "c"}
    other.remove(["a"])
    assert first.remove(["c"]) == 1 and [hit.item_id for hit in other.search_text("lamp", 5)] == []


def test_few_changes_are_searched_at_once_and_statistics_follow_after_a_hundredth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 items 2 may be gone before the full text is built again; what a search finds is right throughout."""
    built: list[int] = []
    build = full_text.build
    monkeypatch.setattr(full_text, "build", lambda table, *where: (built.append(len(table)), build(table, *where))[1])
    titles = [title.replace("wool", "mat") for title in random_titles(300)]
    store = text_store(tmp_path / "s", catalog(titles))
    assert built == [0]  # of the empty table; the items were added to that
    before = {hit.item_id: hit.score for hit in store.search_text("lamp", 300)}
    gone = list(before)[:2]
    assert store.remove(gone) == 2
    after = {hit.item_id: hit.score for hit in store.search_text("lamp", 300)}
    assert after == {item: score for item, score in before.items() if item not in gone} and built == [0]
    store.upsert(catalog(["wool lamp"], first=900), None)
    assert [hit.item_id for hit in store.search_text("wool", 9)] == ["i0900"]
    assert [hit.item_id for hit in store.search_text("wool lamp", 1)] == ["i0900"]
    store.upsert(catalog(["brass rug"], first=900), None)  # the third text that is gone
    assert built == [0, 299] and store.search_text("wool", 9) == []
    left = store.all_items()
    assert store.search_text("oak lamp", 300) == text_store(tmp_path / "fresh", left).search_text("oak lamp", 300)


def test_the_count_of_outdated_texts_survives_and_a_broken_one_means_to_build(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(random_titles(300)))
    store.remove(["i0000"])
    Store.open(tmp_path / "s").update(catalog(["oak"], first=1))
    assert full_text.outdated(tmp_path / "s") == 2
    for broken in ("", "[]", "{}", '{"outdated": "many"}'):
        (tmp_path / "s" / full_text.OUTDATED_FILE).write_text(broken)
        assert full_text.outdated(tmp_path / "s") == float("inf")
        store.remove(["i0005"])
        store.refresh()
        assert full_text.outdated(tmp_path / "s") == 0


def test_many_small_writes_are_compacted(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(random_titles(9000)))
    for number in range(full_text.MAX_FILES + 5):  # far fewer than a hundredth of the items
        store.upsert(catalog(["wool carpet"], first=9000 + number), None)
        assert len(store.search_text("carpet", 99)) == number + 1
    assert store._opened._table().stats()["fragment_stats"]["num_fragments"] <= full_text.MAX_FILES


def test_an_item_is_rendered_once_and_a_price_needs_no_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    scanned: set[str] = set()
    render, scan = indexing.render_items, Store.scan

    def noted(frame: pl.DataFrame, fields: list[str]) -> list[str]:
        rendered.extend(frame["id"])
        return render(frame, fields)

    for module in (indexing, row_columns):
        monkeypatch.setattr(module, "render_items", noted)
    monkeypatch.setattr(
        Store, "scan", lambda self, columns, *where: (scanned.update(columns), scan(self, columns, *where))[1]
    )
    monkeypatch.setattr(indexing, "WRITE_ROWS", 10)
    items = catalog(random_titles(60), price=[1.0] * 60)
    encoder = CountingEncoder()
    store = Store.create(tmp_path / "s", "count-10", len(WORDS))
    index_catalog(store, items, encoder)
    assert rendered == items.ids and encoder.encoded == items.text()
    vectors = store.vectors()[1]
    for changed in (items, items[20:22]):  # the whole feed, and two items that are looked up by id
        rendered.clear()
        scanned.clear()
        priced = Catalog(changed.frame.with_columns(price=pl.lit(float(len(changed)))))
        report = index_catalog(store, priced, encoder)
        assert (report.changed, report.unchanged, report.encoded) == (len(changed), 0, 0)
        assert rendered == changed.ids and "vector" not in scanned
        assert store.items(changed.ids)["price"].to_list() == [float(len(changed))] * len(changed)
    np.testing.assert_array_equal(store.vectors()[1], vectors)
    assert len(store.search_text("lamp oak red desk brass shelf rug wool mat bulb", 99)) == 60


def test_an_update_adds_nothing(tmp_path: Path) -> None:
    store = text_store(tmp_path / "s", catalog(["oak lamp"]))
    store.update(catalog(["red lamp", "wool rug"]))
    assert store.all_items().frame["title"].to_list() == ["red lamp"]


def test_items_that_were_found_are_read_where_they_lie_and_never_wrong_after_a_write(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "i", None, None)
    frame = pl.DataFrame({"id": [f"i{n}" for n in range(60)], "title": [f"lamp {n}" for n in range(60)]})
    store.upsert(Catalog(frame), None)
    ids = [hit.item_id for hit in store.search_text("lamp", 60)]
    assert store._places.read(["id"], ids) is not None and store._places.read(["id"], [*ids, "x"]) is None
    scanned = Store.open(tmp_path / "i").items(ids)  # it has searched nothing
    assert store.items(ids).equals(scanned) and store.items(ids)["id"].to_list() == ids
    # Another program replaces, removes and compacts: the rows have moved, the items are those of the ids.
    other = Store.open(tmp_path / "i")
    other.upsert(Catalog(pl.DataFrame({"id": ["i3"], "title": ["chair 3"]})), None)
    assert other.remove(["i5"]) == 1
    other._opened._state.table.optimize()
    assert store.items(["i3", "i7"])["title"].to_list() == ["chair 3", "lamp 7"]
    with pytest.raises(ValueError, match="i5"):
        store.items(["i5"])


def test_items_are_found_by_id_without_a_scan_and_never_wrong_after_a_write(tmp_path: Path) -> None:
    store = text_store(tmp_path, catalog(random_titles(300)))

    def plan() -> str:
        table = store._opened._table()
        return str(table.search().where("id IN ('i0007', 'i0290')").select(["id"]).explain_plan(verbose=True))

    assert "ScalarIndexQuery" in plan() and "id_idx" in plan()
    store.upsert(catalog(["new lamp", "newer lamp"], first=299), None)  # one is replaced, one is new
    store.update(catalog(["other lamp"], first=7))
    assert store.items(["i0300", "i0007", "i0299"])["title"].to_list() == ["newer lamp", "other lamp", "new lamp"]
    store.remove(["i0007", "i0299"])
    assert set(store.known_items(["i0300", "i0007", "i0299", "i0006"])["id"]) == {"i0300", "i0006"}
    assert "ScalarIndexQuery" in plan() and len(store) == 299


def test_an_index_without_one_over_its_ids_is_read_and_gets_it_with_the_next_write(tmp_path: Path) -> None:
    store = text_store(tmp_path, catalog(random_titles(50)))
    store._opened._table().drop_index("id_idx")
    assert store.items(["i0007"])["id"].to_list() == ["i0007"]
    store.upsert(catalog(["new lamp"], first=50), None)
    assert "id_idx" in {index.name for index in store._opened._table().list_indices()}
