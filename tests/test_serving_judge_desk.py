"""The judge's desk: shared batches, turns, what is dropped, and verdicts that do not depend on any of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from goodrate.models.asker import ASKER, Asker, AskerGone
from goodrate.models.steps import step_done
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge
from goodrate.relevance.lm_judge import Card, LmJudge
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Explanation
from goodrate.serving import judge_desk
from goodrate.serving.judge_desk import BATCH, ROUND, JudgeDesk
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import Overloaded, SearchRequest
from serving_shop import FakeJudge, FakeSearcher, FakeStore, fake_judge
from tiny_models import causal_lm

STEPS = 30


class Gate(FakeJudge):
    """A judge whose batches wait while the gate is shut, and whose reasons are written in steps."""

    def __init__(self) -> None:
        self.open, self.inside = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []  # the queries of each
        self.written: list[int] = []  # steps of reasons before each
        self.steps: list[str] = []  # the query of each step of a reason
        self.at_step: Callable[[int], None] = lambda step: None

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        self.batches.append([pair.query for pair in pairs])
        self.written.append(len(self.steps))
        self.inside.set()
        assert self.open.wait(60)
        if any(pair.query == "broken" for pair in pairs):
            raise RuntimeError("broken")
        return super().assess(pairs)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        for step in range(STEPS):
            self.steps.append(pairs[0].query)
            self.at_step(step)
            step_done()
        return super().explain(pairs, labels)


def pairs_of(query: str, count: int) -> list[Pair]:
    return [Pair(query, text_item(f"kettle {number}")) for number in range(count)]


class Busy:
    """A started desk that judges one pair while others come, until `release`."""

    def __init__(self) -> None:
        self.inner, self.desk = Gate(), JudgeDesk()
        self.judge = CalibratedJudge(self.inner)
        self.pool = ThreadPoolExecutor(20)
        self.desk.worker.start()
        self.first = self.ask("first", 1)
        assert self.inner.inside.wait(60)

    def ask(self, query: str, count: int, seconds: float | None = None, asker: Asker | None = None) -> Any:
        """Ask for so many verdicts in another thread; returns when they wait."""
        before = len(self.desk._open)
        context = copy_context()
        context.run(ASKER.set, asker)
        asked = self.pool.submit(context.run, self.desk.verdicts, self.judge, pairs_of(query, count), seconds)
        while len(self.desk._open) == before and not asked.done():
            threading.Event().wait(0.001)
        return asked

    def release(self) -> None:
        self.inner.open.set()
        self.first.result(60)


@pytest.fixture
def busy() -> Any:
    made = Busy()
    yield made
    made.inner.open.set()
    made.pool.shutdown()
    made.desk.worker.stop()


def sizes(busy: Busy) -> list[dict[str, int]]:
    """How many pairs of each query each batch after the first had."""
    return [{query: batch.count(query) for query in batch} for batch in busy.inner.batches[1:]]


def test_concurrent_searches_share_batches_of_bounded_size(busy: Busy) -> None:
    asked = [busy.ask(query, 15) for query in "abc"]
    busy.release()
    assert [len(one.result(60)[0]) for one in asked] == [15, 15, 15]
    assert sizes(busy) == [{"a": 15, "b": 15, "c": 10}, {"c": 5}] and BATCH == 40


def test_a_long_request_lets_those_that_came_later_get_a_turn(busy: Busy) -> None:
    long, short = busy.ask("long", ROUND + 3 * BATCH), busy.ask("short", 10)
    busy.release()
    short.result(60), long.result(60)
    rounds = ROUND // BATCH
    assert sizes(busy)[: rounds + 1] == [{"long": BATCH}] * rounds + [{"short": 10, "long": BATCH - 10}]


def test_what_is_stored_or_needs_no_verdict_waits_for_no_model(tmp_path: Path) -> None:
    inner = Gate()
    inner.open.set()
    judge = CalibratedJudge(inner, store=VerdictStore(tmp_path / "v.sqlite"))
    pipeline = SearchPipeline(FakeStore(), FakeSearcher(), judge)
    pipeline.start()
    fresh = pipeline.search(SearchRequest("shoes"))
    explained = pipeline.explain("shoes", pipeline.item("a1"))
    inner.open.clear()
    inner.inside.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pipeline.search, SearchRequest("new"))
        assert inner.inside.wait(60)
        cached = pipeline.search(SearchRequest("shoes"))
        assert (cached.cached, cached.live) == (5, 0) and [r.item for r in cached] == [r.item for r in fresh]
        assert len(pipeline.search(SearchRequest("other", mode="lexical", depth=0))) == 5
        assert pipeline.explain("shoes", pipeline.item("a1")).explanation == explained.explanation
        assert not waiting.done()
        inner.open.set()
        assert waiting.result(60).live == 5
    pipeline.stop()


def test_a_time_for_verdicts_ends_while_others_are_judged(busy: Busy) -> None:
    assert busy.desk.verdicts(busy.judge, pairs_of("q", 3), 0.01)[0] == [None] * 3
    assert not busy.first.done()
    busy.release()
    assert busy.inner.batches == [["first"]]


def test_the_wait_for_others_is_told_apart(busy: Busy) -> None:
    asked = busy.ask("q", 1)
    threading.Event().wait(0.05)
    busy.release()
    assert asked.result(60)[1] >= 0.05


def test_verdicts_that_nobody_waits_for_are_not_given(busy: Busy) -> None:
    asker = Asker()
    gone, stays = busy.ask("gone", 30, asker=asker), busy.ask("stays", 5)
    asker.leave()
    with pytest.raises(AskerGone):
        gone.result(60)
    busy.release()
    stays.result(60)
    assert sizes(busy) == [{"stays": 5}]


def test_an_error_is_that_of_one_request(busy: Busy) -> None:
    broken, whole = busy.ask("broken", 2), busy.ask("whole", 3)
    busy.release()
    with pytest.raises(RuntimeError, match="broken"):
        broken.result(60)
    assert None not in whole.result(60)[0]
    assert sizes(busy) == [{"broken": 2, "whole": 3}, {"broken": 2}, {"whole": 3}]


@pytest.mark.parametrize("started", [True, False])
def test_a_judge_that_panics_leaves_nobody_waiting(started: bool) -> None:
    class Panic(BaseException):
        """As libraries in Rust raise it."""

    class Panicking(FakeJudge):
        def assess(self, pairs: Sequence[Pair]) -> Assessment:
            if pairs[0].query == "broken":
                raise Panic
            return super().assess(pairs)

    desk, judge = JudgeDesk(), CalibratedJudge(Panicking())
    if started:
        desk.worker.start()
    with pytest.raises(Panic):
        desk.verdicts(judge, pairs_of("broken", 3))
    assert len(desk.verdicts(judge, pairs_of("whole", 3))[0]) == 3
    desk.worker.stop()


def test_too_much_is_refused_with_a_time_to_come_again(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_desk, "MOST_PAIRS", 20)
    busy.desk.pace.took(1, 0.5)
    asked = busy.ask("a", 19)
    with pytest.raises(Overloaded, match="20 verdicts are waited for") as refused:
        busy.desk.verdicts(busy.judge, pairs_of("b", 1))
    assert refused.value.seconds == pytest.approx(0.5 * 20)
    busy.release()
    asked.result(60)
    monkeypatch.setattr(judge_desk, "MOST_REASONS", 0)
    with pytest.raises(Overloaded, match="reasons"):
        busy.desk.explained(busy.judge, pairs_of("b", 1)[0])


def test_verdicts_are_given_between_the_steps_of_a_reason(busy: Busy) -> None:
    busy.release()

    def meanwhile(step: int) -> None:
        if step == 3:
            busy.ask("search", 2)
            while not busy.desk.worker._waiting:
                threading.Event().wait(0.001)

    busy.inner.at_step = meanwhile
    verdict = busy.desk.explained(busy.judge, pairs_of("why", 1)[0])
    assert verdict.explanation is not None and busy.inner.steps == ["why"] * STEPS
    assert sizes(busy) == [{"why": 1}, {"search": 2}]
    assert busy.inner.written[1:] == [0, 4]


def test_a_reason_that_nobody_waits_for_is_broken_off(busy: Busy) -> None:
    busy.release()
    asker = Asker()

    def meanwhile(step: int) -> None:
        if step == 3:
            asker.leave()

    busy.inner.at_step = meanwhile
    context = copy_context()
    context.run(ASKER.set, asker)
    with pytest.raises(AskerGone):
        context.run(busy.desk.explained, busy.judge, pairs_of("why", 1)[0])
    assert busy.inner.steps == ["why"] * 4
    assert busy.desk.explained(busy.judge, pairs_of("other", 1)[0]).explanation is not None


@pytest.mark.filterwarnings("ignore:.*not in the form that this judge was trained on")
def test_verdicts_are_equal_whatever_is_judged_beside_and_between() -> None:
    lm = causal_lm()
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    card = Card(scale="four_level", label_token_ids=tokens, stop_token_id=None, max_new_tokens=12)
    judge = calibrated_judge(LmJudge(lm, card, "print"), card)
    asked = {q: [Pair(q, text_item(f"lamp {n} of {q}" + " red" * n)) for n in range(13)] for q in ("red", "oak", "b c")}
    alone = {query: judge.pair_verdicts(pairs) for query, pairs in asked.items()}
    reason = judge.pair_verdicts(asked["red"][:1], reasons=True)[0]
    desk = JudgeDesk()
    desk.worker.start()
    with ThreadPoolExecutor(4) as pool:
        explained = pool.submit(desk.explained, judge, asked["red"][0])
        together = {query: pool.submit(desk.verdicts, judge, pairs) for query, pairs in asked.items()}
        assert {query: one.result(60)[0] for query, one in together.items()} == alone
        assert explained.result(60) == reason
    desk.worker.stop()


def test_the_judge_is_warmed_without_its_store(tmp_path: Path) -> None:
    judge = fake_judge(tmp_path / "v.sqlite")
    pipeline = SearchPipeline(FakeStore(), FakeSearcher(), judge)
    pipeline.judge_some("shoes")
    assert judge.store is not None and judge.store.counts() == {} and pipeline.desk.pace.takes(1) < 1.0
