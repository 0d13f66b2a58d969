"""The workbench over HTTP: each topic adds its routes here; its page lies in serving/page/NAME and is at /NAME/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from goodrate.catalog.judgements import Judgements
from goodrate.serving.bodies import error_answer
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.workbench.comparison_routes import add_comparisons
from goodrate.serving.workbench.comparisons import Comparisons
from goodrate.serving.workbench.grading import Grading
from goodrate.serving.workbench.grading_routes import add_grading
from goodrate.serving.workbench.monitor_routes import HISTORY, add_monitor
from goodrate.serving.workbench.override_routes import add_overrides
from goodrate.serving.workbench.overrides import LiveOverrides, PreviewLabels, override_file
from goodrate.serving.workbench.overrule_routes import add_overrules
from goodrate.serving.workbench.overrules import Overrules
from goodrate.serving.workbench.store import Workbench

Part = TypeVar("Part")
# name of a page -> what it is called in the line of links, in their order
WORKBENCH_PAGES: dict[str, str] = {
    "compare": "Side by side", "grade": "Grade", "overrules": "Overrules", "monitor": "Monitor",
    "overrides": "Entities",
}  # fmt: skip


class NoWorkbench(LookupError):
    """Something was to be kept and the server has no workbench."""


def needed(part: Part | None) -> Part:
    """A part of the workbench. Raises NoWorkbench where there is none."""
    if part is None:
        raise NoWorkbench("this server has no workbench; start it with: goodrate serve INDEX --workbench DIR")
    return part


def add_workbench(
    app: FastAPI, current: Callable[[], SearchPipeline], workbench: Workbench | None, labels: Judgements | None = None
) -> None:
    """The routes of all topics. Without a workbench they answer 501 and say how to have one. labels: what overrides
    are previewed on.
    """
    overrules = Overrules(workbench) if workbench is not None else None
    if overrules is not None:
        current().overrules = overrules.of_query
    add_overrules(app, current, lambda: needed(overrules))
    grading = Grading(workbench) if workbench is not None else None
    add_grading(app, current, lambda: needed(grading))
    overrides = LiveOverrides(current, PreviewLabels(labels, grading)) if grading is not None else None
    add_overrides(app, lambda: needed(overrides))
    add_monitor(app, lambda: needed(workbench).folder / HISTORY)

    comparisons = Comparisons(workbench) if workbench is not None else None
    add_comparisons(app, lambda: needed(comparisons))
    add_pages(app, _shown(current()) if workbench is not None else {})

    @app.exception_handler(NoWorkbench)
    def _no_workbench(_: Request, error: NoWorkbench) -> JSONResponse:
        return error_answer(501, str(error))


def _shown(pipeline: SearchPipeline) -> Mapping[str, str]:
    """The pages that there is something to do on: that of overrides is for a judge of entities alone."""
    without = set() if override_file(pipeline.judge) else {"overrides"}
    return {name: title for name, title in WORKBENCH_PAGES.items() if name not in without}


def add_pages(app: FastAPI, shown: Mapping[str, str], search: bool = True) -> None:
    """GET /pages, which the line of links is made of. search: whether there is a search at /."""

    @app.get("/pages")
    def pages() -> dict[str, Any]:
        """The pages that this server has beside the search; "search": whether it has that."""
        return {"search": search, "pages": [{"path": f"{name}/", "title": title} for name, title in shown.items()]}
