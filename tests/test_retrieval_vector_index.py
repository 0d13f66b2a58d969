"""The approximate index over vectors, with a threshold that a test can reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calling import called
from goodrate.api.index import Index
from goodrate.api.index_place import choose_vector_index
from goodrate.catalog.items import Catalog
from goodrate.retrieval import vector_index
from goodrate.retrieval.store import Store

N, D = 3000, 16


def catalog(first: int, count: int) -> Catalog:
    ids = [f"i{n:05d}" for n in range(first, first + count)]
    return Catalog(pl.DataFrame({"id": ids, "title": "lamp", "price": [float(n % 100) for n in range(count)]}))


def unit(draw: np.random.Generator, count: int) -> np.ndarray:
    vectors = draw.standard_normal((count, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, np.ndarray]:
    """An index of N items, which is large here, and its vectors."""
    monkeypatch.setattr(vector_index, "APPROXIMATE_FROM", N)
    vectors = unit(np.random.default_rng(0), N)
    store = Store.create(tmp_path / "index", "reader", D)
    store.upsert(catalog(0, N), vectors)
    return store, vectors


def name(store: Store) -> str | None:
    return store._opened.read(vector_index.index_name)


def test_a_large_index_finds_what_an_exact_search_finds_with_exact_scores(large: tuple[Store, np.ndarray]) -> None:
    store, vectors = large
    assert name(store) is not None
    found = []
    for query in unit(np.random.default_rng(1), 20):
        near, exact = store.search_vector(query, 10), store.search_vector(query, 10, exact=True)
        best = np.argsort(-(vectors @ query), kind="stable")[:10]
        assert [hit.item_id for hit in exact] == [f"i{n:05d}" for n in best]
        assert all(hit.score == pytest.approx(vectors[int(hit.item_id[1:])] @ query, abs=1e-5) for hit in near)
        assert [hit.score for hit in near] == sorted((hit.score for hit in near), reverse=True)
        found.append(len({hit.item_id for hit in near} & {hit.item_id for hit in exact}) / 10)
    assert np.mean(found) >= 0.95


def test_filters_hold_before_the_top_is_taken_and_find_as_many_as_there_are(large: tuple[Store, np.ndarray]) -> None:
    store, vectors = large
    query = unit(np.random.default_rng(2), 1)[0]
    few = store.search_vector(query, 40, "price = 7")  # one item in a hundred, wherever its list is
    assert len(few) == N // 100 and {int(hit.item_id[1:]) % 100 for hit in few} == {7}
    assert [hit.item_id for hit in store.search_vector(query, 5, "id = 'i00042'")] == ["i00042"]


def test_new_and_changed_items_are_found_at_once_and_removed_ones_never(large: tuple[Store, np.ndarray]) -> None:
    store, vectors = large
    query = unit(np.random.default_rng(3), 1)[0]
    store.upsert(catalog(N, 1), query[None])
    assert store.search_vector(query, 1)[0].item_id == f"i{N:05d}"
    first = store.search_vector(vectors[5], 1)[0].item_id
    assert first == "i00005"
    store.upsert(catalog(5, 1), -vectors[5][None])
    assert store.search_vector(vectors[5], 1)[0].item_id != "i00005"
    store.remove([f"i{N:05d}"])
    assert store.search_vector(query, 1)[0].item_id != f"i{N:05d}"
    store.upsert(catalog(N, 100), unit(np.random.default_rng(4), 100))  # more than one in a hundred: taken in
    indexed = store._opened.read(lambda table: table.index_stats(vector_index.index_name(table)).num_unindexed_rows)
    assert indexed == 0


def test_a_small_index_has_none_and_one_that_shrinks_loses_it(large: tuple[Store, np.ndarray], tmp_path: Path) -> None:
    store, vectors = large
    small = Store.create(tmp_path / "small", "reader", D)
    small.upsert(catalog(0, N - 1), vectors[:-1])
    assert name(small) is None
    store.remove([f"i{n:05d}" for n in range(N // 2 + 1)])
    assert name(store) is None
    left = store.search_vector(vectors[-1], 3)
    assert left[0].item_id == f"i{N - 1:05d}" and left[0].score == pytest.approx(1.0, abs=1e-5)


def test_lists_are_made_anew_when_the_items_have_doubled(large: tuple[Store, np.ndarray]) -> None:
    store, _ = large
    assert vector_index._trained(store.path) == N
    store.upsert(catalog(N, N + 1), unit(np.random.default_rng(5), N + 1))
    assert vector_index._trained(store.path) == 2 * N + 1


@pytest.mark.parametrize(("kind", "engine"), [("ivf_pq", "IvfPq"), ("ivf_hnsw_sq", "IvfHnswSq"), ("exact", None)])
def test_another_kind_is_made_when_it_is_chosen_stays_and_finds_as_much(
    large: tuple[Store, np.ndarray], kind: str, engine: str | None
) -> None:
    store, vectors = large
    assert choose_vector_index(Index.open(store.path, words_only=True), kind)
    for added in (0, N + 1):  # the second time the lists are made anew
        if added:
            store.upsert(catalog(N, added), unit(np.random.default_rng(5), added))
        types = [one.index_type for one in store._opened.read(lambda table: table.list_indices())
                 if one.columns == ["vector"]]  # fmt: skip
        assert types == ([engine] if engine else [])
    found = []
    for query in unit(np.random.default_rng(1), 20):
        near, exact = store.search_vector(query, 10), store.search_vector(query, 10, exact=True)
        found.append(len({hit.item_id for hit in near} & {hit.item_id for hit in exact}) / 10)
    assert np.mean(found) >= 0.95


def test_the_command_line_chooses_a_kind(
    large: tuple[Store, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = large
    code, _, err = called(monkeypatch, capsys, "index", "--out", store.path, "--ann", "ivf_pq")
    assert code == 0 and "vectors are searched by ivf_pq" in err and vector_index.chosen(store.path) == "ivf_pq"
    code, _, err = called(monkeypatch, capsys, "index", "--out", store.path, "--ann", "hnsw")
    assert code == 2 and "--ann hnsw: expected one of ivf_sq, ivf_pq, ivf_hnsw_sq, exact" in err
    words = Store.create(tmp_path / "words", None, None)
    code, _, err = called(monkeypatch, capsys, "index", "--out", words.path, "--ann", "ivf_pq")
    assert code == 2 and "has no vectors: it was made without an encoder" in err
