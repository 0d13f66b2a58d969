"""Team-draft interleaving: the draft, the server's answers and log, and that simulated clicks prefer the better one."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from goodrate.api.interleaving import interleaved_report, open_interleaving
from goodrate.catalog.items import Catalog
from goodrate.catalog.ubi import read_ubi
from goodrate.cli.compare import command
from goodrate.evaluation.interleaving import preference, team_draft
from goodrate.ranking.live_ranker import LiveRanker
from goodrate.retrieval.store import Store
from goodrate.serving import appending
from goodrate.serving.http import create_app
from goodrate.serving.interleaving import Interleaving
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable
from goodrate.serving.traffic_log import TrafficLog
from goodrate.serving.workbench.store import Workbench
from serving_shop import CATALOGUE, ITEMS, FakeSearcher, FakeStore, fake_judge, fake_pipeline, hit_at
from small_rankers import small_ranker

IDS = [item[0] for item in ITEMS]


class Reversed(FakeSearcher):
    """The other way round."""

    def find(self, read: Any, k: int, where: str | None = None, mode: str = "hybrid") -> list[Any]:
        self.asked.append((read.text, k, where, mode))
        return [hit_at(rank, item_id) for rank, item_id in enumerate(IDS[::-1][:k], start=1)]


def app(folder: Path, other: Any = None, **settings: Any) -> TestClient:
    second = other or SearchPipeline(FakeStore(), Reversed())
    beside = Interleaving(("old", "new"), lambda: second, TrafficLog(folder), settings)
    return TestClient(create_app(fake_pipeline(), Parts(interleaving=beside)), raise_server_exceptions=False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def search(web: TestClient, session: str = "s1", **more: Any) -> dict[str, Any]:
    answer = web.get("/search", params={"query": "red shoes", "client_id": "c1", "session_id": session, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def click(web: TestClient, answer: dict[str, Any], item: str) -> None:
    event = {"action_name": "click", "query_id": answer["query_id"], "client_id": "c1",
             "event_attributes": {"object": {"object_id": item, "object_id_field": "id"}}}  # fmt: skip
    assert web.post("/ubi/events", json=event).json() == {"kept": 1}


def test_the_draft_by_hand() -> None:
    drafts = [team_draft(["x", "y", "z"], ["x", "w"], 4, seed) for seed in range(200)]
    assert {(*items, *teams) for items, teams in drafts} == {
        ("x", "w", "y", "z", "a", "b", "a", "a"),  # A picks first; B has no more items in the second round
        ("x", "y", "z", "w", "b", "a", "a", "b"),  # B picks first, then A
        ("x", "y", "w", "z", "b", "a", "b", "a"),  # B picks first in both rounds
    }
    first = Counter(teams[0] for _, teams in drafts)
    assert 70 < first["a"] < 130
    assert team_draft([], [], 5, 0) == ([], []) and team_draft([], ["q"], 5, 0) == (["q"], ["b"])


def test_a_longer_draft_begins_as_a_shorter_one() -> None:
    rng = np.random.default_rng(1)
    for seed in range(50):
        first, second = ([f"i{number}" for number in rng.permutation(60)[:40]] for _ in "ab")
        whole = team_draft(first, second, 40, seed)
        for cut in (1, 7, 20):
            items, teams = team_draft(first[:cut], second[:cut], cut, seed)
            assert (items, teams) == (whole[0][:cut], whole[1][:cut])


def test_the_answer_does_not_tell_teams_and_the_log_does(tmp_path: Path) -> None:
    judged = SearchPipeline(FakeStore(), Reversed(), fake_judge())
    answer = search(app(tmp_path, judged))
    assert sorted(one["item_id"] for one in answer["results"]) == IDS
    assert [one["rank"] for one in answer["results"]] == [1, 2, 3, 4, 5]
    told = json.dumps({key: value for key, value in answer.items() if key != "latency_ms"})
    assert "teams" not in told and '"old"' not in told and answer["labels"] == []
    alike = {"rank", "item_id", "item", "variants", "variant_count"}
    assert len({json.dumps({k: v for k, v in one.items() if k not in alike}) for one in answer["results"]}) == 1
    logged = lines(tmp_path / "queries.jsonl")[0]
    assert logged["query_id"] == answer["query_id"] and logged["user_query"] == "red shoes"
    assert logged["query_response_hit_ids"] == [one["item_id"] for one in answer["results"]]
    draft = logged["query_attributes"]["interleaving"]
    assert sorted(draft["teams"][:2]) == ["a", "b"] and (draft["a"], draft["b"]) == ("old", "new")
    assert logged["client_id"] == "c1" and logged["query_attributes"]["session_id"] == "s1"


def test_a_session_sees_one_list_on_all_its_pages(tmp_path: Path) -> None:
    web = app(tmp_path)
    for session in "abcdef":
        whole = [one["item_id"] for one in search(web, session)["results"]]
        pages = [search(web, session, k=2, offset=offset) for offset in (0, 2, 4)]
        assert [one["item_id"] for page in pages for one in page["results"]] == whole
        assert [page["more"] for page in pages] == [True, True, False]
        assert [one["rank"] for one in pages[1]["results"]] == [3, 4]
    assert len({tuple(one["item_id"] for one in search(web, str(number))["results"]) for number in range(20)}) > 3


def test_what_asks_for_another_order_is_answered_by_a_alone(tmp_path: Path) -> None:
    web = app(tmp_path)
    for more in ({"mode": "lexical"}, {"sort": "price"}, {"depth": 0}, {"group_by": "brand"}, {"with_rules": False}):
        answer = search(web, **more)
        assert "query_id" not in answer and (tmp_path / "queries.jsonl").read_text() == ""
    assert [one["item_id"] for one in search(web, mode="lexical")["results"]] == IDS


def test_b_has_its_own_settings_and_its_failure_stops_nobody(tmp_path: Path) -> None:
    other = Reversed()
    search(app(tmp_path, SearchPipeline(FakeStore(), other), mode="dense"))
    assert other.asked[0][3] == "dense"

    class Broken:
        def search(self, request: Any) -> Any:
            raise IndexUnavailable("gone")

    answer = search(app(tmp_path / "broken", Broken()))
    assert [one["item_id"] for one in answer["results"]] == IDS and "query_id" not in answer


def test_events_are_kept_as_they_come(tmp_path: Path) -> None:
    web = app(tmp_path)
    answer = search(web)
    click(web, answer, "a5")
    more = [{"action_name": name, "query_id": answer["query_id"], "own": 1} for name in ("add_to_cart", "purchase")]
    assert web.post("/ubi/events", json={"events": more}).json() == {"kept": 2}
    kept = lines(tmp_path / "events.jsonl")
    assert [event["action_name"] for event in kept] == ["click", "add_to_cart", "purchase"] and kept[1]["own"] == 1
    assert all(event["timestamp"] and event["application"] == "goodrate" for event in kept)
    assert web.post("/ubi/events", json={"action_name": "click"}).status_code == 422
    assert web.post("/ubi/events", json={"events": []}).status_code == 422
    bare = TestClient(create_app(fake_pipeline()))
    refused = bare.post("/ubi/events", json={"action_name": "click", "query_id": "q"})
    assert refused.status_code == 501 and "--interleave B" in refused.json()["message"]


def test_the_log_is_read_as_any_shops_ubi(tmp_path: Path) -> None:
    web = app(tmp_path)
    answer = search(web, k=3)
    click(web, answer, answer["results"][1]["item_id"])
    read = read_ubi([tmp_path / "queries.jsonl", tmp_path / "events.jsonl"]).frame.sort("position")
    assert read["item_id"].to_list() == [one["item_id"] for one in answer["results"]]
    assert read["clicked"].cast(pl.Int64).to_list() == [0, 1, 0] and set(read["query"]) == {"red shoes"}


def test_a_line_that_a_killed_process_left_spoils_no_other(tmp_path: Path) -> None:
    web = app(tmp_path)
    click(web, search(web), "a1")
    with (tmp_path / "queries.jsonl").open("a") as file:
        file.write('{"query_id": "ha')
    web = app(tmp_path)
    search(web, "s2")
    text = (tmp_path / "queries.jsonl").read_text().splitlines()
    assert len(text) == 3 and json.loads(text[2])["user_query"] == "red shoes"
    found = interleaved_report(tmp_path)
    assert (found.preference.impressions, found.unread) == (2, 1)
    assert found.lines()[-1] == "1 line of the log cannot be read and is left out"
    (tmp_path / "events.jsonl").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"events\.jsonl: no line can be read as JSON"):
        interleaved_report(tmp_path)


def shopper(web: TestClient, session: str, wanted: str, rng: np.random.Generator) -> None:
    """Looks at one result after the other, less likely at each; clicks the wanted one often, another rarely."""
    answer = search(web, session)
    for place, one in enumerate(answer["results"]):
        if rng.random() > 0.8**place:
            break
        if rng.random() < (0.8 if one["item_id"] == wanted else 0.05):
            click(web, answer, one["item_id"])


def test_simulated_shoppers_prefer_the_better_system(tmp_path: Path) -> None:
    web, rng = app(tmp_path), np.random.default_rng(3)
    for number in range(60):
        shopper(web, f"s{number}", "a5", rng)  # which B puts first and A last
    found = interleaved_report(tmp_path)
    assert (found.a, found.b) == ("old", "new") and found.preference.value.low > 0 and found.preference.p < 0.001
    assert found.lines()[0].startswith("B (new) against A (old): preference +")
    told = CliRunner().invoke(command, ["interleaved", str(tmp_path), "--json"])
    assert json.loads(told.stdout)["preference"]["value"] == pytest.approx(found.preference.value.value)
    assert found.preference.impressions == 60


def clicks_of(orders: Sequence[Sequence[str]], wanted: Sequence[float], seed: int, sessions: int) -> tuple[Any, Any]:
    """Lists and clicks of shoppers by a click model: examined less with each place, clicked by worth."""
    rng, items = np.random.default_rng(seed), [f"i{number}" for number in range(len(wanted))]
    shown, clicked = [], []
    for session in range(sessions):
        for search in range(2):
            query = f"{session}-{search}"
            ids, teams = team_draft(*orders, 10, int(rng.integers(1 << 40)))
            shown.append((query, str(session), ids, teams))
            worth = np.array([wanted[items.index(one)] for one in ids])
            seen = rng.random(len(ids)) < 1 / np.arange(1, len(ids) + 1)
            clicked += [
                (query, one) for one, hit in zip(ids, seen & (rng.random(len(ids)) < worth), strict=True) if hit
            ]
    schema = ["query_id", "session", "items", "teams"]
    return pl.DataFrame(shown, schema, orient="row"), pl.DataFrame(clicked, ["query_id", "item_id"], orient="row")


def test_equal_systems_are_told_apart_no_more_often_than_chance_and_better_ones_are() -> None:
    rng = np.random.default_rng(7)
    outside = significant = found = 0
    for seed in range(40):
        items = [f"i{number}" for number in range(20)]
        first, second = (list(rng.permutation(items)) for _ in "ab")
        equal = preference(*clicks_of([first, second], [0.4] * 20, seed, 100), seed=seed)
        outside += not equal.value.low <= 0 <= equal.value.high
        significant += equal.p < 0.05
        worth = [0.8] * 5 + [0.1] * 15
        better = sorted(second, key=lambda one: -worth[items.index(one)])
        found += preference(*clicks_of([first, better], worth, seed, 100), seed=seed).value.low > 0
    assert outside <= 6 and significant <= 6  # 2 of 40 by chance
    assert found >= 36


def test_the_estimate_by_hand() -> None:
    shown = pl.DataFrame(
        [
            ("q1", "s1", ["x", "y", "z"], ["a", "b", "b"]),
            ("q2", "s1", ["x", "y"], ["b", "a"]),
            ("q3", "s2", ["x", "y"], ["a", "b"]),
            ("q4", "s3", ["x"], ["a"]),
        ],
        ["query_id", "session", "items", "teams"],
        orient="row",
    )
    clicks = [("q1", "y"), ("q1", "y"), ("q1", "z"), ("q1", "x"), ("q2", "x"), ("q2", "y"), ("q3", "x"), ("q9", "x")]
    found = preference(shown, pl.DataFrame([*clicks, ("q3", "none")], ["query_id", "item_id"], orient="row"))
    # q1: B two items against one; q2: a tie; q3: A; q4: nobody clicked. (1 + 1/2) / 3 - 1/2 = 0
    assert (found.b_wins, found.ties, found.a_wins, found.impressions) == (1, 1, 1, 4)
    assert found.value.value == pytest.approx(0.0) and found.sessions == 2
    assert (found.clicks, found.ignored) == (6, 2)
    with pytest.raises(ValueError, match="none of 1 clicks"):
        preference(shown, pl.DataFrame([("q9", "x")], ["query_id", "item_id"], orient="row"))


def test_what_a_full_disk_leaves_of_a_line_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TrafficLog(tmp_path)
    whole = os.write
    event = {"action_name": "click", "query_id": "q1", "event_attributes": {"object": {"object_id": "x"}}}

    def full(handle: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "no space left on device")
        return whole(handle, data[:20])

    monkeypatch.setattr(appending.os, "write", full)
    with pytest.raises(OSError, match=r"[Nn]o space left"):
        log.events([event])
    monkeypatch.setattr(appending.os, "write", whole)
    log.events([event])
    log.events([event])
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [len(line) == 20 for line in lines] == [True, False, False]
    assert [json.loads(line)["query_id"] for line in lines[1:]] == ["q1", "q1"]


def test_several_experiments_in_one_log_are_named(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    for query, name in (("q1", "one"), ("q2", "two")):
        draft = {"interleaving": {"a": "old", "b": name, "teams": ["b"]}}
        log.query(query, "lamp", ["x"], None, draft)
        event = {"action_name": "click", "query_id": query, "event_attributes": {"object": {"object_id": "x"}}}
        log.events([event])
    with pytest.raises(ValueError, match="one against old, two against old; name the second system"):
        interleaved_report(tmp_path)
    found = interleaved_report(tmp_path, "two").preference
    assert (found.b_wins, found.impressions, found.ignored) == (1, 1, 0)
    assert "preference +0.500 [no interval] over 1 sessions" in interleaved_report(tmp_path, "two").lines()[0]
    with pytest.raises(FileNotFoundError, match=r"no such file: .*queries\.jsonl"):
        interleaved_report(tmp_path / "none")


def test_real_indexes_answer_together(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    Store.create(folder, None, None).upsert(Catalog(CATALOGUE), None)
    (tmp_path / "pins.toml").write_text('[[pin]]\nname = "kettle first"\nquery = "red shoes"\nids = ["a5"]\n')
    import goodrate as gr

    with pytest.raises(ValueError, match="--workbench DIR"):
        open_interleaving("index", f"{folder},mode=lexical", None)
    with pytest.raises(ValueError, match="both systems are called 'x'"):
        open_interleaving("x", f"{folder},name=x", Workbench(tmp_path / "team"))
    new = f"{folder},rules={tmp_path / 'pins.toml'},name=pins"
    beside = open_interleaving("plain", new, Workbench(tmp_path / "team"))
    web = TestClient(create_app(gr.Index.open(folder).pipeline, Parts(interleaving=beside)))
    firsts = Counter(search(web, str(number))["results"][0]["item_id"] for number in range(16))
    assert set(firsts) == {"a1", "a5"} and min(firsts.values()) > 2


def test_a_rankers_prediction_does_not_tell_teams(tmp_path: Path) -> None:
    folder = small_ranker(tmp_path / "ranker", "a1")
    ranked = SearchPipeline(FakeStore(), FakeSearcher(), ranker=LiveRanker(folder, None, across_tiers=True))
    assert [one["utility"] is None for one in search(TestClient(create_app(ranked)))["results"]] == [False] * 5
    beside = Interleaving(("old", "new"), lambda: SearchPipeline(FakeStore(), Reversed()), TrafficLog(tmp_path / "log"))
    answer = search(TestClient(create_app(ranked, Parts(interleaving=beside))))
    assert answer["query_id"] and [one["utility"] for one in answer["results"]] == [None] * 5


@pytest.mark.parametrize(
    "odd", ["text", {"object": "text"}, {"object": ["a1"]}, {"object": {"object_id": {"id": "a1"}}}, {"object": [[]]}]
)
def test_an_event_of_another_form_spoils_no_report(tmp_path: Path, odd: Any) -> None:
    web = app(tmp_path)
    answer = search(web)
    click(web, answer, "a1")
    event = {"action_name": "click", "query_id": answer["query_id"], "event_attributes": odd}
    if isinstance(odd, dict):
        assert web.post("/ubi/events", json=event).status_code == 200
    else:
        assert web.post("/ubi/events", json=event).status_code == 422
        (tmp_path / "events.jsonl").open("a").write(json.dumps(event) + "\n")
    found = interleaved_report(tmp_path)
    assert found.preference.clicks == 1 and found.unread + found.preference.ignored == 1
