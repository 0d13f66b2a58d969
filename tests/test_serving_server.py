"""The server over real sockets: what takes too long or is too long, answers sent at once, hostile requests."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goodrate.api.serving import listen, server
from goodrate.serving.limits import Limits
from goodrate.serving.parts import Parts
from serving_shop import fake_judge, fake_pipeline

LIMITS = Limits(body=100_000, header_seconds=0.5, body_seconds=0.5, stop_seconds=1)


class Running:
    """A server on a free port, in a thread."""

    def __init__(self, limits: Limits, verdicts: Path | None = None) -> None:
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self.server = server(fake_pipeline(fake_judge(verdicts)), Parts(limits))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection on which some bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(sent)
        return connection

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """Status and JSON of a whole request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {"content-type": kind} if body is not None else {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=60)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    started = Running(LIMITS, tmp_path_factory.mktemp("serving") / "verdicts.sqlite")
    yield started
    started.stop()


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_answers_are_sent_at_once(running: Running) -> None:
    with running.connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        connection.recv(65536)
        accepted = [one.transport.get_extra_info("socket") for one in running.server.server_state.connections]
        assert accepted and all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in accepted)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_request_is_closed(running: Running, sent: bytes) -> None:
    start = time.monotonic()
    assert everything(running.connect(sent)) == b"" and 0.4 < time.monotonic() - start < 30


def test_a_half_second_request_is_closed_too(running: Running) -> None:
    connection = running.connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.status == 200 and answer.read()
    connection.sendall(b"GET /hea")
    assert everything(connection) == b""


WHOLE = b'{"query": "shoes", "documents": ["Trail", "kettle"]}'
FIELDS = f"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(WHOLE)}"
HALF = FIELDS.encode() + b"\r\n\r\n" + WHOLE[:9]


def test_a_body_that_does_not_arrive_is_answered(running: Running) -> None:
    answer = everything(running.connect(HALF))
    assert answer.startswith(b"HTTP/1.1 408") and b"the body did not arrive within 0.5 seconds" in answer


def test_a_body_that_is_too_long_is_refused_whatever_it_announces(running: Running) -> None:
    parts = [b"x" * 60_000] * 3
    for body in (b"".join(parts), iter(parts)):
        status, answer = running.ask("POST", "/v1/rerank", body)
        assert status == 413 and "more than 100,000 bytes; --max-body" in answer["message"] and answer["errors"] == []
    waiting = b"POST /judge HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 500000\r\n\r\n"
    assert everything(running.connect(waiting)).startswith(b"HTTP/1.1 413")
    longest = json.dumps({"query": "a", "documents": ["x" * 99_000]})
    assert running.ask("POST", "/v1/rerank", longest)[0] == 200


def test_a_half_sent_body_does_not_keep_a_server_from_stopping() -> None:
    started = Running(Limits(stop_seconds=1, body_seconds=600))
    with started.connect(HALF):
        time.sleep(0.2)
        started.stop()
        assert not started.thread.is_alive()


def test_requests_under_way_are_finished_when_the_server_stops() -> None:
    started = Running(Limits(stop_seconds=60))
    with started.connect(HALF) as connection:
        time.sleep(0.2)
        started.server.should_exit = True
        time.sleep(0.3)
        connection.sendall(WHOLE[9:])
        assert everything(connection).startswith(b"HTTP/1.1 200")
    started.thread.join(timeout=60)
    assert not started.thread.is_alive()


RERANK = {"query": "a", "documents": ["b"]}
BODIES = {"/search": {"query": "a"}, "/judge": {"pairs": [{"query": "a", "item_text": "b"}]}, "/v1/rerank": RERANK}
BODIES |= {"/explain": {"query": "a", "item_text": "b"}, "/rerank": {"query": "a", "texts": ["b"]}}
BODIES |= {"/v2/rerank": RERANK, "/v1/score": {"text_1": "a", "text_2": ["b"]}}


@pytest.mark.parametrize("path", sorted(BODIES))
def test_hostile_bodies_are_refused_by_name(running: Running, path: str) -> None:
    whole = json.dumps(BODIES[path])
    assert running.ask("POST", path, whole)[0] == 200
    cases: list[tuple[str | bytes, int, str]] = [
        ("[" * 50_000, 400, "the body: not valid JSON"),
        ('{"a":' * 20_000, 400, "the body: not valid JSON"),
        (whole[:-1] + ', "top_n": NaN}', 400, "NaN"),
        (whole[:-1] + ', "top_n": -Infinity}', 400, "-Infinity"),
        (whole[:-1] + ', "top_n": 1e999}', 400, "1e999"),
        (whole[:-1] + ', "k": ' + "9" * 5000 + "}", 400, "the body: not valid JSON"),
        (b'{"query": "\xff"}', 400, "can't decode byte 0xff"),
        ('{"query": "\\ud800"}', 400, "surrogate"),
        ('{"query": "a", "query": "b"}', 400, "'query' occurs twice"),
        (whole[:-1], 400, "character"),
        ("null", 422, "request: "),
        ("[]", 422, "request: "),
        ('{"query": null}', 422, ""),
    ]
    for body, status, said in cases:
        answer = running.ask("POST", path, body)
        assert answer[0] == status and said in answer[1]["message"], (body[:60], answer)
    for kind in ("text/plain", "multipart/form-data; boundary=x", "", "application/x-www-form-urlencoded"):
        status, answer = running.ask("POST", path, whole, kind)
        assert status == 415 and "expected a body with content-type application/json" in answer["message"]
    assert running.ask("POST", path, whole, "application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    "asked",
    [
        "k=99999999999999999999", f"k={'9' * 5000}", "k=-1", "k=1e9", "k=%00", "k=", "depth=501", "mode=%00",
        "where=%00", "where=%ff", "query=", "query=%20", f"query={'a' * 501}", f"where={'(' * 20_000}", "x=1",
    ],
)  # fmt: skip
def test_hostile_addresses_are_refused(running: Running, asked: str) -> None:
    status, answer = running.ask("GET", f"/search?query=shoes&{asked}")
    assert status in (400, 422) and answer["message"]


@pytest.mark.parametrize("query", ["%00", "%ff%fe", "%F0%9F%98%80", "%21%21", "a%0d%0ab"])
def test_odd_queries_are_answered(running: Running, query: str) -> None:
    assert running.ask("GET", f"/search?query={query}")[0] == 200


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        (None, 422, "documents.0"),
        (5, 422, "documents.0"),
        ({"text": None}, 400, "documents[0].text: expected a text or a number, found null"),
        ({"text": ["a"]}, 400, 'documents[0].text: expected a text or a number, found ["a"]'),
        ({"text": True}, 400, "found true"),
        ({}, 400, "documents[0] has no field 'text'"),
        ({"text": 5}, 200, ""),
    ],
)
def test_documents_that_are_no_texts_are_not_judged(running: Running, document: Any, status: int, said: str) -> None:
    answer = running.ask("POST", "/v1/rerank", json.dumps({"query": "a", "documents": [document]}))
    assert answer[0] == status and said in answer[1].get("message", "")


def test_what_is_no_http_is_refused_and_the_server_goes_on(running: Running) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
        assert everything(running.connect(sent)).startswith(b"HTTP/1.1 400")
    assert running.ask("GET", "/healthz")[0] == 200
