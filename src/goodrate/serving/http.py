"""The HTTP application over one index: the routes of its parts, and the page at /."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from goodrate.serving.bodies import BodyLimit, StrictRoute
from goodrate.serving.errors import add_errors
from goodrate.serving.health_routes import add_health
from goodrate.serving.judging_routes import add_judging
from goodrate.serving.live import LivePipeline
from goodrate.serving.parts import Parts
from goodrate.serving.pictures import PicturePolicy
from goodrate.serving.pipeline import SearchPipeline
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
    add_errors(app)
    add_search(app, current)
    add_judging(app, current)
    add_rerank(app, current)
    add_health(app, current)

    app.add_middleware(BodyLimit, limits=parts.limits)
    app.add_middleware(Safety, pictures=PicturePolicy(lambda: current().store))  # the last is the outermost
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app
