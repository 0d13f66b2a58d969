"""A time for verdicts: stored ones first, then the best candidates while it lasts, the others counted and placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Item, Pair, item_texts, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Explanation
from goodrate.scale import FOUR_LEVEL
from goodrate.serving import judge_budget
from goodrate.serving.http import create_app
from goodrate.serving.judge_budget import FIRST, JudgePace
from goodrate.serving.judge_desk import JudgeDesk
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import SearchRequest
from serving_shop import CATALOGUE, FakeSearcher, FakeStore, Hit, fake_judge, fake_pipeline, hit_at

ROWS = {"good": (0.0, 0.0, 0.0, 1.0), "bad": (1.0, 0.0, 0.0, 0.0)}
ITEMS = ["good", "bad", "bad", "good", "good", "bad", "good", "bad", "bad", "bad"]  # in order of retrieval


class TimedJudge:
    """A judge whose batches take `start` + n * `each` seconds of a clock that only it turns."""

    scale = FOUR_LEVEL
    identity: Mapping[str, Any] = {"timed": 1}

    def __init__(self, start: float = 0.02, each: float = 0.01) -> None:
        self.start, self.each, self.now = start, each, 0.0
        self.batches: list[list[str]] = []

    def clock(self) -> float:
        return self.now

    def reads(self, items: Sequence[Item]) -> list[str]:
        return item_texts(items, "text")

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        texts = self.reads([pair.item for pair in pairs])
        self.batches.append(texts)
        self.now += self.start + self.each * len(pairs)
        return Assessment.of(np.asarray([ROWS[text.split()[0]] for text in texts]))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        return []


def pairs_of(count: int) -> list[Pair]:
    return [Pair("q", text_item(f"good {number}")) for number in range(count)]


def test_the_time_is_held_once_the_speed_is_known() -> None:
    inner = TimedJudge()
    judge, desk = CalibratedJudge(inner), JudgeDesk(inner.clock)
    desk.verdicts(judge, pairs_of(20), 60.0)  # learns the speed
    before = inner.now
    verdicts, waited = desk.verdicts(judge, pairs_of(50), 0.2)
    assert waited == 0
    done = [verdict is not None for verdict in verdicts]
    assert inner.now - before <= 0.2 + 1e-9
    assert done == sorted(done, reverse=True)  # the best candidates, without a gap
    # 200 ms: 9 of the 18 that fit, then of the 90 ms left 4 of 7, 1 of the 1 that fit into the 30 ms left
    assert sum(done) == 9 + 4 + 1
    assert [len(batch) for batch in inner.batches[-3:]] == [9, 4, 1]


def test_without_a_known_speed_it_begins_small_and_without_time_it_judges_nothing() -> None:
    inner = TimedJudge()
    judge = CalibratedJudge(inner)
    assert JudgeDesk(inner.clock).verdicts(judge, pairs_of(3), 0.0) == ([None] * 3, 0.0) and inner.batches == []
    JudgeDesk(inner.clock).verdicts(judge, pairs_of(50), 0.035)
    assert [len(batch) for batch in inner.batches] == [FIRST // 2]
    assert None not in JudgeDesk(inner.clock).verdicts(judge, pairs_of(5), 60.0)[0]


def test_a_slow_hour_is_forgotten() -> None:
    pace = JudgePace()
    for _ in range(judge_budget.REMEMBERED):
        pace.took(1, 9.0)
    refused = 0
    while not pace.fits(0.2):
        refused += 1
    assert refused == judge_budget.REMEMBERED and pace.fits(0.2) == FIRST


@settings(deadline=None)
@given(
    start=st.floats(0.0, 0.1), each=st.floats(0.001, 0.1), seconds=st.floats(0.0, 1.0),
    seen=st.lists(st.integers(1, 40), min_size=1, max_size=40),
)  # fmt: skip
def test_predictions_never_promise_more_than_a_steady_judge_does(
    start: float, each: float, seconds: float, seen: list[int]
) -> None:
    pace = JudgePace()
    for count in seen:
        pace.took(count, start + each * count)
    fitting = pace.fits(seconds)
    # batches of one size tell nothing of what each begins with: more of them than were seen are promised too few
    if len(set(seen)) > 1 or fitting >= seen[0]:
        assert start + each * fitting <= seconds + 1e-6 or fitting == 0


class TenItems(FakeStore):
    """A catalogue whose titles say what the judge thinks of them."""

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        titles = [f"{ITEMS[int(item_id)]} {item_id}" for item_id in ids]
        blank = CATALOGUE.row(0, named=True) | {"brand": "", "category": "", "description": "", "attributes": "{}"}
        return pl.DataFrame([{**blank, "id": i, "title": t} for i, t in zip(ids, titles, strict=True)])


class TenFound(FakeSearcher):
    def find(self, read: Any, k: int, where: str | None = None, mode: str = "hybrid") -> list[Hit]:
        return [hit_at(place + 1, str(place)) for place in range(len(ITEMS))][:k]


@pytest.fixture
def clocked() -> TimedJudge:
    """A judge of 10 ms a pair."""
    return TimedJudge(start=0.0, each=0.01)


def timed(judge: CalibratedJudge, clock: TimedJudge, judge_ms: float | None = None) -> SearchPipeline:
    """A pipeline whose judge's clock is that of its time for verdicts; one pair is known to take 10 ms."""
    pipeline = SearchPipeline(TenItems(), TenFound(), judge, judge_ms=judge_ms)
    pipeline.desk = JudgeDesk(clock.clock)
    pipeline.desk.pace.took(1, 0.01)
    return pipeline


