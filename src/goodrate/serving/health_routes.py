"""/healthz and /readyz: whether the index answers, and what is loaded."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from goodrate.serving.access import tell_all
from goodrate.serving.load import beside_searches
from goodrate.serving.parts import Current


def add_health(app: FastAPI, current: Current) -> None:
    """Give an application its routes about itself."""

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether a search would be answered; 503 with the reason while it would not."""
        await beside_searches(lambda: current().count())
        return {"status": "ready"}

    @app.get("/healthz")
    async def healthz(request: Request) -> dict[str, Any]:
        """Whether the index answers, what is loaded, and how many verdicts could not be stored."""
        return await beside_searches(lambda: health(tell_all(request.scope)))

    def health(everything: bool) -> dict[str, Any]:
        pipeline = current()
        items = pipeline.count()
        if not everything:
            return {"status": "ok"}
        judge = pipeline.judge
        return {
            "status": "ok",
            "version": app.version,
            "items": items,
            "modes": list(pipeline.modes),
            "judge": judge.name if judge else None,
            "warnings": list(judge.warnings) if judge else [],
            "labels": list(judge.scale.labels) if judge else [],
            "verdicts_not_stored": getattr(judge.store, "not_stored", 0) if judge else 0,
        }
