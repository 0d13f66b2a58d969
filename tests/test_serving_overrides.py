"""Overrides of a judge of entities over HTTP: previewed on judged pairs, saved, acting at once, logged, taken away."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from entity_shop import LABELS, RULES_ROWS, entity_judge, entity_pipeline
from goodrate.api.overruling import preview_labels
from goodrate.catalog.judgements import frame_judgements
from goodrate.relevance.override_file import OverrideFile, OverridesChanged, override_id, with_saved_overrides
from goodrate.relevance.overrides import NONE, Override, read_overrides
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.access import Access, Token, _digest
from goodrate.serving.http import create_app
from goodrate.serving.live import LivePipeline
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.grading import Grading, QueuedPair, Vote
from goodrate.serving.workbench.store import Workbench
from serving_shop import fake_judge, fake_pipeline

BLUE = {"verdict": "neutral", "query": "Red  LAMP", "type": "color", "entity": "blue", "note": "any colour will do"}
WITHOUT = {"verdict": "conflict", "after": ["without", "no"]}


def labels(rows: list[tuple[str, str, str]] = LABELS) -> Any:
    return frame_judgements(pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row"), FOUR_LEVEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "judge").mkdir()
    return tmp_path / "judge"


def client_of(folder: Path, judged: Any = None, **more: Any) -> TestClient:
    parts = Parts(workbench=Workbench(folder.parent / "team"), labels=judged, **more)
    return TestClient(create_app(entity_pipeline(folder), parts), raise_server_exceptions=False)


def verdicts(client: TestClient, query: str = "red lamp") -> dict[str, str]:
    """Label by item."""
    results = client.get("/search", params={"query": query}).json()["results"]
    return {one["item_id"]: one["verdict"]["label"] for one in results}


def test_a_preview_says_what_gets_better_and_worse_and_saves_nothing(folder: Path) -> None:
    client = client_of(folder, labels())
    before = verdicts(client)
    assert before == {"r": "excellent", "b": "mismatch", "c": "excellent"}
    told = client.post("/overrides/preview", json={"override": BLUE}).json()
    # the blue lamp alone: N from 0.25 to 1 with W = 0.2 makes it related, which is its gold label
    expected = {"pairs": 3, "changed": 1, "better": 1, "worse": 0, "fixed": 1, "broken": 0, "overrides": 1}
    assert told["effect"] == expected and told["labels"] == 5 and told["source"] == "the file of --judgements"
    assert told["lines"][0] == "1 of 3 judged pairs change"
    assert "left out: 1 labels of items that the index does not have" in told["lines"]
    worse = client.post(
        "/overrides/preview", json={"override": {**BLUE, "entity": "red", "verdict": "conflict"}}
    ).json()
    assert (worse["effect"]["better"], worse["effect"]["worse"], worse["effect"]["broken"]) == (0, 1, 1)
    nobody = client.post("/overrides/preview", json={"override": {**BLUE, "query": "rug"}}).json()
    assert nobody["effect"] is None and "none of the 5 labels" in nobody["lines"][0]
    assert verdicts(client) == before and not (folder / "overrides.toml").exists()


def test_it_is_saved_acts_at_once_is_logged_and_taken_away(folder: Path) -> None:
    client = client_of(folder, labels())
    made = client.post("/overrides", json={**BLUE, "by": "Ada"}).json()
    assert verdicts(client) == {"r": "excellent", "b": "related", "c": "excellent"}
    why = client.get("/explain", params={"query": "red lamp", "item_id": "b"}).json()
    assert "conflicts" not in [step["title"].split()[0].lower() for step in why["steps"]]
    listed = client.get("/overrides").json()
    assert [one["id"] for one in listed["overrides"]] == [made["id"]] and listed["types"] == ["brand", "color"]
    assert read_overrides(folder / "overrides.toml").override[0].note == "any colour will do"  # for every command
    line = listed["log"][0]
    assert (line["by"], line["did"], line["effect"]["better"]) == ("Ada", "added", 1) and line["saved"].endswith("Z")
    again = client.post("/overrides", json={**BLUE, "by": "Bo"})
    assert again.status_code == 400 and "there already" in again.json()["message"]
    undone = client.post("/overrides/preview", json={"remove": made["id"]}).json()
    assert (undone["effect"]["worse"], undone["effect"]["overrides"]) == (1, 0)
    assert client.delete(f"/overrides/{made['id']}", params={"by": "Bo"}).json()["effect"]["worse"] == 1
    assert verdicts(client)["b"] == "mismatch" and client.get("/overrides").json()["overrides"] == []
    assert [(one["by"], one["did"]) for one in OverrideFile(folder).lines()] == [("Bo", "removed"), ("Ada", "added")]
    assert client.delete(f"/overrides/{made['id']}", params={"by": "Bo"}).status_code == 404


def test_a_class_of_queries_without_a_pattern_of_ones_own(folder: Path) -> None:
    client = client_of(folder)
    assert verdicts(client, "lamp without blue")["b"] != "mismatch"
    client.post("/overrides", json={**WITHOUT, "by": "Ada"})
    assert verdicts(client, "lamp without blue")["b"] == "mismatch"
    assert verdicts(client, "lamp withouts blue")["b"] != "mismatch"
    (one,) = client.get("/overrides").json()["overrides"]
    assert one["contains"] == "{what}" and one["pattern"] == r"(?<!\w)(?:without|no) (?P<what>\w+)"
    words = client.post("/overrides", json={"verdict": "support", "words": "a.b (c", "type": "color", "by": "Ada"})
    assert words.status_code == 200  # letters that a pattern would read otherwise


def test_an_items_entities_are_listed_with_what_overrules_them(folder: Path) -> None:
    client = client_of(folder)
    asked = {"query": "red lamp", "item_id": "b"}
    found = client.get("/overrides/entities", params=asked).json()["entities"]
    assert [(one["type"], one["text"], one["support"], one["conflict"]) for one in found] == [
        ("category", "lamps", 0.9, 0.0), ("color", "blue", 0.0, 0.75), ("category", "lighting", 0.5, 0.0)
    ]  # fmt: skip
    made = client.post("/overrides", json={**BLUE, "by": "Ada"}).json()
    found = client.get("/overrides/entities", params=asked).json()["entities"]
    assert [one["override"] for one in found if one["text"] == "blue"] == [made["id"]]
    assert client.get("/overrides/entities", params={**asked, "item_id": "zz"}).status_code == 404


def test_grades_of_the_workbench_are_what_is_counted_on_without_a_file(folder: Path) -> None:
    client = client_of(folder)
    none = client.post("/overrides/preview", json={"override": BLUE}).json()
    assert none["effect"] is None and "there are no labels" in none["lines"][0]
    grading = Grading(Workbench(folder.parent / "team"))
    grading.set_up(FOUR_LEVEL, None)
    grading.add([QueuedPair("red lamp", "b", "blue", "top")])
    grading.vote(Vote(grading.pairs()[0]["place"], "ann", "label", "related", token="t"))
    told = client.post("/overrides/preview", json={"override": BLUE}).json()
    assert told["source"] == "grades of the workbench" and told["effect"]["better"] == 1 == told["labels"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"words": "lamp"}, "expected one of query, words and after"),
        ({"query": None}, "expected one of query, words and after"),
        ({"contains": "x"}, "give entity or contains, not both"),
        ({"entity": None, "type": None}, "say which entities"),
        ({"pattern": "(a+)+$"}, "pattern"),
        ({"verdict": "bad"}, "verdict"),
        ({"entity": "{what}", "query": None, "words": "lamp"}, "no group"),
        ({"by": " "}, "by"),
    ],
)  # fmt: skip
def test_wrong_ones_are_refused(folder: Path, change: dict[str, Any], told: str) -> None:
    client = client_of(folder)
    answer = client.post("/overrides", json={**BLUE, "by": "Ada", **change})
    assert answer.status_code == 422 and told in answer.json()["message"]
    assert client.get("/overrides").json()["overrides"] == []
    both = client.post("/overrides/preview", json={})
    assert both.status_code == 422 and "either override or remove" in both.json()["message"]


def test_it_is_for_editors_of_a_judge_of_entities_with_a_workbench(folder: Path) -> None:
    bare = TestClient(create_app(entity_pipeline(folder)))
    assert bare.get("/overrides").status_code == 501 and "--workbench" in bare.get("/overrides").json()["message"]
    other = TestClient(create_app(fake_pipeline(fake_judge()), Parts(workbench=Workbench(folder.parent / "team"))))
    assert other.get("/overrides").status_code == 501 and "kind entity" in other.get("/overrides").json()["message"]
    assert "Entities" not in [page["title"] for page in other.get("/pages").json()["pages"]]
    tokens = [Token(_digest(f"a-token-of-{role}s"), role, f"{role}-person") for role in ("judge", "edit")]
    guarded = client_of(folder, access=Access(tuple(tokens), None))
    assert "Entities" in [page["title"] for page in client_of(folder).get("/pages").json()["pages"]]
    for role, status in (("judge", 403), ("edit", 200)):
        head = {"authorization": f"Bearer a-token-of-{role}s"}
        assert guarded.get("/overrides", headers=head).status_code == status
        assert (
            guarded.get("/overrides/entities", params={"query": "x", "item_id": "b"}, headers=head).status_code
            == status
        )
        assert guarded.post("/overrides/preview", json={"override": BLUE}, headers=head).status_code == status
        assert guarded.post("/overrides", json={**BLUE, "by": "Ada"}, headers=head).status_code == status
    assert OverrideFile(folder).lines()[0]["token"] == "edit-person"


def test_a_file_that_a_person_wrote_keeps_its_comments(folder: Path) -> None:
    file = OverrideFile(folder)
    file.path.write_text(f"# ours\n\n{RULES_ROWS}")
    before = file.read()
    one = Override(verdict="support", query="red lamp", entity='a "b" \n\x7f')
    after = file.add(before, one, "Ada")
    assert file.read() == after and file.path.read_text().startswith(f"# ours\n\n{RULES_ROWS}")
    key = OverrideFile(folder).lines()[0]["override"]
    assert key == {"verdict": "support", "query": "red lamp", "entity": 'a "b" \n\x7f', "note": ""}
    left = file.remove(after, override_id(before.override[0]), "Ada")
    assert left.override == after.override[1:] == file.read().override
    assert "# the second" in file.path.read_text() and "# ours" in file.path.read_text()
    with pytest.raises(OverridesChanged):
        file.add(before, one, "Bo")
    file.path.write_text('override = [{verdict = "neutral", query = "a", type = "b"}]\n')  # cannot be added to as it is
    file.add(file.read(), one, "Bo")
    assert [each.query for each in file.read().override] == ["a", "red lamp"]


def test_many_editors_at_once_lose_nothing(folder: Path) -> None:
    def edit(number: int) -> None:
        file = OverrideFile(folder)
        while True:
            try:
                file.add(file.read(), Override(verdict="support", query=f"q{number}", type="color"), f"e{number}")
                return
            except OverridesChanged:
                continue

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(6)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert sorted(one.query or "" for one in OverrideFile(folder).read().override) == [f"q{n}" for n in range(6)]
    assert len(OverrideFile(folder).lines()) == 6


def test_another_process_is_seen_and_a_broken_file_changes_nothing(folder: Path) -> None:
    judge = entity_judge(folder)
    file = OverrideFile(folder)
    live = LivePipeline(
        entity_pipeline(folder), lambda: entity_pipeline(folder, with_saved_overrides(judge)), [file.path]
    )
    client = TestClient(create_app(live, Parts(workbench=Workbench(folder.parent / "team"))))
    assert verdicts(client)["b"] == "mismatch"
    file.add(NONE, Override(verdict="neutral", query="red lamp", entity="blue"), "somebody else")
    assert verdicts(client)["b"] == "related"
    file.path.write_text("[[override]]\nverdict = 3\n")
    assert with_saved_overrides(judge) is judge
    assert client.get("/overrides").status_code == 400


def test_labels_for_a_preview_need_an_entity_judge_and_a_workbench(tmp_path: Path, folder: Path) -> None:
    assert preview_labels(None, None) is None
    file = tmp_path / "labels.csv"
    file.write_text("query,item_id,label\nred lamp,b,related\n")
    with pytest.raises(ValueError, match="--workbench DIR"):
        preview_labels(file, str(folder))
    (folder / "judge.json").write_text('{"kind": "human", "scale": "four_level"}')
    with pytest.raises(ValueError, match="of kind 'human'"):
        preview_labels(file, str(folder), tmp_path)
    (folder / "judge.json").write_text(json.dumps({"kind": "entity", "scale": "four_level", "types": ["color"]}))
    found = preview_labels(file, str(folder), tmp_path)
    assert found is not None and len(found) == 1
