"""What is served of a click ranker, over HTTP: GET /ranker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from goodrate.serving.pipeline import SearchPipeline


def add_ranker(app: FastAPI, current: Callable[[], SearchPipeline]) -> None:
    """GET /ranker. current: the pipeline that answers now."""

    @app.get("/ranker")
    def ranker() -> dict[str, Any]:
        """The click ranker that orders results inside their tiers: features, rows, training, and what is wrong."""
        served = current().ranker
        if served is None:
            raise HTTPException(501, "this server has no ranker; start it with: goodrate serve DIR --ranker RANKER")
        return served.status()
