"""Searches that two systems answer together by team draft, logged with the team of each result."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from goodrate.catalog.normal_form import normal_text
from goodrate.evaluation.interleaving import draft_seed, team_draft
from goodrate.ranking.results import Result
from goodrate.ranking.sorting import RELEVANCE
from goodrate.serving.bodies import error_answer
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable, SearchRequest, SearchResponse
from goodrate.serving.requests import MAX_NAME, SearchBody
from goodrate.serving.traffic_log import TrafficLog

MAX_EVENTS = 100
log = logging.getLogger(__name__)
Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


@dataclass(frozen=True)
class Interleaving:
    """Two systems for live traffic. names: of A, which is served, and of B. other: B's pipeline now. settings: what B's
    searches have in place of A's: fields of SearchRequest.
    """

    names: tuple[str, str]
    other: Callable[[], SearchPipeline]
    log: TrafficLog
    settings: Mapping[str, Any] = field(default_factory=dict)

    def answer(
        self, pipeline: SearchPipeline, request: SearchRequest, client: str | None, session: str | None
    ) -> tuple[SearchResponse, str | None]:
        """What to show, and the id that its clicks name; None for an answer of A alone, which is not logged.

        The draft is the same for all pages of a session's (or client's) search; without either it is of this request
        alone. A alone answers a search for another order, mode or grouping, one without rules or without depth, and
        all searches while B's index cannot be read.
        """
        if not _plain(request):
            return pipeline.search(request), None
        whole = replace(request, k=request.offset + request.k, offset=0)
        first = pipeline.search(whole)
        try:
            second = self.other().search(replace(whole, facets=(), **self.settings))
        except IndexUnavailable as error:
            log.warning("%s cannot be searched, %s answers alone: %s", self.names[1], self.names[0], error)
            return pipeline.search(request), None
        query_id = str(uuid.uuid4())
        seed = draft_seed(session or client or query_id, normal_text(request.query))
        response, teams = _drafted(request, first, second, seed)
        draft = {"a": self.names[0], "b": self.names[1], "teams": teams, "offset": request.offset}
        ids = [str(result.item["id"]) for result in response.results]
        self.log.query(query_id, request.query, ids, client, {"session_id": session, "interleaving": draft})
        return response, query_id


def _plain(request: SearchRequest) -> bool:
    """Whether it asks for what the systems differ in: their own order."""
    asked = request.mode is None and request.group_by is None and request.with_rules
    return asked and request.sort == RELEVANCE and request.depth > 0


def _drafted(
    request: SearchRequest, first: SearchResponse, second: SearchResponse, seed: int
) -> tuple[SearchResponse, list[str]]:
    """The page of both answers in one, and the team of each result."""
    results = {"a": _by_id(first), "b": _by_id(second)}
    items, teams = team_draft([*results["a"]], [*results["b"]], request.offset + request.k + 1, seed)
    page = slice(request.offset, request.offset + request.k)
    shown = [
        _blind(results[team][item], place)
        for place, (item, team) in enumerate(zip(items[page], teams[page], strict=True), start=request.offset + 1)
    ]
    more = first.more or second.more or len(items) > request.offset + request.k
    total = {"total": sum(one.latency_ms.get("total", 0.0) for one in (first, second))}
    blind = replace(first, judged=0, cached=0, failed=0, left=0, rules=(), latency_ms=total)
    return replace(blind, request=request, results=shown, more=more), teams[page]


def _by_id(response: SearchResponse) -> dict[str, Result]:
    return {str(result.item["id"]): result for result in response.results}


def _blind(result: Result, place: int) -> Result:
    """The result without what would tell its team: who found it, judged it, moved it, or predicts a click on it."""
    return Result(
        rank=place, item=result.item, retrieval_rank=None, score=0.0, channels={}, verdict=None,
        variants=result.variants, variant_count=result.variant_count,
    )  # fmt: skip


def answered(
    pipeline: SearchPipeline, body: SearchBody, interleaving: Interleaving | None
) -> tuple[SearchResponse, str | None]:
    """The answer of a search, and its id where it is interleaved and logged."""
    if interleaving is None:
        return pipeline.search(body.request()), None
    return interleaving.answer(pipeline, body.request(), body.client_id, body.session_id)


class EventBody(BaseModel):
    """An event of UBI. Fields that only others read are kept too."""

    model_config = ConfigDict(extra="allow")
    action_name: Id = Field(description="click, and what else a shop does: add_to_cart, purchase, ...")
    query_id: Id = Field(description="that of the answer")
    client_id: Id | None = None
    event_attributes: dict[str, Any] = Field(
        default_factory=dict, description='of a click: {"object": {"object_id": ID}, "position": {"ordinal": PLACE}}'
    )


class EventsBody(BaseModel):
    """POST /ubi/events."""

    model_config = ConfigDict(extra="forbid")
    events: list[EventBody] = Field(min_length=1, max_length=MAX_EVENTS)


class NoLog(LookupError):
    """An event was sent to a server that keeps none."""


def add_traffic(app: FastAPI, interleaving: Interleaving | None) -> None:
    """POST /ubi/events; 501 where nothing is logged."""

    @app.exception_handler(NoLog)
    def _no_log(_: Request, error: NoLog) -> JSONResponse:
        return error_answer(501, str(error))

    @app.post("/ubi/events")
    def events(body: EventsBody | EventBody) -> dict[str, int]:
        """Keep what a shopper did with the results of a search: one event, or {"events": [...]}."""
        given = body.events if isinstance(body, EventsBody) else [body]
        if interleaving is None:
            raise NoLog("this server logs nothing; start it with: goodrate serve A --interleave B --workbench DIR")
        interleaving.log.events([event.model_dump(exclude_none=True) for event in given])
        return {"kept": len(given)}
