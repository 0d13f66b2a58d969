"""The HTTP application over one index: the routes of its parts, and the page at /."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from goodrate.serving.access import Guard
from goodrate.serving.bodies import BodyLimit, StrictRoute
from goodrate.serving.clicks import add_clicks
from goodrate.serving.embedding_routes import add_embeddings
from goodrate.serving.errors import add_errors
from goodrate.serving.health_routes import add_health
from goodrate.serving.judging_routes import add_judging
from goodrate.serving.live import LivePipeline
from goodrate.serving.metrics import Measured, Metrics, add_metrics
from goodrate.serving.observing import Observer, Observers
from goodrate.serving.parts import Parts
from goodrate.serving.pictures import PicturePolicy
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.request_log import HEADER, RequestLog
from goodrate.serving.rerank_routes import add_rerank
from goodrate.serving.safety import Safety
from goodrate.serving.search_routes import add_search

PAGE = Path(__file__).parent / "page"


def create_app(pipeline: SearchPipeline | LivePipeline, parts: Parts | None = None) -> FastAPI:
    """The application over a loaded pipeline, or over one that is made anew when its index changes.

    Endpoints are plain functions, so that the framework runs them in its thread pool; the pipeline locks the models.
    /docs is off because it would load scripts from the internet; /openapi.json describes the API.
    """
    parts = parts or Parts()
    app = FastAPI(title="goodrate", version=version("goodrate"), docs_url=None, redoc_url=None)
    app.router.route_class = StrictRoute
    current = pipeline.current if isinstance(pipeline, LivePipeline) else lambda: pipeline
    metrics = Metrics(current)
    seen = Observers([metrics, *_traces(parts)])
    add_errors(app)
    add_search(app, current, seen)
    add_judging(app, current, seen)
    add_rerank(app, current, seen)
    add_embeddings(app, current, parts.encoder)
    add_clicks(app, current)
    add_health(app, current)
    add_metrics(app, metrics)

    _add_layers(app, parts, metrics, PicturePolicy(lambda: current().store))
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_layers(app: FastAPI, parts: Parts, metrics: Metrics, pictures: PicturePolicy) -> None:
    """What stands around the routes, from the inside out."""
    app.add_middleware(BodyLimit, limits=parts.limits)
    if parts.access is not None:
        app.add_middleware(Guard, access=parts.access)
        app.add_middleware(
            CORSMiddleware, allow_origins=parts.access.origins, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", HEADER], expose_headers=[HEADER, "X-Goodrate-Warnings"],
        )  # fmt: skip
    app.add_middleware(Measured, metrics=metrics)
    if parts.tracer_provider is not None:
        from goodrate.serving.tracing import Traced

        app.add_middleware(Traced, provider=parts.tracer_provider)
    app.add_middleware(Safety, pictures=pictures)
    app.add_middleware(RequestLog)


def _traces(parts: Parts) -> list[Observer]:
    if parts.tracer_provider is None:
        return []
    from goodrate.serving.tracing import StageAttributes

    return [StageAttributes()]
