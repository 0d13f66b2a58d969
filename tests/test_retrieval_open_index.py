"""An index that is open while another process writes to it, cleans it, removes it or makes it anew."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.retrieval.opened import IndexReplaced
from goodrate.retrieval.store import Store

ONE = np.ones(2, dtype=np.float32)


def made(path: Path, word: str, count: int = 3, fingerprint: str = "print", dimension: int = 2) -> Store:
    """An index of items w0, w1, ... titled "w lamp"."""
    store = Store.create(path, fingerprint, dimension)
    add(store, word, count)
    return store


def add(store: Store, word: str, count: int = 3) -> None:
    ids = [f"{word}{number}" for number in range(count)]
    vectors = np.ones((count, store.dimension or 0), dtype=np.float32)
    store.upsert(Catalog(pl.DataFrame({"id": ids, "title": [f"{word} lamp"] * count})), vectors)


def found(store: Store) -> list[str]:
    """What words, vectors and the list of all items agree on."""
    by_words = [hit.item_id for hit in store.search_text("lamp", 99)]
    assert sorted(by_words) == [hit.item_id for hit in store.search_vector(ONE, 99)] == store.all_items().ids
    return by_words


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_reader_survives_that_old_versions_are_deleted(tmp_path: Path) -> None:
    made(tmp_path / "s", "oak")
    reader, old = Store.open(tmp_path / "s"), Store.open(tmp_path / "s", version=Store.open(tmp_path / "s").version)
    assert found(reader) == found(old) == ["oak0", "oak1", "oak2"]
    writer = Store.open(tmp_path / "s")
    add(writer, "elm", 1)
    writer._opened._table().optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    assert found(reader) == ["elm0", "oak0", "oak1", "oak2"] and not reader.changed()
    with pytest.raises(ValueError, match=rf"version \d+ of {tmp_path}/s is gone: the index was made anew or cleaned"):
        found(old)


def test_a_reader_goes_on_with_an_index_that_is_made_anew(tmp_path: Path) -> None:
    made(tmp_path / "s", "oak")
    reader = Store.open(tmp_path / "s")
    assert found(reader) == ["oak0", "oak1", "oak2"]
    for word in ("elm", "fir"):  # the same number of items and of versions each time
        shutil.rmtree(tmp_path / "s")
        assert not reader.changed()  # there is nothing to change to
        for use in (found, len, Store.all_items, lambda store: store.remove(["oak0"])):
            with pytest.raises(FileNotFoundError, match="no index in .*/s: it has no store.json"):
                use(reader)
        assert not (tmp_path / "s").exists()
        made(tmp_path / "s", word)
        assert reader.changed()
        assert found(reader) == [f"{word}0", f"{word}1", f"{word}2"] and not reader.changed()
    assert reader.remove(["fir1"]) == 1


@pytest.mark.parametrize(("fingerprint", "dimension"), [("other", 2), ("print", 3)])
def test_an_index_of_another_encoder_is_told_and_not_searched(tmp_path: Path, fingerprint: str, dimension: int) -> None:
    made(tmp_path / "s", "oak")
    reader = Store.open(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    made(tmp_path / "s", "elm", 3, fingerprint, dimension)
    assert reader.changed()
    for use in (found, len, Store.reload, lambda store: store.remove(["elm0"])):
        with pytest.raises(IndexReplaced, match="holds another index, made with another encoder; open it anew"):
            use(reader)
    assert len(Store.open(tmp_path / "s")) == 3


def test_a_manifest_that_was_copied_or_touched_is_no_other_index(tmp_path: Path) -> None:
    made(tmp_path / "s", "oak")
    reader, manifest = Store.open(tmp_path / "s"), tmp_path / "s" / "store.json"
    shutil.copy2(manifest, tmp_path / "copy")
    os.replace(tmp_path / "copy", manifest)
    os.utime(manifest, (1, 1))
    assert not reader.changed() and found(reader) == ["oak0", "oak1", "oak2"]
    reader.reload()
    assert found(reader) == ["oak0", "oak1", "oak2"]


def test_an_old_version_is_for_reading_only(tmp_path: Path) -> None:
    store = made(tmp_path / "s", "oak")
    old = Store.open(tmp_path / "s", version=store.version)
    with pytest.raises(ValueError, match=rf"was opened at version {store.version}, which is for reading only"):
        old.remove(["oak0"])
    assert len(store) == 3