def test_unjudged_results_stand_below_good_and_mid_and_above_bad(clocked: TimedJudge) -> None:
    pipeline = timed(CalibratedJudge(clocked), clocked, judge_ms=45)
    response = pipeline.search(SearchRequest("q", k=10, depth=10))
    # 45 ms: 2 of the 4 that fit, 1 of 2, 1 of 1: places 0 to 3 are judged good, bad, bad, good
    assert [r.item["id"] for r in response] == ["0", "3", "4", "5", "6", "7", "8", "9", "1", "2"]
    assert (response.judged, response.live, response.cached, response.left) == (4, 4, 0, 6)
    assert [r.verdict.tier if r.verdict else None for r in response] == ["Good"] * 2 + [None] * 6 + ["Bad"] * 2
    assert response.request.judge_ms == 45
    whole = pipeline.search(SearchRequest("q", k=10, depth=10, judge_ms=1e9))
    assert (whole.judged, whole.left) == (10, 0)
    assert [r.item["id"] for r in whole] == ["0", "3", "4", "6", "1", "2", "5", "7", "8", "9"]


def test_stored_verdicts_cost_nothing_wherever_they_stand(clocked: TimedJudge, tmp_path: Path) -> None:
    judge = CalibratedJudge(clocked, store=VerdictStore(tmp_path / "v.sqlite"))
    pipeline = timed(judge, clocked)
    judge.judge("q", TenItems().items(["6", "9"]).to_dicts())
    clocked.batches.clear()
    response = pipeline.search(SearchRequest("q", k=10, depth=10, judge_ms=0))
    assert clocked.batches == [] and (response.judged, response.cached, response.live, response.left) == (2, 2, 0, 8)
    assert [r.item["id"] for r in response] == ["6", "0", "1", "2", "3", "4", "5", "7", "8", "9"]
    again = pipeline.search(SearchRequest("q", k=10, depth=10, judge_ms=25))
    assert clocked.batches == [["good 0"], ["bad 1"]] and (again.cached, again.live, again.left) == (2, 2, 6)
    # what was judged within the time is stored: a page that is asked for again comes further
    third = pipeline.search(SearchRequest("q", k=10, depth=10, judge_ms=25))
    assert (third.cached, third.live, third.left) == (4, 2, 4)


def test_a_failure_is_an_answer_and_is_not_asked_for_again(tmp_path: Path) -> None:
    pipeline = fake_pipeline(fake_judge(tmp_path / "v.sqlite"))
    first = pipeline.search(SearchRequest("shoes", judge_ms=60_000))
    again = pipeline.search(SearchRequest("shoes", judge_ms=0))
    assert (first.judged, first.failed, first.live, first.left) == (4, 1, 5, 0)
    assert (again.judged, again.failed, again.live, again.left) == (4, 1, 0, 0)


def test_sorting_by_price_keeps_what_was_not_judged_in_time(clocked: TimedJudge) -> None:
    pipeline = timed(CalibratedJudge(clocked), clocked)
    response = pipeline.search(SearchRequest("q", k=10, depth=10, sort="price", judge_ms=45))
    # scores fall from 8 to -1: half of the best are 4 and more, places 0 to 4; 1 and 2 are judged bad
    assert [r.item["id"] for r in response][:3] == ["0", "3", "4"] and "1" not in [r.item["id"] for r in response]


def test_wrong_times_are_refused_and_http_says_what_was_done() -> None:
    pipeline = fake_pipeline(fake_judge())
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            pipeline.search(SearchRequest("shoes", judge_ms=wrong))
    client = TestClient(create_app(pipeline))
    answer = client.get("/search", params={"query": "shoes", "judge_ms": 0}).json()
    assert (answer["judge_ms"], answer["judged"], answer["live"], answer["left"]) == (0, 0, 0, 5)
    plain = client.get("/search", params={"query": "shoes"}).json()
    assert (plain["judge_ms"], plain["judged"], plain["live"], plain["left"]) == (None, 4, 5, 0)
    assert client.get("/search", params={"query": "shoes", "judge_ms": -5}).status_code == 422


def test_a_server_measures_its_judge_before_the_first_search(tmp_path: Path) -> None:
    judge = fake_judge(tmp_path / "v.sqlite")
    pipeline = fake_pipeline(judge)
    pipeline.judge_some("shoes")
    assert pipeline.desk.pace.fits(60.0) > FIRST
    assert judge.store is not None and judge.store.counts() == {}  # nobody asked: nothing is stored
    fake_pipeline().judge_some("shoes")  # without a judge there is nothing to measure
