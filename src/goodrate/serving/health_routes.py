"""/healthz: whether the index answers and what is loaded."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from goodrate.serving.parts import Current


def add_health(app: FastAPI, current: Current) -> None:
    """Give an application its routes about itself."""

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the index answers, what is loaded, and how many verdicts could not be stored."""
        pipeline = current()
        judge = pipeline.judge
        return {
            "status": "ok",
            "version": app.version,
            "items": pipeline.count(),
            "modes": list(pipeline.modes),
            "judge": judge.name if judge else None,
            "warnings": list(judge.warnings) if judge else [],
            "labels": list(judge.scale.labels) if judge else [],
            "verdicts_not_stored": getattr(judge.store, "not_stored", 0) if judge else 0,
        }
