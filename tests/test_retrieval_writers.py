"""Several programs that write into one index, and programs that are killed while they do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate import cli
from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.folder_lock import LOCK_FILE, FolderBusy, one_writer
from goodrate.retrieval.indexing import index_catalog
from goodrate.retrieval.store import Store
from goodrate.retrieval.table import IndexDamaged
from goodrate.retrieval.turns import writing_turn

# goodrate index CATALOG --out INDEX, with parts of 10 rows so that a run has many commits to be killed between.
RUN = """
import sys
import goodrate.retrieval.indexing as indexing
indexing.WRITE_ROWS = 10
sys.argv = ["goodrate", "index", *sys.argv[1:]]
from goodrate import cli
cli.main()
"""


def feed(path: Path, first: int, count: int = 100, title: str = "lamp") -> Path:
    rows = (f"i{n:03d},{title} {n},{'Red' if n % 2 else 'blue'}\n" for n in range(first, first + count))
    path.write_text("id,title,colour\n" + "".join(rows))
    return path


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and messages, wrapping undone."""
    _, err = process.communicate(timeout=120)
    return process.returncode, " ".join(err.split())


def here(*arguments: object) -> int:
    """The exit code of goodrate index in this process, where everything is imported already."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as done:
        patch.setattr("sys.argv", ["goodrate", "index", *map(str, arguments)])
        cli.main()
        sys.exit(0)
    return int(done.value.code or 0)


def expect(index: Path, first: int, count: int) -> None:
    """The index holds exactly these items, each once; words, filters and facets find all of them."""
    store = Store.open(index)
    ids = [f"i{n:03d}" for n in range(first, first + count)]
    assert sorted(store.scan(["id"])["id"].to_list()) == ids
    assert sorted(hit.item_id for hit in store.search_text("lamp", 999)) == ids
    red = [f"i{n:03d}" for n in range(first, first + count) if n % 2]
    assert sorted(hit.item_id for hit in store.search_text("lamp", 999, "attributes.colour = 'red'")) == red
    terms = store.facets.table().field("attributes.colour")
    assert terms is not None and terms.values.to_list() == ["blue", "red"]
    assert terms.counts.tolist() == [count - len(red), len(red)]


def test_two_runs_at_once_into_a_new_folder_and_into_one_that_is_there(tmp_path: Path) -> None:
    index = tmp_path / "index"
    for first in (0, 200):  # the catalogues overlap in 50 items
        one, two = feed(tmp_path / "one.csv", first), feed(tmp_path / "two.csv", first + 50)
        results = [ended(run) for run in [started(feed, "--out", index) for feed in (one, two)]]
        assert [code for code, _ in results] == [0, 0], results
        if first == 0:
            expect(index, 0, 150)
    store = Store.open(index)
    assert len(store) == len(store.stored_hashes()) == 300
    assert not list(index.glob(".*.json"))  # the last writer signed off


def test_a_run_waits_for_another_writer_says_so_and_can_be_told_not_to(tmp_path: Path) -> None:
    index, catalog = tmp_path / "index", feed(tmp_path / "feed.csv", 0)
    with one_writer(index):
        waiting = started(catalog, "--out", index)
        assert waiting.stderr is not None
        said = ""
        while "waiting up to 600 s: " not in said:
            said += waiting.stderr.read(1)
        time.sleep(0.3)
        assert waiting.poll() is None
        assert not (index / "store.json").exists()
    assert ended(waiting)[0] == 0
    expect(index, 0, 100)
    with one_writer(index):
        code, err = ended(started("--out", index, "--remove", "i000", "--wait", 0.1))
        assert code == 2 and "index is being written by process" in err
        assert len(Store.open(index).search_text("lamp", 5)) == 5  # readers do not wait
    assert here("--out", index, "--remove", "i000") == 0


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_after_a_kill_at_any_moment_the_same_command_succeeds(tmp_path: Path, moment: float) -> None:
    index, catalog = tmp_path / "index", feed(tmp_path / "feed.csv", 0)
    run = started(catalog, "--out", index)
    while not (index / LOCK_FILE).exists() and run.poll() is None:
        time.sleep(0.002)
    time.sleep(moment)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert here(catalog, "--out", index) == 0
    expect(index, 0, 100)


@pytest.mark.parametrize("left", ["lock", "table", "half a table", "manifest beside", "all"])
def test_what_a_killed_making_left_does_not_lock_the_folder(tmp_path: Path, left: str) -> None:
    index = tmp_path / "index"
    index.mkdir()
    if left in ("lock", "all"):
        (index / LOCK_FILE).touch()
        (index / ".writer.json").write_text('{"pid": 1}')
    if left in ("table", "all"):
        Store.create(tmp_path / "other", None, None)
        (tmp_path / "other" / "items.lance").rename(index / "items.lance")
    if left == "half a table":
        (index / "items.lance" / "_versions").mkdir(parents=True)
        (index / "items.lance" / "_versions" / "1.manifest").write_bytes(b"half")
    if left in ("manifest beside", "all"):
        (index / ".store.json.k3x9").write_text('{"format"')
    made = Index.create(index, Catalog(pl.DataFrame({"id": ["a"], "title": ["lamp"]})))
    assert [result.item["id"] for result in made.search("lamp")] == ["a"]
    assert not list(index.glob(".store.json.*"))


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ValueError, match="is not empty and holds no index"):
        Index.create(tmp_path, Catalog(pl.DataFrame({"id": ["a"], "title": ["lamp"]})))
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]


def doubled_store(path: Path) -> Store:
    """An index in which a and b have two rows, as two writers at once left it."""
    items = Catalog(pl.DataFrame({"id": ["a", "b", "c"], "title": ["old lamp", "oak lamp", "red lamp"]}))
    store = Store.create(path, "print", 2)
    store.upsert(items, np.ones((3, 2), dtype=np.float32))
    table = store._opened._table()
    again = table.search().where("id != 'c'").to_arrow()
    titles = again.column("title").to_pylist()
    new = [title.replace("old", "new") for title in titles]
    table.add(again.set_column(again.schema.get_field_index("title"), "title", [new]))
    return store


def test_doubled_items_are_told_by_readers_and_mended_by_a_writer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = doubled_store(tmp_path / "s")
    assert len(store) == 5
    readers = [
        lambda: store.search_text("lamp", 9), lambda: store.search_vector(np.ones(2), 9), lambda: store.items(["a"]),
        store.all_items, store.vectors, store.stored_hashes,
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(IndexDamaged, match=r"holds item '[ab]' more than once: .* any goodrate index --out "):
            read()
    assert here("--out", tmp_path / "s", "--remove", "c") == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "2 rows of items that were there more than once are gone" in err and "2 items left" in err
    assert store.items(["a", "b"])["title"].to_list() == ["new lamp", "oak lamp"]  # the last written
    assert [hit.item_id for hit in store.search_text("lamp", 9)] == ["a", "b"] and store.mend() == 0


def test_the_library_takes_turns_too(tmp_path: Path) -> None:
    items = Catalog(pl.DataFrame({"id": ["a"], "title": ["lamp"]}))
    store = Store.create(tmp_path / "s", None, None)
    told: list[str] = []
    hold = "from goodrate.folder_lock import one_writer as w\nwith w('s'): print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdin is not None and other.stdout.readline()
    with pytest.raises(FolderBusy), writing_turn(tmp_path / "s", 0.1, told.append):
        pytest.fail("two writers")
    assert [line.split(" on ")[0] for line in told] == [
        f"waiting up to 0.1 s: {tmp_path}/s is being written by process {other.pid}"
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goodrate.retrieval.turns.writing_turn.__wrapped__.__defaults__", (0.1, None))
        for write in (lambda: store.upsert(items, None), lambda: store.remove(["a"]), store.refresh, store.mend,
                      lambda: index_catalog(store, items, None)):  # fmt: skip
            with pytest.raises(FolderBusy, match=f"is being written by process {other.pid}"):
                write()
    assert len(store) == 0
    other.communicate("\n")
    with writing_turn(tmp_path / "s"):  # entered again by the same thread
        index_catalog(store, items, None)
    assert store.all_items().ids == ["a"]
