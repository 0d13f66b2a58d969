"""Overrules: a person's verdict counts at once in search, /judge, /explain and rerank, is undone, expires, is no
verdict of the judge's."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from goodrate.serving.http import create_app
from goodrate.serving.live import LivePipeline
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.overrules import Overrules
from goodrate.serving.workbench.store import Workbench
from serving_shop import fake_judge, fake_pipeline

KETTLE = {"query": "Red  Shoes", "item_id": "a5", "label": "excellent", "by": "Ada", "reason": "sold as one set"}


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path / "team")


@pytest.fixture
def client(workbench: Workbench, tmp_path: Path) -> TestClient:
    pipeline = fake_pipeline(fake_judge(tmp_path / "verdicts.sqlite"))
    return TestClient(create_app(pipeline, Parts(workbench=workbench)), raise_server_exceptions=False)


def found(client: TestClient, query: str = "red shoes", **more: Any) -> dict[str, dict[str, Any]]:
    """The results by id, in their order."""
    answer = client.get("/search", params={"query": query, **more}).json()
    return {result["item_id"]: result for result in answer["results"]}


def test_it_counts_at_once_and_is_undone_at_once(client: TestClient) -> None:
    before = found(client)
    assert list(before)[-1] == "a5" and before["a5"]["verdict"]["tier"] == "Bad"
    made = client.post("/overrules", json={**KETTLE, "until": "2999-12-31"}).json()
    after = found(client)
    verdict = after["a5"]["verdict"]
    assert list(after)[0] == "a5" and verdict["tier"] == "Good" and verdict["expected_gain"] == 1.0
    assert verdict["probabilities"] == {"irrelevant": 0, "mismatch": 0, "related": 0, "excellent": 1}
    assert verdict["overrule"]["by"] == "Ada" and verdict["overrule"]["until"] == "2999-12-31"
    assert verdict["overrule"]["judge"] == {"label": "irrelevant", "tier": "Bad", "status": "ok"}
    assert [item for item in after if item != "a5"] == [item for item in before if item != "a5"]
    assert found(client, "blue shoes")["a5"]["verdict"].get("overrule") is None  # of that query alone
    assert client.delete(f"/overrules/{made['id']}", params={"by": "Bo"}).status_code == 200
    assert {name: result["verdict"] for name, result in found(client).items()} == {
        name: {**result["verdict"], "cached": True} for name, result in before.items()
    }


def test_it_counts_in_judge_explain_and_rerank(client: TestClient) -> None:
    client.post("/overrules", json=KETTLE)
    pairs = [{"query": "red shoes", "item_id": "a5"}, {"query": "red shoes", "item_text": "Red kettle"}]
    judged = client.post("/judge", json={"pairs": pairs}).json()["verdicts"]
    assert [verdict["label"] for verdict in judged] == ["excellent", "irrelevant"]
    told = client.get("/explain", params={"query": "red shoes", "item_id": "a5"}).json()
    assert told["steps"][0]["title"] == "Set by Ada" and told["steps"][0]["text"] == "sold as one set"
    documents = ["Road shoes", {"item_id": "a5"}, {"item_id": "a5", "text": "kettle"}, {"text": "kettle"}]
    ranked = client.post("/v1/rerank", json={"query": "red shoes", "documents": documents}).json()["results"]
    scores = {one["index"]: one["relevance_score"] for one in ranked}
    assert scores[1] == scores[2] == 1.0 and scores[3] < scores[0] < 1.0
    unknown = client.post("/v1/rerank", json={"query": "x", "documents": [{"item_id": "none"}]})
    assert unknown.status_code == 404 and "'none'" in unknown.json()["message"]


def test_what_the_judge_failed_on_or_had_no_time_for_has_the_persons_verdict(client: TestClient) -> None:
    client.post("/overrules", json={**KETTLE, "item_id": "a4", "label": "related"})
    answer = client.get("/search", params={"query": "red shoes"}).json()
    assert answer["failed"] == 0 and answer["judged"] == 5
    assert found(client)["a4"]["verdict"]["overrule"]["judge"]["status"] == "no_label"
    unread = found(client, judge_ms=0, depth=5)
    assert unread["a4"]["verdict"]["label"] == "related" and unread["a4"]["verdict"]["tier"] == "Good"


def test_the_judges_own_verdicts_stay_as_they_are(client: TestClient, tmp_path: Path) -> None:
    client.post("/overrules", json=KETTLE)
    found(client)
    plain = TestClient(create_app(fake_pipeline(fake_judge(tmp_path / "verdicts.sqlite"))))
    verdict = found(plain)["a5"]["verdict"]
    assert verdict["cached"] and verdict["label"] == "irrelevant" and "overrule" not in verdict


def test_it_expires_after_its_last_day(workbench: Workbench) -> None:
    day = [datetime.date(2030, 5, 1)]
    kept = Overrules(workbench, lambda: day[0])
    kept.set("lamp", "a1", "excellent", "Ada", until=datetime.date(2030, 5, 2))
    day[0] = datetime.date(2030, 5, 2)
    assert kept.of_query("LAMP")["a1"].said == "set by Ada until 2030-05-02"
    day[0] = datetime.date(2030, 5, 3)
    assert kept.of_query("lamp") == {} and kept.listed() == []
    assert [one["state"] for one in kept.listed(every=True)] == ["expired"]
    with pytest.raises(ValueError, match="until is 2030-05-02, a day that is over"):
        kept.set("lamp", "a1", "excellent", "Ada", until=datetime.date(2030, 5, 2))


def test_a_new_one_takes_the_place_of_the_old_and_all_are_listed(client: TestClient) -> None:
    client.post("/overrules", json=KETTLE)
    client.post("/overrules", json={**KETTLE, "label": "2", "by": "Bo", "reason": ""})
    assert found(client)["a5"]["verdict"]["label"] == "mismatch"
    listed = client.get("/overrules").json()
    assert [(one["label"], one["by"], one["title"], one["state"]) for one in listed["overrules"]] == [
        ("mismatch", "Bo", "Red kettle", "holds")
    ]
    every = client.get("/overrules", params={"every": True}).json()["overrules"]
    assert [(one["state"], one["undone_by"]) for one in every] == [("holds", None), ("undone", "Bo")]
    assert client.get("/overrules", params={"query": "blue shoes"}).json()["overrules"] == []


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"label": "superb"}, 400, "accepted: irrelevant, mismatch, related, excellent"),
        ({"item_id": "zz"}, 404, "'zz'"),
        ({"by": " "}, 422, "by"),
        ({"until": "2001-01-01"}, 400, "a day that is over"),
        ({"until": "soon"}, 422, "until"),
        ({"labl": "x"}, 422, "labl"),
    ],
)
def test_wrong_ones_are_refused(client: TestClient, change: dict[str, str], status: int, told: str) -> None:
    answer = client.post("/overrules", json={**KETTLE, **change})
    assert answer.status_code == status and told in answer.json()["message"]
    assert client.get("/overrules", params={"every": True}).json()["overrules"] == []


def test_it_needs_a_workbench_and_a_judge(workbench: Workbench) -> None:
    bare = TestClient(create_app(fake_pipeline(fake_judge())))
    assert bare.post("/overrules", json=KETTLE).status_code == 501
    assert "--workbench DIR" in bare.get("/overrules").json()["message"]
    unjudged = TestClient(create_app(fake_pipeline(), Parts(workbench=workbench)))
    assert unjudged.post("/overrules", json=KETTLE).status_code == 501
    assert unjudged.get("/overrules").json() == {"labels": [], "overrules": []}
    assert unjudged.delete("/overrules/7", params={"by": "Bo"}).status_code == 404


def test_an_index_that_is_opened_anew_keeps_them_and_another_process_sees_them(workbench: Workbench) -> None:
    version = [1]
    live = LivePipeline(fake_pipeline(fake_judge()), lambda: fake_pipeline(fake_judge()), version=lambda: version[0])
    client = TestClient(create_app(live, Parts(workbench=workbench)))
    with Workbench(workbench.folder) as other:
        Overrules(other).set("red shoes", "a5", "excellent", "Ada")
    first, version[0] = live.current(), 2
    assert live.current() is not first
    assert list(found(client))[0] == "a5"


def test_a_label_of_another_scale_is_no_verdict(client: TestClient, workbench: Workbench) -> None:
    Overrules(workbench).set("red shoes", "a5", "exact", "Ada")
    assert found(client)["a5"]["verdict"]["label"] == "irrelevant"
