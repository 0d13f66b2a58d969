"""GET /grading, /grading/next, /grading/votes, /grading/agreement and POST /grading/votes; the page is at /grade/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from goodrate.ranking.results import shown_item
from goodrate.relevance.partial_rules import columns_json, rules_json
from goodrate.serving.bodies import error_answer
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import UnknownItem
from goodrate.serving.requests import MAX_NAME, RowId, StrictBody
from goodrate.serving.workbench.grading import Grading, NoQueue, UnknownPair, Vote

MAX_REASON = 2000
MAX_SHOWN = 200  # votes of a rater that are listed
Rater = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]


class VoteBody(StrictBody):
    """POST /grading/votes."""

    pair: RowId
    rater: Rater
    kind: Literal["label", "cannot_tell", "skip"]
    label: str | None = Field(None, max_length=MAX_NAME)
    said: dict[str, str] = Field(default_factory=dict, max_length=32, description="column of the rule book: its value")
    reason: str = Field("", max_length=MAX_REASON)
    seconds: float = Field(0.0, ge=0, description="that the rater took")
    token: str = Field("", max_length=100, description="the same vote sent again, with the same token, counts once")

    def vote(self) -> Vote:
        """The same for the workbench."""
        return Vote(
            self.pair, self.rater, self.kind, self.label, self.said, self.reason, self.seconds, self.token
        )  # fmt: skip


class RaterBody(StrictBody):
    """Who asks."""

    rater: Rater


class ListBody(RaterBody):
    """GET /grading/votes."""

    limit: int = Field(20, ge=1, le=MAX_SHOWN)


class ProgressBody(StrictBody):
    """GET /grading."""

    rater: str | None = Field(None, max_length=100)


class PeriodBody(StrictBody):
    """GET /grading/agreement."""

    pairs: int | None = Field(None, ge=1, description="of a period; null: a period is a day")


def add_grading(app: FastAPI, current: Callable[[], SearchPipeline], grading: Callable[[], Grading]) -> None:
    """The routes. grading: that of the workbench; raises where there is none."""
    _add_errors(app)

    @app.get("/grading")
    def state(body: Annotated[ProgressBody, Query()]) -> dict[str, Any]:
        """How pairs are graded, and how far all raters are, and the one who asks."""
        kept = grading()
        scheme, book = kept.scheme(), kept.scheme().book
        rater = body.rater.strip() if body.rater else None
        return {
            "labels": list(scheme.scale.labels), "descriptions": dict(scheme.scale.descriptions),
            "columns": columns_json(book) if book else {}, "rules": rules_json(book) if book else [],
            "progress": kept.progress(rater or None),
        }  # fmt: skip

    @app.get("/grading/next")
    def following(body: Annotated[RaterBody, Query()]) -> dict[str, Any]:
        """The next pair of a rater with its item, null when nothing is left; nothing of what others said of it."""
        kept = grading()
        found = kept.next(body.rater)
        return {"pair": _shown(found, current()) if found else None, "progress": kept.progress(body.rater)}

    @app.post("/grading/votes")
    def vote(body: VoteBody) -> dict[str, Any]:
        """Keep what a rater says of a pair; it is on the disk when this is answered."""
        kept = grading()
        return {"vote": kept.vote(body.vote()), "progress": kept.progress(body.rater)}

    @app.get("/grading/votes")
    def votes(body: Annotated[ListBody, Query()]) -> dict[str, Any]:
        """A rater's own latest votes, each with its pair's item, to look at and to correct."""
        pipeline = current()
        return {"votes": [_own(row, pipeline) for row in grading().votes(body.rater, body.limit)]}

    @app.get("/grading/agreement")
    def agreement(body: Annotated[PeriodBody, Query()]) -> dict[str, Any]:
        """How far raters agree, by day or by so many pairs, of the pairs that two or more have labelled."""
        return {"periods": [period.as_dict() for period in grading().agreement(body.pairs or "day")]}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(NoQueue)
    def _no_queue(_: Request, error: NoQueue) -> JSONResponse:
        return error_answer(404, str(error))

    @app.exception_handler(UnknownPair)
    def _unknown_pair(_: Request, error: UnknownPair) -> JSONResponse:
        return error_answer(404, str(error))


def _shown(row: Mapping[str, Any], pipeline: SearchPipeline) -> dict[str, Any]:
    """A pair for the page; item: null where the index has it no more."""
    try:
        item: dict[str, Any] | None = shown_item(pipeline.item(row["item_id"]))
    except UnknownItem:
        item = None
    own = {name: row[name] for name in ("query", "item_id", "title")}
    return {"pair": row["place"], **own, "skipped": bool(row.get("skipped")), "item": item}


def _own(row: Mapping[str, Any], pipeline: SearchPipeline) -> dict[str, Any]:
    said = {name: row[name] for name in ("kind", "label", "said", "reason", "rule")}
    return {**_shown({**row, "place": row["pair"]}, pipeline), **said}
