"""The API of the page /compare/: sets, their queries one by one, votes. It never says which system is which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from goodrate.serving.bodies import error_answer
from goodrate.serving.requests import MAX_NAME, RowId, StrictBody
from goodrate.serving.workbench.comparisons import Comparisons, UnknownComparison

MAX_COMMENT = 2000
Rater = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"\S")]


class VoteBody(StrictBody):
    """POST /compare/votes."""

    query_id: RowId
    rater: Rater
    better: Literal["left", "same", "right"]
    comment: str = Field("", max_length=MAX_COMMENT)


def add_comparisons(app: FastAPI, comparisons: Callable[[], Comparisons]) -> None:
    """The routes. comparisons: those of the workbench; raises where there is none."""

    @app.exception_handler(UnknownComparison)
    def _unknown(_: Request, error: UnknownComparison) -> JSONResponse:
        return error_answer(404, str(error))

    @app.get("/compare/sets")
    def sets() -> dict[str, Any]:
        """The comparisons that people can take part in, the newest first."""
        return {"sets": comparisons().sets()}

    @app.get("/compare/sets/{number}")
    def asked(number: RowId, rater: Annotated[Rater, Query()]) -> dict[str, Any]:
        """The queries of a comparison in their order, and which of them a rater has voted on."""
        queries = comparisons().asked(number, rater.strip())
        return {"queries": [{**one, "voted": bool(one["voted"])} for one in queries]}

    @app.get("/compare/queries/{number}")
    def shown(number: RowId, rater: Annotated[Rater, Query()]) -> dict[str, Any]:
        """Both lists of a query, and what the rater said of it."""
        return asdict(comparisons().shown(number, rater.strip()))

    @app.post("/compare/votes")
    def vote(body: VoteBody) -> dict[str, Any]:
        """Keep a vote; it is on the disk when this is answered. A later one of the same rater takes its place."""
        comparisons().vote(body.query_id, body.rater.strip(), body.better, body.comment.strip())
        return {"kept": True}
