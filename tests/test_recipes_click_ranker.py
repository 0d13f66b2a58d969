"""The recipe click_ranker: what it learns, how it goes on, and how a server follows what it writes."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.api.index import Index
from goodrate.api.serving import live
from goodrate.catalog.impressions import Impressions
from goodrate.catalog.items import Catalog
from goodrate.cli.train import command
from goodrate.ranking.ranker import CARD, Ranker
from goodrate.ranking.ranker_features import FeatureSet
from goodrate.recipes.click_features import PairReader
from goodrate.recipes.click_ranker import Settings, run
from goodrate.recipes.click_report import within_places
from goodrate.recipes.click_source import ClickSource, Reading, is_dev
from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.human_judge import write_human_judge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.serving.http import create_app

COUNT = 12
ITEMS = pl.DataFrame(
    {
        "id": [f"i{n:02d}" for n in range(COUNT)],
        "title": [f"lamp number {n}" for n in range(COUNT)],
        "brand": ["Zorvo", "Brumm"] * (COUNT // 2),
        "category": ["Lamps"] * COUNT,
        "price": [10.0 + n for n in range(COUNT)],
        "rating": [4.0] * COUNT,
    }
)
QUERIES = [f"{word} lamp" for word in ("red", "blue", "small", "large", "old", "new", "tall", "flat")]
FAST = {"epochs": 2, "batch_size": 64, "dim": 2, "hidden": [4], "dev_share": 0.25}


def impressions(liked: str, seed: int, pages: int = 20, extra: str | None = None) -> pl.DataFrame:
    """Pages of all items in random order; the place r is looked at with chance 1 / r, one item is always clicked then,
    and the others seldom.
    """
    rng = np.random.default_rng(seed)
    ids = [*ITEMS["id"].to_list(), *([extra] if extra else [])]
    rows = []
    for query in QUERIES:
        for _ in range(pages):
            for place, item in enumerate(rng.permutation(ids), start=1):
                chance = (0.95 if item == liked else 0.1) / place
                rows.append((query, str(item), place, bool(rng.random() < chance)))
    return pl.DataFrame(rows, schema=["query", "item_id", "position", "clicked"], orient="row")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clicks") / "index"
    Index.create(folder, Catalog(ITEMS))
    return folder


def trained(index: Path, events: Path, out: Path, **settings: Any) -> Path:
    return gr.train("click_ranker", out=out, events=events, index=index, **{**FAST, **settings})


def utilities(folder: Path) -> dict[str, float]:
    ranker = Ranker.open(folder)
    items = Catalog(ITEMS).to_rows()
    scores = ranker.utilities("red lamp", items, [None] * COUNT, [])
    return dict(zip(ITEMS["id"], scores.tolist(), strict=True))


@pytest.mark.parametrize("correction", ["naive", "ipw", "position_tower", "examination"])
def test_what_is_clicked_once_seen_is_ranked_first(index: Path, tmp_path: Path, correction: str) -> None:
    impressions("i07", 1).write_parquet(tmp_path / "log.parquet")
    settings = {"correction": correction, "table_optimizer": "adam", "table_rate": 0.05}
    folder = trained(index, tmp_path / "log.parquet", tmp_path / "run", **settings)
    told = utilities(folder)
    assert max(told, key=told.__getitem__) == "i07"
    dev = json.loads((tmp_path / "run" / "dev.json").read_text())
    assert dev["ranker"]["auc"] > 0.6 and dev["constant"]["auc"] == 0.5
    card = Ranker.open(folder).card
    assert card.correction == correction and card.trained["impressions"] == len(QUERIES) * 20 * COUNT


def test_user_behaviour_insights_are_learned_from(index: Path, tmp_path: Path) -> None:
    rows = []
    for number, query in enumerate(QUERIES):
        common = {"query_id": f"q{number}", "timestamp": f"2026-03-01T10:{number:02d}:00Z"}
        rows.append({**common, "user_query": query, "query_response_hit_ids": ITEMS["id"].to_list()})
        clicked = {"object": {"object_id": "i07"}, "position": {"ordinal": 8}}
        rows.append({**common, "action_name": "click", "event_attributes": clicked})
    (tmp_path / "ubi.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = trained(index, tmp_path / "ubi.jsonl", tmp_path / "run", table_optimizer="adam", table_rate=0.05)
    told = utilities(folder)
    assert Ranker.open(folder).card.trained["impressions"] == len(QUERIES) * COUNT
    assert max(told, key=told.__getitem__) == "i07"


def test_ranks_by_position_alone_are_worth_nothing() -> None:
    clicked, position = np.asarray([True, False, False, True]), np.asarray([1, 1, 2, 2])
    assert within_places(-position.astype(float), clicked, position) == 0.5
    # at place 1 the clicked one has the higher score, at place 2 the lower: one of two pairs
    assert within_places(np.asarray([2.0, 1.0, 2.0, 1.0]), clicked, position) == 0.5


def test_a_judge_is_read_and_known_by_its_labels(index: Path, tmp_path: Path) -> None:
    impressions("i07", 1, pages=10).write_csv(tmp_path / "log.csv")
    pairs = [(f"q{n}", query, item, "1" if item == "i03" else "0") for n, query in enumerate(QUERIES)
             for item in ITEMS["id"]]  # fmt: skip
    labels = pl.DataFrame(pairs, schema=["query_id", "query", "item_id", "label"], orient="row")
    write_human_judge(tmp_path / "judge", gr.read_judgements(labels, scale="binary"))
    folder = trained(index, tmp_path / "log.csv", tmp_path / "run", judge=str(tmp_path / "judge"))
    features = Ranker.open(folder).features
    assert len(features.labels) == 2 and "gain" in features.dense
    assert json.loads((tmp_path / "run" / "dev.json").read_text())["gain"]["pairs"] > 0
    served = Index.open(index).rerank(gr.open_judge(tmp_path / "judge")).with_ranker(folder).search("red lamp")
    assert served[0].item["id"] == "i03" and all(result.utility is not None for result in served)
    with pytest.raises(ValueError, match="reads what a judge says"):
        Index.open(index).with_ranker(folder, across_tiers=True).search("red lamp")


def test_the_same_run_again_changes_nothing_and_other_settings_are_refused(index: Path, tmp_path: Path) -> None:
    impressions("i07", 1, pages=4).write_csv(tmp_path / "log.csv")
    first = utilities(trained(index, tmp_path / "log.csv", tmp_path / "run"))
    assert utilities(trained(index, tmp_path / "log.csv", tmp_path / "run")) == first
    assert utilities(trained(index, tmp_path / "log.csv", tmp_path / "other")) == first
    with pytest.raises(ValueError, match=r"holds another run \(sparse"):
        trained(index, tmp_path / "log.csv", tmp_path / "run", sparse=["item"])


def test_a_stopped_run_ends_as_one_that_was_not(index: Path, tmp_path: Path) -> None:
    impressions("i07", 1, pages=6).write_parquet(tmp_path / "log.parquet")
    whole = utilities(trained(index, tmp_path / "log.parquet", tmp_path / "whole"))

    class Stop(Exception):
        pass

    def progress(record: dict[str, Any]) -> None:
        if record.get("update") == 7:
            raise Stop

    often = {"schedule": "constant", "warmup": 0.0, "precision": "fp32", "checkpoint_updates": 2}
    with pytest.raises(Stop):
        trained(index, tmp_path / "log.parquet", tmp_path / "cut", progress=progress, fit=often)
    assert not (tmp_path / "cut" / "ranker").exists()
    assert utilities(trained(index, tmp_path / "log.parquet", tmp_path / "cut", fit=often)) == whole


def all_good(query: str, items: Any) -> list[list[float]]:
    return [[0.1, 0.9]] * len(items)


def test_a_new_item_rises_in_a_running_server(tmp_path: Path) -> None:
    """Its id is in no table at first; after clicks on it, the folder is written anew and the server takes it."""
    judge = CalibratedJudge(FunctionJudge(all_good, "binary", "1"))
    Index.create(tmp_path / "index", Catalog(ITEMS))
    log = tmp_path / "log.csv"
    impressions("i07", 1).write_csv(log)
    settings = {"table_optimizer": "adam", "table_rate": 0.05}
    folder = trained(tmp_path / "index", log, tmp_path / "run", **settings)
    served = Index.open(tmp_path / "index").rerank(judge).with_ranker(folder)
    client = TestClient(create_app(live(served)))

    def found() -> list[str]:
        return [r["item_id"] for r in client.get("/search", params={"query": "lamp", "k": 20}).json()["results"]]

    assert found()[0] == "i07"
    new = pl.DataFrame({**{name: [ITEMS[name][0]] for name in ITEMS.columns}, "id": ["new"], "title": ["lamp of late"]})
    Index.open(tmp_path / "index").add(Catalog(new))
    assert "new" in found() and found()[0] == "i07"
    pl.concat([pl.read_csv(log), impressions("new", 2, extra="new")]).write_csv(log)
    trained(tmp_path / "index", log, tmp_path / "run", **settings)
    assert found()[0] == "new" and len(found()) == COUNT + 1
    assert client.get("/ranker").json()["trained"]["impressions"] == len(QUERIES) * 20 * (2 * COUNT + 1)


def test_following_a_log_writes_a_new_ranker_when_it_grows(index: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    first, more = impressions("i07", 1, pages=4), impressions("i02", 2, pages=4)
    first.write_csv(log)
    whole, half = log.read_text(), threading.Event()
    seen: list[int] = []

    def progress(record: dict[str, Any]) -> None:
        seen.append(int(record.get("update", 0)))
        if not half.is_set():  # what is appended ends in the middle of a row, and is made whole a moment later
            half.set()
            rest = more.write_csv(include_header=False)
            log.write_text(whole + rest[:-4])
            threading.Timer(0.6, lambda: log.write_text(whole + rest)).start()

    settings = Settings(events=str(log), index=str(index), follow=True, follow_seconds=4.0, poll_seconds=0.2, **FAST)
    result = run(settings, None, tmp_path / "run", progress)
    told = Ranker.open(result.folder).card.trained
    assert told["impressions"] == 2 * len(first)
    kept = {query for query, dev in zip(QUERIES, _dev(QUERIES), strict=True) if not dev}
    # each part in batches of 64, twice
    assert told["updates"] == max(seen) == 2 * 2 * -(-(4 * COUNT * len(kept)) // 64)


def _dev(queries: list[str]) -> list[bool]:
    frame = pl.DataFrame({"query": queries, "item_id": "a", "position": 1, "clicked": False})
    return is_dev(log_features(frame), FAST["dev_share"]).tolist()


def log_features(frame: pl.DataFrame, features: FeatureSet | None = None) -> Any:
    """Features of impressions, without an index behind them."""
    from goodrate.ranking.ranker_features import query_ids, unknown_items
    from goodrate.recipes.click_features import LogFeatures, Pairs, pair_keys

    log, chosen = Impressions.of(frame), features or FeatureSet(channels=())
    keys = np.unique(pair_keys(log))
    pairs = Pairs(keys, np.full((len(keys), len(chosen.of_pairs)), np.nan))
    known = np.ones(len(log.items), dtype=bool)
    return LogFeatures(chosen, log, query_ids(log.queries), unknown_items(log.items, chosen), known, pairs)


READING = Reading("naive", batch_size=10, epochs=2, seed=1, mean=(0.0,) * 3, spread=(1.0,) * 3)


def taken(source: ClickSource) -> list[list[float]]:
    """Positions of the batches until there is none."""
    batches = []
    while (update := source.next(0)) is not None:
        batches.append(update.micro_batches[0]["position"].tolist())
    return batches


def numbered(count: int, start: int = 1) -> pl.DataFrame:
    places = np.arange(start, start + count)
    return pl.DataFrame({"query": "q", "item_id": [f"i{n}" for n in places], "position": places, "clicked": False})


def test_every_part_of_a_growing_log_is_learned_so_many_times() -> None:
    log = log_features(numbered(25))
    source = ClickSource(log, np.arange(25), READING)
    first = taken(source)
    assert [len(batch) for batch in first] == [10, 10, 5] * 2
    assert sorted(sum(first[:3], [])) == sorted(sum(first[3:], [])) == list(range(1, 26)) and first[0] != first[3]
    longer = log_features(numbered(32))
    source.use(longer, np.arange(32))
    assert sorted(sum(taken(source), [])) == sorted([*range(26, 33)] * 2) and source.next(0) is None


def test_a_source_goes_on_where_it_was_and_refuses_another_log() -> None:
    log = log_features(numbered(25))
    whole = taken(ClickSource(log, np.arange(25), READING))
    source = ClickSource(log, np.arange(25), READING)
    begun = [source.next(0).micro_batches[0]["position"].tolist() for _ in range(2)]
    state = source.state_dict()
    longer = log_features(numbered(32))
    again = ClickSource(longer, np.arange(32), READING)
    again.load_state_dict(state)
    rest = taken(again)
    assert begun + rest[:4] == whole and sum(len(batch) for batch in rest[4:]) == 14
    for other, told in (
        (log_features(numbered(25, start=2)), "impressions differ"),
        (log_features(numbered(25), FeatureSet(channels=(), sparse=("item",))), "features differ"),
        (log_features(numbered(20)), "25 impressions were learned, the log has 20"),
    ):
        with pytest.raises(ValueError, match=told):
            ClickSource(other, np.arange(20), READING).load_state_dict(state)
    with pytest.raises(ValueError, match="epochs differ"):
        ClickSource(log, np.arange(25), dataclasses.replace(READING, epochs=3)).load_state_dict(state)


def test_items_that_the_index_lacks_have_their_ids_alone(index: Path) -> None:
    frame = pl.DataFrame({"query": "lamp", "item_id": ["i01", "gone"], "position": [1, 2], "clicked": [True, False]})
    from goodrate.retrieval.store import Store

    read = PairReader(Store.open(index), FeatureSet()).read(Impressions.of(frame))
    assert read.known.tolist() == [True, False]
    rows = np.arange(2)
    dense = dict(zip(read.features.dense, read.dense(rows).T, strict=True))
    assert dense["log_price"][0] == pytest.approx(np.log(11.0)) and np.isnan(dense["log_price"][1])
    assert dense["lexical_score"][0] > 0 and np.isnan(dense["lexical_score"][1])
    assert read.sparse(rows)[1].tolist() == [[True] * 6, [True, True, False, False, False, False]]


def test_the_command_line_trains_and_refuses(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    impressions("i07", 1, pages=10).write_csv(tmp_path / "log.csv")
    sets = [f"events={tmp_path / 'log.csv'}", f"index={index}", "epochs=1", "dev_share=0.25"]
    told = [part for one in sets for part in ("--set", one)]
    command(["click_ranker", "--out", str(tmp_path / "run"), *told], standalone_mode=False)
    said = capsys.readouterr()
    assert "constant" in said.out and "examination of the places" in said.err
    assert (tmp_path / "run" / "ranker" / CARD).is_file()
    for wrong, message in (
        ("propensities=[0.0]", "expected a number above 0"),
        ('sparse=["colour"]', "'colour' is none of query, item"),
        ("sparse=[]", "sparse"),
        ("correction=none", "correction"),
        ("dev_share=0.9999", "no query is left to learn from"),
    ):
        with pytest.raises(ValueError, match=message):
            command(["click_ranker", "--out", str(tmp_path / "no"), *told, "--set", wrong], standalone_mode=False)
