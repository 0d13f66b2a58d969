"""A model's turns: one at a time, the urgent first, nothing for who has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from goodrate.models.asker import ASKER, Asker, AskerGone, require_asker
from goodrate.models.worker import ENCODING, EXPLAINING, JUDGING, ModelWorker
from tiny_models import causal_lm


def worker(started: bool) -> ModelWorker:
    made = ModelWorker()
    if started:
        made.start()
    return made


def blocked(turns: ModelWorker) -> Callable[[], None]:
    """Keep a worker busy until the result is called."""
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go_on.wait(60)

    thread = threading.Thread(target=lambda: turns.call(hold, ENCODING))
    thread.start()
    assert inside.wait(60)

    def release() -> None:
        go_on.set()
        thread.join(60)

    return release


@pytest.mark.parametrize("started", [False, True])
def test_one_at_a_time_the_urgent_first_and_each_gets_its_own_result(started: bool) -> None:
    turns, done, inside = worker(started), [], threading.Semaphore(1)

    def work(name: str) -> str:
        assert inside.acquire(blocking=False), "two at once"
        done.append(name)
        threading.Event().wait(0.002)
        inside.release()
        return name

    release = blocked(turns)
    asked = [("reason", EXPLAINING), ("verdict", JUDGING), ("query", ENCODING), ("verdict 2", JUDGING)]
    futures = [turns.submit(lambda name=name: work(name), urgency) for name, urgency in asked]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(turns.wait, reversed(futures), timeout=None)) if not release() else []
    assert results == [name for name, _ in reversed(asked)]
    assert done == ["query", "verdict", "verdict 2", "reason"]
    turns.stop()


@pytest.mark.parametrize("started", [False, True])
def test_an_error_is_that_of_who_asked(started: bool) -> None:
    turns = worker(started)
    with pytest.raises(ZeroDivisionError):
        turns.call(lambda: 1 / 0, JUDGING)
    assert turns.call(lambda: 5, JUDGING) == 5
    turns.stop()
    assert turns.call(lambda: 6, JUDGING) == 6  # without a thread of its own again


@pytest.mark.parametrize("started", [False, True])
def test_what_is_no_exception_is_that_of_who_asked_too_and_the_turns_go_on(started: bool) -> None:
    class Panic(BaseException):
        """As libraries in Rust raise it."""

    def panic() -> None:
        raise Panic

    turns = worker(started)
    for _ in range(2):
        with pytest.raises(Panic):
            turns.call(panic, JUDGING)
    assert turns.call(lambda: 1, JUDGING) == 1
    turns.stop()


@pytest.mark.parametrize("started", [False, True])
def test_what_nobody_waits_for_is_not_begun(started: bool) -> None:
    turns, asker, begun, told = worker(started), Asker(), [], []

    def ask() -> None:
        ASKER.set(asker)
        try:
            turns.call(lambda: begun.append("dropped"), JUDGING)
        except AskerGone:
            told.append("gone")
            with pytest.raises(AskerGone):
                require_asker()
            with pytest.raises(AskerGone):  # and nothing is begun for one who has gone already
                turns.call(lambda: begun.append("late"), JUDGING)

    release = blocked(turns)
    thread = threading.Thread(target=ask)
    thread.start()
    while not turns._waiting:
        threading.Event().wait(0.001)
    asker.leave()
    thread.join(60)
    assert told == ["gone"]  # at once, while the worker is still busy
    release()
    assert turns.call(lambda: "next", JUDGING) == "next" and begun == []
    turns.stop()


def test_between_two_steps_one_more_urgent_thing_is_done() -> None:
    turns, done = worker(True), []

    def long() -> None:
        for step in range(3):
            if step == 1:
                turns.submit(lambda: done.append("verdict"), JUDGING)
                turns.submit(lambda: done.append("another reason"), EXPLAINING)
            turns.between(EXPLAINING)
            done.append(f"step {step}")

    turns.call(long, EXPLAINING)
    turns.call(lambda: None, EXPLAINING)
    assert done == ["step 0", "verdict", "step 1", "step 2", "another reason"]
    turns.stop()


def test_stopping_breaks_off_long_work_and_drops_the_rest() -> None:
    turns, inside = worker(True), threading.Event()

    def endless() -> None:
        inside.set()
        while True:
            turns.between(EXPLAINING)

    future, waiting = turns.submit(endless, EXPLAINING), turns.submit(lambda: None, EXPLAINING)
    assert inside.wait(60)
    turns.stop()
    with pytest.raises(AskerGone):
        future.result(60)
    assert waiting.cancelled() and not turns.started


def test_a_step_of_decoding_may_break_it_off() -> None:
    from goodrate.models.steps import between_steps

    lm, steps = causal_lm(), []

    def between() -> None:
        steps.append(len(steps))
        if len(steps) == 3:
            raise AskerGone

    with between_steps(between), pytest.raises(AskerGone):
        lm.generate(["red lamp"], 20, None)
    assert steps == [0, 1, 2]
    assert len(lm.generate(["red lamp"], 6, None)[0].token_ids) == 6 and len(steps) == 3
