"""/metrics in Prometheus' text format: requests, stages of searches, verdicts and tiers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from goodrate.relevance.verdicts import Verdict
from goodrate.serving.load import beside_searches
from goodrate.serving.parts import Current
from goodrate.serving.records import SearchResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # upper bounds of the buckets
STAGES = "Seconds of a search by stage (wait, retrieve, judge, rank, ...); total is all of it"
VERDICTS = "Verdicts by source: cached (stored before), live (asked now), failed (no label), left (no time for them)"
RESULTS = "Results shown by tier: Good, Mid, Bad, failed (no label) or unjudged"


class Metrics:
    """The numbers of one application, in a registry of its own."""

    def __init__(self, current: Current) -> None:
        """current: the pipeline of now, asked when somebody reads."""
        self.registry = made = CollectorRegistry()
        self._current = current
        labels = ["method", "route", "status"]
        self.requests = Counter("goodrate_http_requests", "Requests answered", labels, registry=made)
        self.seconds = Histogram(
            "goodrate_http_request_seconds", "Seconds from request to answer", ["route"], buckets=SECONDS, registry=made
        )
        self.under_way = Gauge("goodrate_http_requests_in_progress", "Requests not answered yet", registry=made)
        self.stages = Histogram("goodrate_search_stage_seconds", STAGES, ["stage"], buckets=SECONDS, registry=made)
        self.verdicts = Counter("goodrate_verdicts", VERDICTS, ["source"], registry=made)
        self.results = Counter("goodrate_results", RESULTS, ["tier"], registry=made)
        lost = Gauge("goodrate_verdicts_not_stored", "Verdicts that were given and could not be kept", registry=made)
        lost.set_function(self._not_stored)
        up = Gauge("goodrate_index_up", "1 while the index can be searched", registry=made)
        up.set_function(self._up)

    def searched(self, response: SearchResponse) -> None:
        """Note a search."""
        for stage, milliseconds in response.latency_ms.items():
            self.stages.labels(stage).observe(milliseconds / 1000)
        # of what was looked up and what was asked now, failures are counted apart
        live = max(0, response.live - response.failed)
        for source, count in (("cached", response.cached), ("live", live), ("failed", response.failed)):
            self.verdicts.labels(source).inc(count)
        self.verdicts.labels("left").inc(response.left)
        for result in response:
            self.results.labels(_tier(result.verdict)).inc()

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Note verdicts of pairs."""
        for verdict in verdicts:
            source = "failed" if verdict.label is None else "cached" if verdict.cached else "live"
            self.verdicts.labels(source).inc()

    def _not_stored(self) -> float:
        try:
            judge = self._current().judge
        except (ValueError, OSError, RuntimeError):
            return 0.0
        return float(getattr(judge.store, "not_stored", 0)) if judge else 0.0

    def _up(self) -> float:
        try:
            self._current().count()
        except (ValueError, OSError, RuntimeError):
            return 0.0
        return 1.0


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Give an application /metrics."""

    @app.get("/metrics", include_in_schema=False)
    async def read() -> Response:
        text = await beside_searches(lambda: generate_latest(metrics.registry))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class Measured:
    """Counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status = time.perf_counter(), 500  # what an error that nobody answers becomes

        async def noted_send(message: Message) -> None:
            nonlocal status
            status = message["status"] if message["type"] == "http.response.start" else status
            await send(message)

        with self._metrics.under_way.track_inprogress():
            try:
                await self._app(scope, receive, noted_send)
            finally:
                route = route_of(scope)
                self._metrics.requests.labels(scope["method"], route, str(status)).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)


def route_of(scope: Scope) -> str:
    """The route that answered: one of few, whatever is asked for; "page" for files of the page and for what is not."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "page"


def _tier(verdict: Verdict | None) -> str:
    return "unjudged" if verdict is None else verdict.tier or "failed"
