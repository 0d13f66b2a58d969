"""GET /monitoring and /monitoring/NUMBER: the history that `goodrate monitor --out WORKBENCH/monitor` keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from goodrate import strict_json
from goodrate.evaluation import look_history
from goodrate.serving.bodies import error_answer

HISTORY = "monitor"  # the history's folder in that of the workbench
MOST_RUNS = 500  # the latest ones


class UnknownRun(LookupError):
    """A number that no run of the history has."""


def add_monitor(app: FastAPI, history: Callable[[], Path]) -> None:
    """The routes. history: the folder of the runs, which need not be there; raises where there is no workbench."""

    @app.exception_handler(UnknownRun)
    def _unknown(_: Request, error: UnknownRun) -> JSONResponse:
        return error_answer(404, str(error))

    @app.get("/monitoring")
    def runs() -> dict[str, Any]:
        """The runs, the first first: what each was made of, and its numbers."""
        folder = history()
        shown = [look_history.read_summary(run) for run in look_history.run_folders(folder)[-MOST_RUNS:]]
        return {"out": str(folder), "runs": [{"facts": run["facts"], "numbers": run["numbers"]} for run in shown]}

    @app.get("/monitoring/{number}")
    def run(number: int) -> dict[str, Any]:
        """A run: its queries, worst page first, and what had changed since the run that it was compared with."""
        folder = history() / f"{number:04d}"
        if folder not in look_history.run_folders(history()):
            raise UnknownRun(f"no run {number} in {history()}")
        found = look_history.read_run(folder)
        told = folder / look_history.DRIFT_FILE
        changes = strict_json.read_object(told) if told.is_file() else None
        rows = found.queries.sort("item_goodrate", "query", nulls_last=True).to_dicts()
        return {"facts": found.facts, "numbers": found.numbers, "queries": rows, "changes": changes}
