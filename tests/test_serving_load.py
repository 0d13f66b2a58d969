"""A server under load, over real sockets: refused with a time to come again, never silent, nothing for who has gone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from goodrate.api.serving import listen, server
from goodrate.relevance.judge import CalibratedJudge
from goodrate.serving.limits import Limits
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from serving_shop import FakeSearcher, FakeStore
from test_serving_judge_desk import STEPS, Gate

REQUESTS = 4


class Loaded:
    """A server whose judge answers once its gate is open."""

    def __init__(self) -> None:
        self.judge = Gate()
        self.pipeline = SearchPipeline(FakeStore(), FakeSearcher(), CalibratedJudge(self.judge))
        self.pipeline.start()
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server = server(self.pipeline, Parts(limits=Limits(requests=REQUESTS, stop_seconds=1)))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started)

    def ask(self, path: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def leave(self, path: str, when: Callable[[], bool]) -> None:
        """Ask, and hang up once something has come about."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_for(when)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something has come about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    made = Loaded()
    yield made
    made.judge.open.set()
    made.server.should_exit = True
    made.thread.join(60)
    made.pipeline.stop()


def test_too_many_requests_are_refused_and_health_and_words_are_not_kept_waiting(loaded: Loaded) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        judged = [pool.submit(loaded.ask, f"/search?query=q{n}") for n in range(REQUESTS - 1)]
        wait_for(lambda: len(loaded.pipeline.desk._open) == REQUESTS - 1)
        assert loaded.ask("/search?query=shoes&depth=0")[0] == 200
        judged.append(pool.submit(loaded.ask, "/explain?query=shoes&item_id=a1"))
        wait_for(lambda: loaded.pipeline.desk._reasons == 1)
        status, headers, answer = loaded.ask("/search?query=shoes&depth=0")
        assert status == 429 and int(headers["retry-after"]) >= 1 and "4 requests" in answer["message"]
        assert "content-security-policy" in headers
        assert loaded.ask("/healthz")[::2] == (200, loaded.ask("/healthz")[2])
        loaded.judge.open.set()
        assert [one.result(60)[0] for one in judged] == [200] * REQUESTS
    assert loaded.ask("/search?query=shoes&depth=0")[0] == 200


def test_what_a_client_waited_for_is_dropped_when_it_hangs_up(loaded: Loaded) -> None:
    desk = loaded.pipeline.desk
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(loaded.ask, "/search?query=first")
        assert loaded.judge.inside.wait(60)
        loaded.leave("/search?query=gone", lambda: len(desk._open) == 2)
        wait_for(lambda: len(desk._open) == 1)  # while the judge is still busy
        loaded.judge.open.set()
        assert first.result(60)[0] == 200
    assert loaded.judge.batches == [["first"] * 5]


def test_a_reason_is_broken_off_when_the_client_hangs_up(loaded: Loaded) -> None:
    loaded.judge.open.set()
    left = threading.Event()

    def at_step(step: int) -> None:
        if step == 3:  # the others follow once the server has noticed
            left.set()
            wait_for(lambda: not loaded.server.server_state.connections)

    loaded.judge.at_step = at_step
    loaded.leave("/explain?query=why&item_id=a1", left.is_set)
    wait_for(lambda: loaded.pipeline.desk._reasons == 0)
    assert 4 <= len(loaded.judge.steps) < STEPS
    loaded.judge.at_step = lambda step: None
    assert loaded.ask("/explain?query=why&item_id=a1")[0] == 200


def test_too_many_verdicts_are_refused(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.serving.judge_desk.MOST_PAIRS", 8)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(loaded.ask, "/search?query=first")
        assert loaded.judge.inside.wait(60)
        status, headers, answer = loaded.ask("/search?query=second")
        assert status == 429 and int(headers["retry-after"]) >= 5 and "5 verdicts are waited for" in answer["message"]
        loaded.judge.open.set()
        assert first.result(60)[0] == 200
