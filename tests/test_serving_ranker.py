"""A click ranker in the search: inside tiers, never across, followed when its folder is replaced."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from goodrate.api.index import Index
from goodrate.api.ranker import RankerChoice
from goodrate.api.serving import live
from goodrate.catalog.items import Catalog
from goodrate.cli.search import command as search_command
from goodrate.cli.serve import command as serve_command
from goodrate.ranking.feature_ids import text_ids
from goodrate.ranking.live_ranker import LiveRanker
from goodrate.ranking.ranker import CARD
from goodrate.ranking.results import rank
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.store import Store
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.http import create_app
from serving_shop import CATALOGUE, FakeJudge, fake_judge
from small_rankers import BARE, JUDGED, small_ranker
from test_ranking_ranker import hit


@pytest.fixture
def index(tmp_path: Path) -> Index:
    Store.create(tmp_path / "index", None, None).upsert(Catalog(CATALOGUE), None)
    return Index.open(tmp_path / "index")


def order(index: Index) -> list[tuple[str, str | None]]:
    return [(r.item["id"], r.verdict.tier if r.verdict else None) for r in index.search("running shoes socks kettle")]


def test_results_stand_by_utility_inside_their_tier_and_never_leave_it() -> None:
    tiers = ["Good", "Good", "Mid", "Bad", None]
    verdicts = [Verdict("x", (0.5, 0.5), 1.0 - place / 10, tier) if tier else None for place, tier in enumerate(tiers)]
    hits, items = [hit(place + 1, lexical=1.0) for place in range(5)], [{"id": str(place)} for place in range(5)]
    by_gain = rank(hits, items, verdicts)
    assert [result.item["id"] for result in by_gain] == ["0", "1", "2", "4", "3"]
    utilities = [0.1, 0.2, 0.9, 1.0, 0.95]
    ranked = rank(hits, items, verdicts, utilities=utilities)
    assert [result.item["id"] for result in ranked] == ["1", "0", "2", "4", "3"]
    assert [result.utility for result in ranked] == [0.2, 0.1, 0.9, 0.95, 1.0]
    across = rank(hits, items, verdicts, utilities=utilities, across_tiers=True)
    assert [result.item["id"] for result in across] == ["4", "2", "1", "0", "3"]
    hits[1].excluded = True
    assert [result.item["id"] for result in rank(hits, items, verdicts, utilities=utilities)][:2] == ["0", "1"]


def test_a_ranker_reorders_the_search_of_an_index(index: Index, tmp_path: Path) -> None:
    judged = index.rerank(fake_judge())
    before = order(judged)
    good = [item for item, tier in before if tier == "Good"]
    assert len(good) == 2
    served = judged.with_ranker(small_ranker(tmp_path / "ranker", item=good[1]))
    after = order(served)
    assert [item for item, _ in after][:2] == [good[1], good[0]]
    assert [tier for _, tier in after] == [tier for _, tier in before] and sorted(after) == sorted(before)
    told = {result.item["id"]: result.utility for result in served.search("running shoes socks kettle")}
    assert told[good[1]] == pytest.approx(0.7310586) and told[good[0]] == 0.5  # 1 / (1 + exp(-1))


def test_what_is_bad_stays_behind_whatever_the_ranker_says(index: Index, tmp_path: Path) -> None:
    judged = index.rerank(fake_judge())
    bad = [item for item, tier in order(judged) if tier == "Bad"]
    for across in (False, True):
        folder = small_ranker(tmp_path / f"ranker{across}", item=bad[0], weight=9.0)
        assert order(judged.with_ranker(folder, across_tiers=across))[-1] == (bad[0], "Bad")


def test_without_a_judge_there_are_no_tiers(index: Index, tmp_path: Path) -> None:
    first = [result.item["id"] for result in index.search("running")]
    folder = small_ranker(tmp_path / "ranker", item=first[-1])
    with pytest.raises(ValueError, match="inside the tiers of a judge, and there is none: --model JUDGE, or"):
        index.with_ranker(folder).search("running")
    ranked = index.with_ranker(folder, across_tiers=True).search("running")
    assert [result.item["id"] for result in ranked] == [first[-1], *first[:-1]]


def test_a_ranker_of_another_judge_is_refused(index: Index, tmp_path: Path) -> None:
    folder = small_ranker(tmp_path / "ranker", features=JUDGED)
    with pytest.raises(ValueError, match=r"reads what a judge says .* and there is none"):
        index.with_ranker(folder, across_tiers=True).search("running")
    assert index.rerank(fake_judge()).with_ranker(folder).search("running")
    other = small_ranker(tmp_path / "other", features=replace(JUDGED, labels=("no", "yes")))
    with pytest.raises(
        ValueError, match="trained on verdicts with labels no, yes; this judge has irrelevant, mismatch"
    ):
        index.rerank(fake_judge()).with_ranker(other).search("running")


def test_a_running_server_takes_a_new_ranker_and_keeps_the_last_good_one(index: Index, tmp_path: Path) -> None:
    judged = index.rerank(fake_judge())
    good = [item for item, tier in order(judged) if tier == "Good"]
    folder = small_ranker(tmp_path / "ranker", item=good[0])
    client = TestClient(create_app(live(judged.with_ranker(folder))))

    def first() -> str:
        answer = client.get("/search", params={"query": "running shoes socks kettle"})
        assert answer.status_code == 200, answer.json()
        return answer.json()["results"][0]["item_id"]

    assert first() == good[0] and client.get("/ranker").json()["problem"] is None
    small_ranker(folder, item=good[1])
    assert first() == good[1]
    (folder / CARD).write_text("{")
    assert first() == good[1] and "cannot be opened" in client.get("/ranker").json()["problem"]
    small_ranker(folder, features=replace(JUDGED, labels=("no", "yes")))
    assert first() == good[1] and "trained on verdicts with labels" in client.get("/ranker").json()["problem"]
    shutil.rmtree(folder)
    assert first() == good[1]
    small_ranker(folder, item=good[0])
    told = client.get("/ranker").json()
    assert first() == good[0] and told["problem"] is None and told["rows"]["item"] == 1
    shown = client.get("/search", params={"query": "running"}).json()["results"][0]
    assert shown["utility"] == pytest.approx(0.7310586)


def test_a_server_without_a_ranker_says_so(index: Index) -> None:
    client = TestClient(create_app(live(index)))
    assert client.get("/ranker").status_code == 501 and "--ranker" in client.get("/ranker").json()["message"]
    assert client.get("/search", params={"query": "running"}).json()["results"][0]["utility"] is None


def test_a_changed_index_keeps_the_ranker_that_is_open(index: Index, tmp_path: Path) -> None:
    judged = index.rerank(fake_judge()).with_ranker(small_ranker(tmp_path / "ranker"))
    assert judged.but(store=Store.open(index.store.path)).pipeline.ranker is judged.pipeline.ranker


def test_the_command_line_searches_with_a_ranker(index: Index, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    first = [result.item["id"] for result in index.search("running")]
    folder = small_ranker(tmp_path / "ranker", item=first[-1])
    told = [str(index.store.path), "running", "--ranker", str(folder)]
    search_command([*told, "--across-tiers", "--json"], standalone_mode=False)
    results = json.loads(capsys.readouterr().out)["results"]
    assert results[0]["id"] == first[-1] and results[0]["utility"] == pytest.approx(0.731059)
    search_command([*told, "--across-tiers"], standalone_mode=False)
    assert "0.731" in capsys.readouterr().out
    with pytest.raises(ValueError, match="inside the tiers of a judge"):
        search_command(told, standalone_mode=False)
    for command in (search_command, serve_command):
        asked = [*told[:2], "--across-tiers"] if command is search_command else [told[0], "--across-tiers"]
        with pytest.raises(ValueError, match="--across-tiers is for a ranker"):
            command(asked, standalone_mode=False)
    with pytest.raises(FileNotFoundError, match="goodrate train click_ranker"):
        serve_command([told[0], "--port", "0", "--across-tiers", "--ranker", str(tmp_path)], standalone_mode=False)


class Unsure(FakeJudge):
    """A judge that fails on all items."""

    table: dict = {}


def test_failed_verdicts_are_missing_features(index: Index, tmp_path: Path) -> None:
    ranker = LiveRanker(small_ranker(tmp_path / "ranker", features=JUDGED), FOUR_LEVEL)
    judge = CalibratedJudge(Unsure(), name="unsure")
    found = index.rerank(judge).but(ranker=RankerChoice(tmp_path / "ranker")).search("running")
    assert [result.utility for result in found] == [0.5, 0.5, 0.5] and ranker.current().features == JUDGED
    assert BARE.fingerprint != JUDGED.fingerprint and text_ids(["a"])[0] != text_ids(["b"])[0]
