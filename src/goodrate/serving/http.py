"""The HTTP application over one index: the routes of its parts, and the page at /."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from goodrate.serving.access import Guard
from goodrate.serving.api_description import add_description
from goodrate.serving.bodies import BodyLimit, StrictRoute
from goodrate.serving.clicks import add_clicks
from goodrate.serving.clip_routes import add_clips
from goodrate.serving.embedding_routes import add_embeddings
from goodrate.serving.errors import add_errors
from goodrate.serving.health_routes import add_health
from goodrate.serving.image_routes import add_images
from goodrate.serving.interleaving import add_traffic
from goodrate.serving.judging_routes import add_judging
from goodrate.serving.live import LivePipeline
from goodrate.serving.load import add_load
from goodrate.serving.metrics import Measured, Metrics, add_metrics
from goodrate.serving.observing import Observer, Observers
from goodrate.serving.parts import Parts
from goodrate.serving.pictures import PicturePolicy
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.ranker import add_ranker
from goodrate.serving.request_log import HEADER, RequestLog
from goodrate.serving.rerank_routes import add_rerank
from goodrate.serving.safety import Safety
from goodrate.serving.search_routes import add_search
from goodrate.serving.workbench.comparison_routes import add_comparisons
from goodrate.serving.workbench.comparisons import Comparisons, SetPictures
from goodrate.serving.workbench.routes import WORKBENCH_PAGES, add_pages, add_workbench
from goodrate.serving.workbench.store import Workbench

PAGE = Path(__file__).parent / "page"
PAGE_PATHS = ("/", "/index.html", *(f"/{name}/" for name in WORKBENCH_PAGES))
COMPARE_PATH = "/compare/"


def create_app(pipeline: SearchPipeline | LivePipeline, parts: Parts | None = None) -> FastAPI:
    """The application over a loaded pipeline, or over one that is made anew when its index changes.

    Endpoints are plain functions, so that the framework runs them in its thread pool; models have their own turns.
    /docs is off because it would load scripts from the internet; /openapi.json describes the API.
    """
    parts = parts or Parts()
    app = FastAPI(title="goodrate", version=version("goodrate"), docs_url=None, redoc_url=None)
    app.router.route_class = StrictRoute
    current = pipeline.current if isinstance(pipeline, LivePipeline) else lambda: pipeline
    metrics = Metrics(current)
    seen = Observers([metrics, *_traces(parts)])
    add_errors(app)
    add_search(app, current, seen, parts.interleaving)
    add_judging(app, current, seen)
    add_rerank(app, current, seen)
    add_embeddings(app, current, parts.encoder)
    add_clicks(app, current)
    add_health(app, current)
    add_metrics(app, metrics)
    add_workbench(app, current, parts.workbench, parts.labels)
    add_traffic(app, parts.interleaving)
    add_ranker(app, current)
    add_images(app, current)
    add_clips(app, current, parts.clips)
    add_description(app)

    pictures = dict.fromkeys(PAGE_PATHS, PicturePolicy(lambda: current().store).sources)
    if parts.workbench is not None:
        pictures[COMPARE_PATH] = SetPictures(Comparisons(parts.workbench)).sources
    _add_layers(app, parts, metrics, pictures)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def create_compare_app(workbench: Workbench, parts: Parts | None = None) -> FastAPI:
    """The application of a workbench without an index: its page /compare/ alone."""
    app = FastAPI(title="goodrate", version=version("goodrate"), docs_url=None, redoc_url=None)
    app.router.route_class = StrictRoute
    kept = Comparisons(workbench)
    add_errors(app)
    add_comparisons(app, lambda: kept)
    add_description(app)
    add_pages(app, {"compare": WORKBENCH_PAGES["compare"]}, search=False)

    @app.get("/")
    def start() -> RedirectResponse:
        """To the one page."""
        return RedirectResponse("compare/", 307)

    _add_layers(app, parts or Parts(), None, {COMPARE_PATH: SetPictures(kept).sources})
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_layers(
    app: FastAPI, parts: Parts, metrics: Metrics | None, pictures: Mapping[str, Callable[[], str]]
) -> None:  # fmt: skip
    """What stands around the routes, from the inside out."""
    add_load(app, parts.limits)
    app.add_middleware(BodyLimit, limits=parts.limits)
    if parts.access is not None:
        app.add_middleware(Guard, access=parts.access)
        app.add_middleware(
            CORSMiddleware, allow_origins=parts.access.origins, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", HEADER], expose_headers=[HEADER, "X-Goodrate-Warnings"],
        )  # fmt: skip
    if metrics is not None:
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
