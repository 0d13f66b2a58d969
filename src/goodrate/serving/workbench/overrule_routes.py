"""GET, POST and DELETE /overrules; what they set acts on the next search."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import Field

from goodrate.serving.bodies import error_answer
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.requests import MAX_NAME, MAX_QUERY_CHARACTERS, RowId, StrictBody
from goodrate.serving.workbench.overrules import Overrules, UnknownOverrule

MAX_REASON = 2000
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"\S")]


class OverruleBody(StrictBody):
    """POST /overrules."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS, pattern=r"\S")
    item_id: str = Field(min_length=1, max_length=MAX_NAME)
    label: str = Field(max_length=MAX_NAME, description="on the judge's scale")
    by: Name
    reason: str = Field("", max_length=MAX_REASON)
    until: datetime.date | None = Field(None, description="the last day on which it holds; null: for ever")


class ListBody(StrictBody):
    """GET /overrules."""

    query: str | None = Field(None, max_length=MAX_QUERY_CHARACTERS)
    every: bool = Field(False, description="those that are expired or undone too")


def add_overrules(
    app: FastAPI, current: Callable[[], SearchPipeline], overrules: Callable[[], Overrules]
) -> None:  # fmt: skip
    """The routes. overrules: those of the workbench; raises where there is none."""

    @app.exception_handler(UnknownOverrule)
    def _unknown(_: Request, error: UnknownOverrule) -> JSONResponse:
        return error_answer(404, str(error))

    @app.get("/overrules", response_model=None)
    def listed(request: Request, body: Annotated[ListBody, Query()]) -> dict[str, Any] | Response:
        """People's verdicts that hold, the newest first; a browser that opens the address gets the page."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("overrules/", 307)
        found = overrules().listed(body.query, body.every)
        pipeline = current()
        titles = _titles(pipeline, [one["item_id"] for one in found])
        labels = list(pipeline.judge.scale.labels) if pipeline.judge else []
        return {"labels": labels, "overrules": [{**one, "title": titles.get(one["item_id"])} for one in found]}

    @app.post("/overrules")
    def overrule(body: OverruleBody) -> dict[str, Any]:
        """Set a person's verdict of a query and an item of the index in place of the judge's."""
        kept, pipeline = overrules(), current()
        scale = pipeline.need_judge().scale
        label = scale.labels[scale.index(body.label)]
        pipeline.item(body.item_id)
        made = kept.set(body.query.strip(), body.item_id, label, body.by.strip(), body.reason.strip(), body.until)
        return made.as_dict()

    @app.delete("/overrules/{number}")
    def undo(number: RowId, by: Annotated[Name, Query()]) -> dict[str, Any]:
        """Undo one: the judge's verdict counts again. by: who does so."""
        return overrules().undo(number, by.strip()).as_dict()


def _titles(pipeline: SearchPipeline, ids: Sequence[str]) -> dict[str, str]:
    """The titles of those items that the index holds; none while it cannot be read."""
    try:
        there = pipeline.store.matching(ids, None) if ids else set()
        rows = pipeline.store.items(sorted(there)).select("id", "title").rows() if there else []
    except (ValueError, OSError):
        return {}
    return dict(rows)
