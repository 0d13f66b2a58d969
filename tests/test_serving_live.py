"""A server whose index, facts and verdict file change while it runs."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient

from goodrate.api.index import Index
from goodrate.api.serving import live
from goodrate.catalog.items import Catalog
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.store import Store
from goodrate.serving import kept_verdicts
from goodrate.serving.http import create_app
from goodrate.serving.kept_verdicts import ServingVerdictStore
from goodrate.serving.live import LivePipeline
from serving_shop import CATALOGUE, FakeJudge, fake_judge, fake_pipeline


def filled(path: Path, titles: dict[str, str]) -> Store:
    store = Store.create(path, None, None)
    store.upsert(Catalog(pl.DataFrame({"id": list(titles), "title": list(titles.values())})), None)
    return store


def titles(client: TestClient) -> dict[str, str]:
    answer = client.get("/search", params={"query": "lamp"})
    assert answer.status_code == 200, answer.json()
    return {result["item_id"]: result["item"]["title"] for result in answer.json()["results"]}


def test_a_server_sees_what_becomes_of_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.serving.live.REST", 0.0)
    folder = tmp_path / "index"
    filled(folder, {"a": "red lamp", "b": "blue lamp"})
    client = TestClient(create_app(live(Index.open(folder))), raise_server_exceptions=False)
    assert titles(client) == {"a": "red lamp", "b": "blue lamp"}
    other = Store.open(folder)
    other.upsert(Catalog(pl.DataFrame({"id": ["a", "c"], "title": ["old lamp", "new lamp"]})), None)
    other.remove(["b"])
    assert titles(client) == {"a": "old lamp", "c": "new lamp"} and client.get("/healthz").json()["items"] == 2
    shutil.rmtree(folder)
    for path in ("/healthz", "/search?query=lamp"):
        gone = client.get(path)
        assert gone.status_code == 503 and "no index in" in gone.json()["message"]
    filled(folder, {"x": "third lamp"})
    assert titles(client) == {"x": "third lamp"} and client.get("/healthz").json()["items"] == 1
    shutil.rmtree(folder)
    Store.create(folder, "another encoder", 2)
    for path in ("/healthz", "/search?query=lamp"):
        replaced = client.get(path)
        assert replaced.status_code == 503
        assert "holds an index of another encoder; start goodrate serve anew" in replaced.json()["message"]


class Told(FakeJudge):
    """A judge that keeps what it is told of queries."""

    def __init__(self) -> None:
        self.facts: list[str] = []

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        self.facts.append(pairs[0].facts)
        return super().assess(pairs)


def write_facts(path: Path, fact: str) -> None:
    path.write_text(json.dumps({"name": "lamp", "fact": fact}) + "\n")


def test_new_facts_are_told_and_broken_ones_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.serving.live.REST", 0.0)
    folder, facts = tmp_path / "index", tmp_path / "index" / "facts.jsonl"
    filled(folder, {"a": "red lamp"})
    write_facts(facts, "lamp : gives light")
    judge = Told()
    opened = Index.open(folder).rerank(CalibratedJudge(judge))

    def noted(of: Index, judge: CalibratedJudge) -> CalibratedJudge:
        return judge.with_notes(of.notes(judge))

    client = TestClient(create_app(live(opened, noted, [facts])), raise_server_exceptions=False)
    titles(client)
    write_facts(facts, "lamp : needs a bulb")
    titles(client)
    titles(client)
    assert judge.facts == ["lamp : gives light", "lamp : needs a bulb", "lamp : needs a bulb"]
    facts.write_text("{}\n")
    refused = client.get("/search", params={"query": "lamp"})
    assert refused.status_code == 503 and "facts.jsonl, row 1" in refused.json()["message"]
    facts.unlink()
    titles(client)
    assert judge.facts[-1] == ""


def test_many_requests_make_a_changed_pipeline_once_and_rest(tmp_path: Path) -> None:
    first, made = fake_pipeline(), []
    (tmp_path / "file").write_text("1")

    def reopen():
        made.append(fake_pipeline())
        return made[-1]

    served = LivePipeline(first, reopen, [tmp_path / "file"])
    assert served.current() is first
    (tmp_path / "file").write_text("22")
    threads = [threading.Thread(target=served.current) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and served.current() is made[0] and made[0].desk is first.desk
    served._not_before = float("inf")  # it took long: what was made is used for a while
    (tmp_path / "file").write_text("333")
    assert served.current() is made[0]


GOOD = Verdict("excellent", (0.0, 0.0, 0.0, 1.0), 1.0)


def damage_full(store: VerdictStore, path: Path) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")  # SQLite calls that a full disk
    store._connection.execute("PRAGMA cache_size=0")


def damage_read_only(store: VerdictStore, path: Path) -> None:
    store._connection.execute("PRAGMA query_only=1")


def damage_locked(store: VerdictStore, path: Path) -> None:
    holder = sqlite3.connect(path, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    store.holder = holder


def damage_gone(store: VerdictStore, path: Path) -> None:
    store._connection.execute("DROP TABLE verdicts")


@pytest.mark.parametrize("damage", [damage_full, damage_read_only, damage_locked, damage_gone])
def test_a_search_is_answered_when_its_verdicts_cannot_be_stored(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_verdicts, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(kept_verdicts, "REST_SECONDS", 0.0)
    store = ServingVerdictStore(tmp_path / "v.sqlite")
    many = {f"{number}" * 64: GOOD for number in range(30)}
    store.put_many(many)
    client = TestClient(create_app(fake_pipeline(fake_judge().with_notes(None, store))))
    damage(store, tmp_path / "v.sqlite")
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            answer = client.get("/search", params={"query": f"shoes {number}"}).json()
            assert (answer["judged"], answer["cached"]) == (4, 0)
    assert client.get("/healthz").json()["verdicts_not_stored"] >= 20
    told = [record.message for record in caplog.records if "v.sqlite" in record.message]
    assert len(told) == 1 and "searches are answered and verdicts are lost" in told[0]


def test_a_store_that_can_be_written_again_is_and_rests_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ServingVerdictStore(tmp_path / "v.sqlite")
    store._connection.execute("PRAGMA query_only=1")
    store.put_many({"a": GOOD})
    store._connection.execute("PRAGMA query_only=0")
    store.put_many({"b": GOOD})  # not tried: the failure was a moment ago
    assert store.not_stored == 2 and store.get_many(["a", "b"]) == {}
    monkeypatch.setattr(store, "_not_before", 0.0)
    store.put_many({"c": GOOD})
    assert store.not_stored == 2 and set(store.get_many(["a", "b", "c"])) == {"c"}


def test_an_index_of_the_shop_is_served_with_its_verdicts(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", None, None)
    store.upsert(Catalog(CATALOGUE), None)
    opened = Index.open(tmp_path / "index").rerank(fake_judge(tmp_path / "v.sqlite"))
    client = TestClient(create_app(live(opened)))
    asked = {"query": "running", "where": "brand ILIKE 'zorvo'"}
    assert [client.get("/search", params=asked).json()["cached"] for _ in range(2)] == [0, 2]
