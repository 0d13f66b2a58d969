"""The click ranker on a stream: what it learns, resumes, follows into a running server, and refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.api.index import Index
from goodrate.api.serving import live
from goodrate.catalog.items import Catalog
from goodrate.ranking.ranker import Ranker
from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.judge import CalibratedJudge
from test_recipes_click_ranker import COUNT, FAST, ITEMS, QUERIES, all_good, impressions, utilities

STREAM = {name: value for name, value in FAST.items() if name != "epochs"} | {"stream": True}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream") / "index"
    Index.create(folder, Catalog(ITEMS))
    return folder


def write(folder: Path, name: str, frame: pl.DataFrame) -> None:
    """A file under a name that is passed over until it is whole."""
    folder.mkdir(exist_ok=True)
    frame.sample(fraction=1, shuffle=True, seed=3).write_parquet(folder / f".{name}", row_group_size=500)
    (folder / f".{name}").rename(folder / name)


def trained(index: Path, events: Path, out: Path, **settings: Any) -> Path:
    return gr.train("click_ranker", out=out, events=events, index=index, **{**STREAM, **settings})


def test_a_stream_is_learned_once_and_goes_on_with_what_is_added(index: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    write(events, "a.parquet", impressions("i07", 1, pages=15))
    folder = trained(index, events, tmp_path / "run")
    told = utilities(folder)
    assert max(told, key=told.__getitem__) == "i07"
    rows = len(QUERIES) * 15 * COUNT
    assert Ranker.open(folder).card.trained["impressions"] == rows
    dev = json.loads((tmp_path / "run" / "dev.json").read_text())
    assert dev["ranker"]["pairs"] == 15 * COUNT and dev["constant"]["auc"] == 0.5  # one query is kept aside
    updates = json.loads((tmp_path / "run" / "result.json").read_text())["updates"]
    assert updates == -(-rows // 64)
    write(events, "b.parquet", impressions("late", 2, pages=15, extra="late"))  # an id that nobody knew
    trained(index, events, tmp_path / "run")
    more = len(QUERIES) * 15 * (COUNT + 1)
    card = Ranker.open(folder).card
    assert card.trained == {"impressions": rows + more, "updates": updates + -(-more // 64), "events": str(events)}
    items = [*Catalog(ITEMS).to_rows(), {"id": "late", "title": "lamp"}]
    scores = Ranker.open(folder).utilities("red lamp", items, [None] * len(items), [])
    assert scores.argmax() == COUNT


def test_a_stopped_run_ends_as_one_that_was_not(index: Path, tmp_path: Path) -> None:
    write(tmp_path / "events", "a.parquet", impressions("i07", 1, pages=5))
    whole = utilities(trained(index, tmp_path / "events", tmp_path / "whole", lanes=2))

    class Stop(Exception):
        pass

    def progress(record: dict[str, Any]) -> None:
        if record.get("update") == 3:
            raise Stop

    often = {"schedule": "constant", "warmup": 0.0, "precision": "fp32", "checkpoint_updates": 2}
    for told in (progress, None):
        try:
            more = {"progress": told} if told else {}
            folder = trained(index, tmp_path / "events", tmp_path / "cut", lanes=2, fit=often, **more)
        except Stop:
            assert not (tmp_path / "cut" / "ranker").exists()
    assert utilities(folder) == whole


def test_a_running_server_takes_what_a_growing_stream_taught(tmp_path: Path) -> None:
    judge = CalibratedJudge(FunctionJudge(all_good, "binary", "1"))
    Index.create(tmp_path / "index", Catalog(ITEMS))
    events = tmp_path / "events"
    write(events, "a.parquet", impressions("i07", 1, pages=15))
    folder = trained(tmp_path / "index", events, tmp_path / "run")
    client = TestClient(create(Index.open(tmp_path / "index").rerank(judge).with_ranker(folder)))

    def found() -> list[str]:
        return [r["item_id"] for r in client.get("/search", params={"query": "lamp", "k": 20}).json()["results"]]

    assert found()[0] == "i07"
    new = pl.DataFrame({**{name: [ITEMS[name][0]] for name in ITEMS.columns}, "id": ["new"], "title": ["lamp of late"]})
    Index.open(tmp_path / "index").add(Catalog(new))
    threading.Timer(0.3, lambda: write(events, "b.parquet", impressions("new", 2, pages=15, extra="new"))).start()
    gr.train(
        "click_ranker", out=tmp_path / "follow", events=events, index=tmp_path / "index",
        **STREAM, follow=True, follow_seconds=2.5, poll_seconds=0.1,
    )  # fmt: skip
    (tmp_path / "run" / "ranker").rename(tmp_path / "run" / "old")
    (tmp_path / "follow" / "ranker").rename(folder)
    assert found()[0] == "new"
    assert client.get("/ranker").json()["trained"]["impressions"] == len(QUERIES) * 15 * (2 * COUNT + 1)


def create(served: Any) -> Any:
    from goodrate.serving.http import create_app

    return create_app(live(served))


def test_what_is_no_impression_is_named_and_all_before_it_is_learned(index: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    write(events, "a.parquet", impressions("i07", 1, pages=4))
    pl.DataFrame({"query": ["lamp", " "], "item_id": [1, 2], "position": [1, 2], "clicked": [0, 1]}).write_parquet(
        events / "b.parquet"
    )
    with pytest.raises(ValueError, match=r"b\.parquet, row group 0, row 2, column query: expected a text"):
        trained(index, events, tmp_path / "run", dev_share=0.0)
    pl.DataFrame({"query": ["lamp"], "item_id": ["a"], "position": [1.5], "clicked": [0]}).write_parquet(
        events / "b.parquet"
    )
    with pytest.raises(ValueError, match=r"row 1, column position: expected a whole number from 1, found 1\.5"):
        trained(index, events, tmp_path / "again", dev_share=0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 2}, "a stream is read once"),
        ({"skip_bad": 3}, "goodrate events leaves bad rows out"),
        ({"stream": False, "lanes": 2}, "of a stream alone"),
        ({"events": "log.csv"}, r"goodrate events log\.csv --out"),
        ({"events": "gone"}, "no such event file or folder"),
        ({"events_map": {"query": "words"}}, "has no column 'words'"),
    ],
)  # fmt: skip
def test_what_is_no_stream_is_refused(index: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path / "events", "a.parquet", impressions("i07", 1, pages=1))
    (tmp_path / "log.csv").write_text("query,item_id,position,clicked\n")
    told = {**STREAM, **changed}
    events = tmp_path / told.pop("events", "events")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        gr.train("click_ranker", out=tmp_path / "run", events=events, index=index, **told)
    assert not (tmp_path / "run" / "ranker").exists()
