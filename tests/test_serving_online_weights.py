"""Weights that follow clicks: fusion takes them, clicks move them, and nothing that was learned is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from goodrate.api.index import Index
from goodrate.api.online_weights import ClickSession, OnlineSettings, OnlineWeights, learn_clicks, with_online_weights
from goodrate.api.serving import live
from goodrate.catalog.items import Catalog
from goodrate.cli.serve import command
from goodrate.ranking.online.click_loss import ClickLoss
from goodrate.retrieval.calibration import Calibration
from goodrate.retrieval.fusion import Hit
from goodrate.retrieval.hybrid import channel_features, fused
from goodrate.retrieval.search_settings import SearchSettings
from goodrate.retrieval.store import Store
from goodrate.retrieval.weighing import WEIGHED, factors_of, start_of, with_further
from goodrate.serving import appending
from goodrate.serving.click_file import read_events
from goodrate.serving.http import create_app
from goodrate.serving.records import IndexUnavailable
from goodrate.settings import to_toml


class Signs:
    """A fake encoder: the first letter of a text decides its meaning."""

    fingerprint, dimension = "signs", 8

    def encode_items(self, texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), 8), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = [1 + (sum(map(ord, text)) * (axis + 3)) % 7 for axis in range(8)]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode_items


COLOURS = ["red", "blue", "green", "grey", "black", "white"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = [
        {"id": f"{colour}{n}", "title": f"{colour} lamp {'of oak ' * n}", "price": 10.0 + 7 * n, "rating": 5.0 - n}
        for colour in COLOURS
        for n in range(5)
    ]
    folder = tmp_path_factory.mktemp("weighed") / "index"
    made = Index(Store.create(folder, "signs", 8), Signs())  # type: ignore[arg-type]
    made.add(Catalog(pl.DataFrame(rows)))
    return made


FOUND = {
    "lexical": [Hit(f"a{n}", 12.0 - n, n + 1) for n in range(6)],
    "synonym": [Hit("a1", 9.0, 1), Hit("b0", 4.0, 2)],
    "dense": [Hit(f"b{n}", 0.9 - n / 20, n + 1) for n in range(5)] + [Hit("a3", 0.4, 6)],
}
KNOWN = pl.DataFrame({
    "id": [f"a{n}" for n in range(6)] + [f"b{n}" for n in range(5)],
    "rating": [4.0, None, 2.0, 5.0, 3.0, 1.0, 4.5, 3.5, None, 2.5, 1.5],
    "price": [10.0, 20.0, None, 40.0, 50.0, 60.0, 15.0, 25.0, 35.0, 45.0, 55.0],
})  # fmt: skip


@pytest.mark.parametrize("fusion", ["listed", "scores", "ranks"])
def test_at_the_start_the_ranking_is_that_without_weights(fusion: Any) -> None:
    settings, calibration = SearchSettings(fusion=fusion), Calibration(items=500)
    at_start = factors_of(WEIGHED, start_of(WEIGHED))
    assert at_start == {"lexical": 1.0, "dense": 1.0, "rating": 0.0, "price": 0.0}
    plain = fused(FOUND, settings, calibration)
    further = with_further(FOUND, KNOWN, WEIGHED)
    weighed = fused(further, settings, calibration, factors=at_start)
    assert [(hit.item_id, hit.score) for hit in weighed] == [(hit.item_id, pytest.approx(hit.score)) for hit in plain]
    assert fused(FOUND, settings, calibration, factors=at_start) == plain


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
@pytest.mark.parametrize("weights", [(0.5, 0.5, 0, 0), (0.1, 0.9, 0, 0), (0.3, 0.2, 0.1, 0.4), (0, 0.4, 0.6, 0)])
def test_features_times_weights_order_as_the_fusion_does(fusion: Any, weights: tuple[float, ...]) -> None:
    settings, calibration = SearchSettings(fusion=fusion), Calibration(items=500)
    further = with_further(FOUND, KNOWN, WEIGHED)
    ids, features = channel_features(further, settings, calibration, WEIGHED)
    scores = dict(zip(ids, features @ np.array(weights), strict=True))
    hits = fused(further, settings, calibration, factors=factors_of(WEIGHED, np.array(weights)))
    own = np.array([hit.score for hit in hits])
    assert own == pytest.approx(np.array([scores[hit.item_id] for hit in hits]) * own.max() / max(scores.values()))
    assert features.min() >= 0 and features.max() <= 1 + 1e-12


def test_what_is_known_of_an_item_goes_from_0_to_1_and_the_unknown_is_in_the_middle() -> None:
    further = with_further(FOUND, KNOWN, WEIGHED)
    ratings, prices = ({hit.item_id: hit.score for hit in further[name]} for name in ("rating", "price"))
    assert (ratings["a3"], ratings["a5"], ratings["a1"]) == (1.0, 0.0, 0.5)
    assert (prices["a0"], prices["a5"], prices["a2"]) == (1.0, 0.0, 0.5) and prices["b0"] == pytest.approx(0.9)
    ids, features = channel_features(further, SearchSettings(), Calibration(items=500), WEIGHED)
    assert features[ids.index("a1")][2:] == pytest.approx([0.5, 0.8])
    equal = with_further(FOUND, KNOWN.with_columns(rating=3.0), WEIGHED)["rating"]
    assert {hit.score for hit in equal} == {0.5}


def test_the_loss_is_convex_its_gradient_is_right_and_a_deep_click_counts_for_more() -> None:
    draw, loss = np.random.default_rng(1), ClickLoss(1.0, 5.0, 3.0)
    features, positions = draw.random((2, 6, 4)), np.tile(np.arange(1, 7), (2, 1))
    clicked = np.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=bool)
    one, other = draw.random((2, 4))
    values, gradient = loss.measured(features, positions, clicked, one)
    assert values[1] == 0 and (gradient[1] == 0).all()
    for axis in np.eye(4):
        numeric = (loss.measured(features, positions, clicked, one + 1e-6 * axis)[0] - values)[0] / 1e-6
        assert gradient[0] @ axis == pytest.approx(numeric, abs=1e-5)
    middle = loss.measured(features, positions, clicked, (one + other) / 2)[0]
    assert (middle <= (values + loss.measured(features, positions, clicked, other)[0]) / 2 + 1e-12).all()
    # one click at position 2 of 2: importance 2/5, score behind by 3 * (0.5 - 0.25): 0.4 * log(1 + exp(0.75))
    pair = np.array([[[0.5], [0.25]]])
    value, slope = loss.measured(pair, np.array([[1, 2]]), np.array([[False, True]]), np.ones(1))
    assert value[0] == pytest.approx(0.4 * np.log1p(np.exp(0.75)))
    assert slope[0, 0] == pytest.approx(0.4 * 3 * 0.25 / (1 + np.exp(-0.75)))


def test_the_loss_expects_the_same_whatever_was_shown_first() -> None:
    """With the right exponent the expected gradient over who looks where does not depend on the positions."""
    draw = np.random.default_rng(2)
    features, worth = draw.random((5, 3)), np.array([0.9, 0.1, 0.5, 0.3, 0.2])

    def expected(exponent: float, order: np.ndarray) -> np.ndarray:
        loss, total = ClickLoss(exponent, 100.0, 4.0), np.zeros(3)
        for at in range(5):  # every click alone, times its chance
            clicked = (np.arange(5) == at)[None]
            chance = worth[order[at]] * (at + 1.0) ** -1.0
            total += chance * loss.measured(features[order][None], np.arange(1, 6)[None], clicked, np.ones(3))[1][0]
        return total

    orders = [np.arange(5), np.arange(5)[::-1], np.array([2, 0, 4, 1, 3])]
    right = [expected(1.0, order) for order in orders]
    assert right[1] == pytest.approx(right[0]) and right[2] == pytest.approx(right[0])
    believed = [expected(0.0, order) for order in orders]
    assert np.abs(believed[1] - believed[0]).max() > 0.1 * np.abs(believed[0]).max()


def shoppers(index: Index, count: int, want: str = "price") -> list[tuple[str, list[str], list[str]]]:
    """Pages of a search, on which the cheapest of the first ten (or the dearest) is clicked."""
    pages = []
    for n in range(count):
        results = index.search(f"{COLOURS[n % 6]} lamp", 10).results
        chosen = sorted(results, key=lambda one: one.item["price"], reverse=want != "price")
        pages.append((f"{COLOURS[n % 6]} lamp", [one.item["id"] for one in results], [chosen[0].item["id"]]))
    return pages


QUICK = {"sessions_per_step": 2, "position_exponent": 0.5, "gradient_bound": 0.03}


def settings(path: Path, **changed: Any) -> Path:
    """A file of settings with short rounds."""
    path.write_text(to_toml(OnlineSettings(**{**QUICK, **changed})))
    return path


def test_clicks_on_cheap_items_raise_the_weight_of_the_price_up_to_the_bound(index: Index, tmp_path: Path) -> None:
    before = [one.item["id"] for one in index.search("red lamp", 10).results]
    weighed = with_online_weights(index, settings(tmp_path / "w.toml", most_moved=0.3, sessions_per_step=1))
    online = weighed.online
    assert online is not None
    assert [one.item["id"] for one in weighed.search("red lamp", 10).results] == before
    for page in 15 * shoppers(weighed, 6):
        assert learn_clicks(weighed, *page)
    weights = online.weights
    assert sum(weights.values()) == pytest.approx(1) and weights["price"] > 0.05
    assert 0.1 < weights["price"] + weights["rating"] <= 0.3 + 1e-9  # cheap lamps are rated better here
    assert 0.5 * sum(abs(value - start) for value, start in zip(weights.values(), online.start, strict=True)) <= 0.3
    after = [one.item for one in weighed.search("red lamp", 10).results]
    assert [one["id"] for one in after] != before
    assert np.mean([one["price"] for one in after[:3]]) < np.mean(
        [one.item["price"] for one in index.search("red lamp", 3).results]
    )
    assert "price" in weighed.search("red lamp", 1).results[0].channels
    assert online.sessions == online.steps == 90
    lines = [json.loads(line) for line in (tmp_path / "w.log.jsonl").read_text().splitlines()]
    assert [line["session"] for line in lines] == list(range(1, 91)) and lines[0]["weights"]["lexical"] == 0.5
    assert lines[5]["query"] == "white lamp" and lines[59]["step"] == 59
    online.close()


def test_what_teaches_nothing_is_not_learned_and_wrong_pages_are_refused(index: Index, tmp_path: Path) -> None:
    weighed = with_online_weights(index, settings(tmp_path / "w.toml"))
    query, shown, clicked = shoppers(index, 1)[0]
    assert not learn_clicks(weighed, query, shown, [])
    assert not learn_clicks(weighed, query, [shown[0]], clicked[:0])
    assert not learn_clicks(weighed, query, ["x1", "x2"], ["x1"])  # not in the index
    assert not learn_clicks(weighed, "?!", shown, clicked)
    assert weighed.online is not None and weighed.online.sessions == 0
    assert weighed.in_mode("dense").online is weighed.online
    for arguments, said in (
        ((shown, ["x"]), "'x' is not among the shown"),
        (([shown[0], shown[0]], []), "occurs twice"),
        ((shown, clicked, [0, *range(1, len(shown))]), "a position from 1"),
    ):
        with pytest.raises(ValueError, match=said):
            learn_clicks(weighed, query, *arguments)
    weighed.online.close()
    with pytest.raises(ValueError, match="weights follow no clicks here"):
        learn_clicks(index, query, shown, clicked)


def test_off_is_off_and_still_weights_stay(index: Index, tmp_path: Path) -> None:
    file = settings(tmp_path / "w.toml")
    weighed = with_online_weights(index, file)
    pages = shoppers(weighed, 40)
    for page in pages:
        learn_clicks(weighed, *page)
    assert weighed.online is not None
    learned, moved = weighed.online.weights, [hit.item["id"] for hit in weighed.search("red lamp", 10).results]
    weighed.online.close()
    settings(file, learning=False)
    still = with_online_weights(index, file)
    assert still.online is not None and not learn_clicks(still, *pages[0])
    assert still.online.weights == learned and [h.item["id"] for h in still.search("red lamp", 10).results] == moved
    still.online.close()
    settings(file, active=False)
    off = with_online_weights(index, file)
    assert off.online is not None and not learn_clicks(off, *pages[0])
    plain = [(one.item["id"], one.score) for one in index.search("red lamp", 10).results]
    assert [(one.item["id"], one.score) for one in off.search("red lamp", 10).results] == plain
    off.online.close()


def test_a_log_that_cannot_be_written_freezes_the_weights(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weighed = with_online_weights(index, settings(tmp_path / "w.toml"))
    online, pages = weighed.online, shoppers(weighed, 12)
    assert online is not None
    for page in pages[:5]:
        learn_clicks(weighed, *page)
    before, content = online.weights, (tmp_path / "w.log.jsonl").read_bytes()
    whole = os.write
    monkeypatch.setattr(appending.os, "write", lambda handle, data: whole(handle, data[:20]))  # the disk is full
    assert not learn_clicks(weighed, *pages[5]) and not learn_clicks(weighed, *pages[6])
    assert online.weights == before and online.sessions == 5
    assert online.frozen is not None and "no space left on device" in online.frozen
    assert (tmp_path / "w.log.jsonl").read_bytes() == content  # nothing of the line is left
    assert caplog.text.count("weights are frozen") == 1
    monkeypatch.undo()
    assert learn_clicks(weighed, *pages[7]) and online.frozen is None and online.sessions == 6
    online.close()


def state_of(file: Path) -> tuple[dict[str, float], int, int]:
    online = OnlineWeights(file)
    try:
        return online.weights, online.sessions, online.steps
    finally:
        online._log.close()


def test_any_state_and_the_log_after_it_give_the_same_weights(index: Index, tmp_path: Path) -> None:
    for learner in ("adaptive", "dynamic"):
        file = settings(tmp_path / f"{learner}.toml", learner=learner, sessions_per_step=3)
        weighed = with_online_weights(index, file)
        online, pages = weighed.online, shoppers(weighed, 25)
        assert online is not None
        early = (tmp_path / f"{learner}.state.json").read_bytes()
        for page in pages:
            learn_clicks(weighed, *page)
        known = (online.weights, 25, 8)
        online.close()
        late = tmp_path / f"{learner}.state.json"
        assert state_of(file) == known
        late.write_bytes(early)
        assert state_of(file) == known  # all is read from the log
        late.unlink()
        assert state_of(file) == known
        log = tmp_path / f"{learner}.log.jsonl"
        whole = log.read_bytes()
        log.write_bytes(whole[:-30])  # a kill cut the last line: it was not learned from
        late.write_bytes(early)
        again = with_online_weights(index, file)
        assert again.online is not None and again.online.sessions == 24
        learn_clicks(again, *pages[24])
        assert again.online.sessions == 25 and again.online.weights == known[0]
        again.online.close()
        assert state_of(file) == known


def test_states_of_other_settings_gaps_and_second_servers_are_refused(index: Index, tmp_path: Path) -> None:
    file = settings(tmp_path / "w.toml")
    weighed = with_online_weights(index, file)
    online = weighed.online
    assert online is not None
    for page in shoppers(weighed, 4):
        learn_clicks(weighed, *page)
    with pytest.raises(ValueError, match="written by another process; one server at a time"):
        OnlineWeights(file)
    online.close()
    settings(file, most_moved=0.2)
    with pytest.raises(ValueError, match=r"was learned with most_moved 0\.8, .* says 0\.2; set it back, or remove"):
        OnlineWeights(file)
    settings(file)
    log = tmp_path / "w.log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    (tmp_path / "w.state.json").unlink()
    log.write_text("".join(lines[:1] + lines[2:]))
    with pytest.raises(ValueError, match="session 3 follows 1; lines are missing"):
        OnlineWeights(file)
    (tmp_path / "w.state.json").write_text('{"settings": {}}')
    with pytest.raises(ValueError, match="was learned with"):
        OnlineWeights(file)
    file.write_text('channels = ["lexical", "price"]\n')
    with pytest.raises(ValueError, match=r"w\.toml: channels: .*expected lexical and dense"):
        OnlineWeights(file)
    file.write_text("most_move = 0.5\n")
    with pytest.raises(ValueError, match="unknown setting 'most_move'; did you mean 'most_moved'"):
        OnlineWeights(file)
    words = Index(Store.create(tmp_path / "words", None, None))
    with pytest.raises(ValueError, match="searched by words alone"):
        with_online_weights(words, tmp_path / "other.toml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessions": "a"}, {"sessions": -5}, {"log_bytes": 1.5}, {"log_bytes": -1}, {"events_read": None},
        {"waiting": [["x"]]}, {"waiting": [[1.0]]}, {"learner": {}}, {"learner": []}, {"steps": True},
    ],
)  # fmt: skip
def test_a_state_of_other_numbers_is_refused_with_the_way_out(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = settings(tmp_path / "w.toml")
    OnlineWeights(file).close()
    path = tmp_path / "w.state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(ValueError, match=r"w\.state\.json: not a state of online weights .* to begin anew"):
        OnlineWeights(file)


def test_learned_numbers_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    file = settings(tmp_path / "w.toml", learner="adaptive")
    OnlineWeights(file).close()
    path = tmp_path / "w.state.json"
    state = json.loads(path.read_text())
    for play in ([[0.5, 0.5]], [[9.0, 0.5, 0.0, 0.0]], [["x", 0.5, 0.0, 0.0]]):
        changed = {**state["learner"], "experts": {**state["learner"]["experts"], "plays": play}}
        path.write_text(json.dumps({**state, "learner": changed}))
        with pytest.raises(ValueError, match=r"w\.state\.json: not a state of online weights .* to begin anew"):
            OnlineWeights(file)


@pytest.mark.parametrize("wrong", [{"session": "1"}, {"session": 1.0}, {"events_read": "x"}, {"events_read": -1}])
def test_a_line_of_other_numbers_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file = settings(tmp_path / "w.toml")
    line = {"session": 1, "gradient": [0.0] * 4, "events_read": 0, **wrong}
    (tmp_path / "w.log.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=r"w\.log\.jsonl: expected lines with session, gradient, events_read"):
        OnlineWeights(file)


def test_over_http_clicks_are_learned_and_what_is_wrong_is_said(index: Index, tmp_path: Path) -> None:
    weighed = with_online_weights(index, settings(tmp_path / "w.toml"))
    client = TestClient(create_app(live(weighed)), raise_server_exceptions=False)
    sessions = [
        {
            "query": query, "clicked": clicked,
            "shown": [{"item_id": item, "position": place} for place, item in enumerate(shown, start=1)],
        }
        for query, shown, clicked in shoppers(weighed, 6)
    ]  # fmt: skip
    answer = client.post("/clicks", json={"sessions": sessions})
    assert answer.status_code == 200, answer.json()
    told = answer.json()
    assert told["learned"] == 6 and told["steps"] == 3 and told["frozen"] is None
    assert client.get("/weights").json()["weights"] == told["weights"]
    filtered = {**sessions[0], "where": "price > 0 AND"}
    assert client.post("/clicks", json={"sessions": [sessions[1], filtered]}).status_code == 400
    assert client.post("/clicks", json={"sessions": [{**sessions[0], "query": "  "}]}).status_code == 422
    wrong = {**sessions[0], "clicked": ["nothing"]}
    refused = client.post("/clicks", json={"sessions": [sessions[1], wrong]})
    assert refused.status_code == 400 and "'nothing' is not among the shown" in refused.json()["message"]
    assert client.get("/weights").json()["sessions"] == 6  # the right one beside it was not learned either
    assert client.post("/clicks", json={"sessions": [{**sessions[0], "position": 1}]}).status_code == 422
    assert weighed.online is not None
    weighed.online.close()
    without = TestClient(create_app(live(index)), raise_server_exceptions=False)
    assert (
        "start the server with: goodrate serve DIR --online-weights FILE" in without.get("/weights").json()["message"]
    )


def line_of(page: tuple[str, list[str], list[str]]) -> str:
    query, shown, clicked = page
    places = [{"item_id": item, "position": place} for place, item in enumerate(shown, start=1)]
    return json.dumps({"query": query, "shown": places, "clicked": clicked}) + "\n"


def test_a_growing_file_is_read_once_whatever_happens_in_between(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, events = settings(tmp_path / "w.toml"), tmp_path / "events.jsonl"
    weighed = with_online_weights(index, file)
    online, pages = weighed.online, shoppers(weighed, 9)
    assert online is not None
    assert read_events(lambda: weighed.pipeline, events) == 0  # not there yet
    events.write_text("".join(map(line_of, pages[:4])) + line_of(pages[4])[:-9])
    assert read_events(lambda: weighed.pipeline, events) == 4
    events.write_text("".join(map(line_of, pages[:6])) + '{"query": "x"}\n' + line_of(pages[6]))
    assert read_events(lambda: weighed.pipeline, events) == 3 and "left out" in caplog.text
    assert read_events(lambda: weighed.pipeline, events) == 0 and online.sessions == 7
    online._log.close()  # as a kill does: the state is that of the beginning
    again = with_online_weights(index, file)
    assert again.online is not None and again.online.weights == online.weights
    with events.open("a") as more:
        more.write(line_of(pages[7]))
    assert read_events(lambda: again.pipeline, events) == 1 and again.online.sessions == 8
    events.write_text(line_of(pages[8]))
    assert read_events(lambda: again.pipeline, events) == 1 and "from its beginning" in caplog.text
    again.online.close()


SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_serving_online_weights import Signs
from goodrate.api.index import Index
from goodrate.api.online_weights import with_online_weights
from goodrate.api.serving import Limits, listen, live, run
from goodrate.retrieval.store import Store

opened = with_online_weights(Index(Store.open(sys.argv[2]), Signs()), sys.argv[3])
with listen("127.0.0.1", 0) as listener:
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    run(live(opened), listener)
"""


