"""What a server says of itself: metrics, request ids, JSON log lines, traces."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from goodrate.relevance.protocol import Assessment
from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.request_log import log_as_json
from serving_shop import FakeJudge, fake_judge, fake_pipeline


@pytest.fixture
def client(tmp_path: Any) -> TestClient:
    return TestClient(create_app(fake_pipeline(fake_judge(tmp_path / "v.sqlite"))), raise_server_exceptions=False)


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value of all that /metrics says."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_searches_verdicts_and_tiers_are_counted(client: TestClient) -> None:
    for _ in range(2):
        client.get("/search?query=red+shoes")
    seen = samples(client)
    # five items, of which one cannot be judged; the second search finds all five stored, the failure too
    assert seen["goodrate_verdicts_total", "live"] == 4 and seen["goodrate_verdicts_total", "failed"] == 2
    assert seen["goodrate_verdicts_total", "cached"] == 5 and seen["goodrate_verdicts_total", "left"] == 0
    # Trail and Road are Good, socks Mid, kettle Bad
    tiers = {name[1]: value for name, value in seen.items() if name[0] == "goodrate_results_total"}
    assert tiers == {"Good": 4, "Mid": 2, "Bad": 2, "failed": 2}
    for stage in ("wait", "retrieve", "judge", "rank", "total"):
        assert seen["goodrate_search_stage_seconds_count", stage] == 2
    assert seen["goodrate_http_requests_total", "GET", "/search", "200"] == 2
    assert seen["goodrate_http_request_seconds_count", "/search"] == 2
    assert seen["goodrate_index_up",] == 1 and seen["goodrate_verdicts_not_stored",] == 0
    assert seen["goodrate_http_requests_in_progress",] == 1  # this one


def test_pairs_are_counted_whoever_asks(client: TestClient) -> None:
    client.post("/v2/rerank", json={"query": "shoes", "documents": ["Trail", "polish"]})
    client.post("/judge", json={"pairs": [{"query": "shoes", "item_text": "Trail"}]})
    client.get("/explain?query=shoes&item_id=a1")
    seen = samples(client)
    assert seen["goodrate_verdicts_total", "live"] == 2  # Trail and a1
    assert seen["goodrate_verdicts_total", "cached"] == seen["goodrate_verdicts_total", "failed"] == 1


def test_routes_are_few_whatever_is_asked_for(client: TestClient) -> None:
    for path in ("/absent/1", "/absent/2", "/page.js", "/"):
        client.get(path)
    client.get("/search?query=")
    routes = {name[2] for name in samples(client) if name[0] == "goodrate_http_requests_total"}
    assert routes == {"page", "/search"}
    seen = samples(client)
    assert seen["goodrate_http_requests_total", "GET", "page", "404"] == 2
    assert seen["goodrate_http_requests_total", "GET", "/search", "422"] == 1


class Broken(FakeJudge):
    def assess(self, pairs: object) -> Assessment:
        raise RuntimeError("secret")


def test_an_unforeseen_error_is_counted_and_has_an_id() -> None:
    client = TestClient(create_app(fake_pipeline(fake_judge(judge=Broken()))))
    answer = client.get("/search?query=a", headers={"x-request-id": "mine-1"})
    assert answer.status_code == 500 and answer.headers["x-request-id"] == "mine-1"
    assert samples(client)["goodrate_http_requests_total", "GET", "/search", "500"] == 1


def test_a_request_id_is_echoed_or_made(client: TestClient) -> None:
    def given(sent: str | None) -> str:
        return client.get("/readyz", headers={"x-request-id": sent} if sent else {}).headers["x-request-id"]

    assert given("abc-1.2:3") == "abc-1.2:3"
    assert len(given(None)) == 32 and given(None) != given(None)
    for unsafe in ("a b", "x" * 129, "<script>"):  # what would get into a log or a page as it stands
        assert given(unsafe) != unsafe and len(given(unsafe)) == 32


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("goodrate")
    before = (root.handlers[:], root.level, ours.level)
    stream = io.StringIO()
    log_as_json(stream)
    yield stream
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(False)


def test_the_log_is_json_with_the_request_in_every_line(lines: io.StringIO) -> None:
    client = TestClient(create_app(fake_pipeline(fake_judge(judge=Broken()))))
    client.get("/search?query=private+words", headers={"x-request-id": "mine-2"})
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    error, access = [one for one in said if one["logger"].startswith("goodrate.")]
    assert error["level"] == "error" and "RuntimeError: secret" in error["exception"]
    assert error["request_id"] == access["request_id"] == "mine-2"
    told = {name: access[name] for name in ("method", "path", "status", "logger", "level")}
    assert told == {
        "method": "GET", "path": "/search", "status": 500, "logger": "goodrate.access", "level": "info",
    }  # fmt: skip
    assert access["ms"] > 0 and access["time"].endswith("+00:00")
    assert "private" not in json.dumps(access)  # what people look for is not in the log


def test_a_request_is_a_span_in_the_trace_of_its_client() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    client = TestClient(create_app(fake_pipeline(fake_judge()), Parts(tracer_provider=provider)))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    client.get("/search?query=a", headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "x-request-id": "m"})
    client.post("/v1/rerank", json={"query": "a", "documents": ["Trail", "Road"]})
    search, rerank = kept.get_finished_spans()
    assert search.name == "GET /search" and f"{search.context.trace_id:032x}" == trace_id
    told = dict(search.attributes or {})
    assert told["http.response.status_code"] == 200 and told["goodrate.request_id"] == "m"
    assert told["goodrate.verdicts.live"] == 5 and told["goodrate.stage.total_ms"] > 0
    assert rerank.name == "POST /v1/rerank" and dict(rerank.attributes or {})["goodrate.pairs"] == 2


def test_the_exporter_takes_its_address_from_the_standards_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from goodrate.api.serving import observed

    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-search")
    provider = observed(otel=True)
    assert provider.resource.attributes["service.name"] == "shop-search"
    provider.shutdown()
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    provider = observed(otel=True)
    assert provider.resource.attributes["service.name"] == "goodrate"
    provider.shutdown()
    assert observed() is None
