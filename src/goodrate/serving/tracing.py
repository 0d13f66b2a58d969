"""OpenTelemetry: a span for each request, in the trace of the client that sent one, with the stages of its search."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from goodrate.relevance.verdicts import Verdict
from goodrate.serving.records import SearchResponse
from goodrate.serving.request_log import REQUEST_ID

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def otlp_provider() -> TracerProvider:
    """Spans go where the standard's variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, ...)."""
    name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "goodrate"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class StageAttributes:
    """Notes on the span of a request what its search did."""

    def searched(self, response: SearchResponse) -> None:
        """Stages in milliseconds and where the verdicts came from."""
        span = trace.get_current_span()
        for stage, milliseconds in response.latency_ms.items():
            span.set_attribute(f"goodrate.stage.{stage}_ms", round(milliseconds, 3))
        counts = {"cached": response.cached, "live": response.live, "failed": response.failed, "left": response.left}
        for name, count in counts.items():
            span.set_attribute(f"goodrate.verdicts.{name}", count)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """How many pairs were judged."""
        trace.get_current_span().set_attribute("goodrate.pairs", len(verdicts))


class Traced:
    """A server span around each request."""

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        """provider: an OpenTelemetry TracerProvider."""
        self._app, self._tracer = app, provider.get_tracer("goodrate.serving")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"], propagate.extract(sent), trace.SpanKind.SERVER, attributes=asked
        ) as span:

            async def noted_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(trace.StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, noted_send)
            finally:
                span.set_attribute("goodrate.request_id", REQUEST_ID.get() or "")
                route = getattr(scope.get("route"), "path", None)
                if route:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