def start(index: Index, file: Path) -> tuple[subprocess.Popen[str], str]:
    arguments = [sys.executable, "-c", SERVER, str(Path(__file__).parent), str(index.store.path), str(file)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert re.match(r"http://", url)
    return process, url


def told(url: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.load(answer)


def test_a_file_waits_for_an_index_that_cannot_be_read(index: Index, tmp_path: Path, monkeypatch: Any) -> None:
    weighed = with_online_weights(index, settings(tmp_path / "w.toml"))
    events = tmp_path / "clicks.jsonl"
    events.write_text("".join(line_of(page) for page in shoppers(weighed, 2)))
    pipeline = weighed.pipeline

    def gone(*_: Any) -> Any:
        raise IndexUnavailable("the index is being changed")

    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "features", gone)
        with pytest.raises(IndexUnavailable):
            read_events(lambda: pipeline, events)
    assert read_events(lambda: pipeline, events) == 2 and read_events(lambda: pipeline, events) == 0
    assert weighed.online is not None
    weighed.online.close()


def test_a_killed_server_goes_on_with_what_it_had_answered(index: Index, tmp_path: Path) -> None:
    file = settings(tmp_path / "w.toml")
    bodies = [{"sessions": [json.loads(line_of(page))]} for page in shoppers(index, 16)]
    process, url = start(index, file)
    try:
        for body in bodies[:11]:
            before = told(f"{url}/clicks", body)
    finally:
        process.kill()  # SIGKILL
        process.wait(timeout=60)
    assert before["sessions"] == 11
    process, url = start(index, file)
    try:
        assert {**told(f"{url}/weights"), "learned": 1} == before
        for body in bodies[11:]:
            after = told(f"{url}/clicks", body)
    finally:
        process.kill()
        process.wait(timeout=60)
    whole = with_online_weights(index, settings(tmp_path / "whole.toml"))
    assert whole.online is not None
    for page in shoppers(index, 16):
        learn_clicks(whole, *page)
    assert after["weights"] == pytest.approx(whole.online.weights, abs=1e-12) and after["sessions"] == 16
    whole.online.close()


def test_the_options_of_serve_say_what_they_lack(index: Index, tmp_path: Path) -> None:
    words = tmp_path / "words"
    Store.create(words, None, None)
    for arguments, said in (
        (("--online-weights", str(tmp_path / "w.toml")), "searched by words alone: there is nothing to weigh"),
        (("--click-events", "clicks.jsonl"), "is for weights that follow clicks: --online-weights FILE"),
    ):
        answer = CliRunner().invoke(command, [str(words), "--port", "0", *arguments])
        assert isinstance(answer.exception, ValueError) and said in str(answer.exception)  # exit 2: test_bad_input.py
    assert not (tmp_path / "w.toml").exists()


def test_a_session_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="a position from 1 for each item"):
        ClickSession("q", ("a", "b"), (1,), ())
