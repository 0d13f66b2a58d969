"""An index on S3 (moto): made, searched, written by one at a time, and read while it is written."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from calling import Run, called
from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.folder_lock import FolderBusy
from goodrate.retrieval import remote, remote_turn
from goodrate.retrieval.store import Store
from goodrate.retrieval.turns import writing_turn
from served_process import started

moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket of a server on this machine."""
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
                 "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true",
                 "NO_PROXY": host}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="shop")
        yield "s3://shop"
    server.stop()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Opens an address as another machine does: with a mirror of its own."""

    def opened(address: str, name: str) -> Store:
        with monkeypatch.context() as patch:
            root = tmp_path / name
            patch.setattr(remote, "_root", lambda: root)
            return Store.open(address)

    return opened


def items(count: int, price: float = 1.0) -> Catalog:
    return Catalog(
        pl.DataFrame(
            {"id": [f"i{n}" for n in range(count)], "title": [f"red lamp {n}" for n in range(count)], "price": price}
        )
    )


def test_addresses() -> None:
    assert remote.located("shop-index") == Path("shop-index")
    assert remote.address("/tmp/shop") is None
    assert remote.address(Path("/tmp/goodrate-x/s3:/shop/a/b")) == "s3://shop/a/b"
    with pytest.raises(ValueError, match="s3://shop: expected a bucket and a path"):
        remote.located(Path("s3://shop/"))


def test_the_command_line_makes_searches_and_updates_an_index_on_s3(
    bucket: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, address = tmp_path / "feed.csv", f"{bucket}/one/index"
    feed.write_text("id,title\n" + "".join(f"i{n},red lamp {n}\n" for n in range(20)))
    (tmp_path / "synonyms.txt").write_text("luminaire, lamp\n")
    code, _, err = run("index", feed, "--out", address)
    assert code == 0 and "20 added" in err, err
    code, out, err = run("search", address, "lamp 7", "--json")
    assert code == 0 and '"i7"' in out, err
    feed.write_text("id,title\ni0,blue chair\n")
    assert run("index", feed, "--out", address)[0] == 0
    assert [one.item["id"] for one in Index.open(address).search("chair").results] == ["i0"]
    code, _, err = run("search", f"{bucket}/none", "lamp")
    assert code == 2 and "s3:/shop/none: it has no store.json" in err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, _, err = run("search", f"{bucket}/elsewhere", "lamp")
    assert code == 2 and "s3://shop/elsewhere: " in err and "are read from AWS_ACCESS_KEY_ID" in err


def test_another_machine_sees_the_small_files_and_follows_an_index_that_is_made_anew(
    bucket: str, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{bucket}/two"
    store = Store.create(address, None, None, language="de")
    store.upsert(items(3), None)
    other = elsewhere(address, "reader")
    assert other.path != store.path and other.manifest == store.manifest
    assert sorted(hit.item_id for hit in other.search_text("lamp", 9)) == ["i0", "i1", "i2"]
    monkeypatch.setattr(remote, "FOLLOW_S", 0.0)
    with writing_turn(store.path):
        (store.path / "synonyms.txt").write_text("a, b\n")
    assert not other.changed() and (other.path / "synonyms.txt").read_text() == "a, b\n"
    with writing_turn(store.path):
        (store.path / "synonyms.txt").unlink()
        store.manifest.write(store.path)
    assert other.changed() and not (other.path / "synonyms.txt").exists()
    assert len(other) == 3


def test_readers_never_see_half_a_commit(bucket: str, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    monkeypatch.setattr("goodrate.retrieval.table.REMOTE_LOOK", timedelta(0))
    address = f"{bucket}/three"
    store = Store.create(address, None, None)
    store.upsert(items(10, 0.0), None)
    seen: list[list[set[float]]] = [[], []]
    ended = threading.Event()

    def read(reader: Store, mine: list[set[float]]) -> None:
        while not ended.is_set():
            mine.append({*reader.scan(["price"])["price"].to_list()})
            time.sleep(0.05)

    readers = [elsewhere(address, f"reader {n}") for n in range(2)]
    threads = [threading.Thread(target=read, args=pair) for pair in zip(readers, seen, strict=True)]
    for thread in threads:
        thread.start()
    for price in (1.0, 2.0):
        store.update(items(10, price), refresh=False)
    late = elsewhere(address, "late")
    deadline = time.monotonic() + 60  # so that both have seen the last one, however busy the machine is
    while time.monotonic() < deadline and not all({2.0} in mine for mine in seen):
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    for mine in seen:
        assert all(len(prices) == 1 for prices in mine)
        prices = [one for prices in mine for one in prices]
        assert prices == sorted(prices) and prices[-1] == 2.0
    assert {*late.scan(["price"])["price"].to_list()} == {2.0}


def test_one_writer_at_a_time_and_a_dead_ones_turn_is_taken_over(
    bucket: str, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{bucket}/four"
    store = Store.create(address, None, None)
    other = elsewhere(address, "other")
    monkeypatch.setattr(remote_turn, "LOOK_S", 0.02)
    told: list[str] = []
    with writing_turn(store.path):
        busy = pytest.raises(FolderBusy, match="s3://shop/four is being written by process")
        with busy, writing_turn(other.path, 0.05, told.append):
            pass
        with writing_turn(store.path):  # the same thread enters again
            pass
    assert len(told) == 1 and told[0].startswith("waiting up to 0.05 s: s3://shop/four is being written by process")
    with writing_turn(other.path, 0.0):  # and it was given back
        pass
    monkeypatch.setattr(remote_turn, "LEASE_S", 0.0)
    monkeypatch.setattr(remote_turn, "RENEW_S", -1.0)
    lost = pytest.raises(FolderBusy, match="this writer stood still for too long and lost its turn")
    first, taken_over = writing_turn(store.path), writing_turn(other.path, 0.0)  # its lease ended at once
    with lost, first, taken_over, writing_turn(store.path):
        pass


def test_of_writers_that_try_at_once_one_gets_the_turn(bucket: str, elsewhere: Any) -> None:
    address = f"{bucket}/five"
    Store.create(address, None, None)
    stores = [elsewhere(address, f"writer {n}") for n in range(3)]
    inside, most, failed = [0], [0], []

    def write(number: int, store: Store) -> None:
        try:
            with writing_turn(store.path, 60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                store.upsert(items(2, float(number)), None, refresh=False)
                inside[0] -= 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=pair) for pair in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, most[0], len(Store.open(address))) == ([], 1, 2)


def test_a_writer_replaces_what_another_one_has_just_written(bucket: str, elsewhere: Any) -> None:
    address = f"{bucket}/six"
    store = Store.create(address, None, None)
    other = elsewhere(address, "other")
    assert len(other) == 0  # it has looked, and will not look again for a while
    store.upsert(items(2, 1.0), None, refresh=False)
    other.upsert(items(2, 2.0), None, refresh=False)
    assert Store.open(address).all_items().frame["price"].to_list() == [2.0, 2.0]


def test_a_server_of_an_index_on_s3_answers_and_sees_what_a_writer_commits(bucket: str) -> None:
    address = f"{bucket}/served/index"
    Index.create(address, items(3))
    url, process = started("serve", address)
    try:
        assert process.poll() is None

        def found(query: str) -> dict[str, float]:
            with urllib.request.urlopen(f"{url}/search?query={query}", timeout=60) as answer:
                return {one["item_id"]: one["item"]["price"] for one in json.load(answer)["results"]}

        assert found("lamp") == {"i0": 1.0, "i1": 1.0, "i2": 1.0}
        writer = Index.open(address)
        writer.add(items(4, price=2.5))
        writer.add(pl.DataFrame({"id": ["new"], "title": ["blue kettle"], "price": [9.0]}))
        deadline = time.monotonic() + 60
        while found("kettle") != {"new": 9.0}:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found("lamp") == {f"i{n}": 2.5 for n in range(4)}
        with urllib.request.urlopen(f"{url}/healthz", timeout=60) as answer:
            assert json.load(answer)["items"] == 5
    finally:
        process.terminate()
        process.wait(60)
