"""POST /clicks: what shoppers saw and clicked, which moves the weights of channels; GET /weights: where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field

from goodrate.retrieval.filters import MAX_CHARACTERS
from goodrate.serving.online_weights import ClickSession, OnlineWeights
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.requests import MAX_NAME, MAX_QUERY_CHARACTERS, MAX_RESULTS, StrictBody

MAX_SESSIONS = 100
Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class ShownBody(StrictBody):
    """An item on a page, and its place from 1."""

    item_id: Id
    position: int = Field(ge=1, le=100_000)


class SessionBody(StrictBody):
    """One page that somebody saw. where: the filter of the search."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS, pattern=r"\S")
    shown: list[ShownBody] = Field(min_length=1, max_length=MAX_RESULTS)
    clicked: list[Id] = Field(max_length=MAX_RESULTS)
    where: str | None = Field(None, max_length=MAX_CHARACTERS)

    def session(self) -> ClickSession:
        """The same, checked. ValueError."""
        shown = tuple(one.item_id for one in self.shown)
        positions = tuple(one.position for one in self.shown)
        return ClickSession(self.query.strip(), shown, positions, tuple(self.clicked), self.where)


class ClicksBody(StrictBody):
    """POST /clicks."""

    sessions: list[SessionBody] = Field(min_length=1, max_length=MAX_SESSIONS)


def add_clicks(app: FastAPI, current: Callable[[], SearchPipeline]) -> None:
    """The endpoints; both are errors on a server whose weights do not follow clicks."""

    @app.post("/clicks")
    def clicks(body: ClicksBody) -> dict[str, Any]:
        """Learn from pages that were seen: {"learned": how many, "weights": where they are now, ...}."""
        pipeline = current()
        need_online(pipeline)
        sessions = [one.session() for one in body.sessions]
        found = [_found(pipeline, session) for session in sessions]  # all are checked before the first is learned from
        online = need_online(pipeline)
        learned = sum(online.learn(one, *own) for one, own in zip(sessions, found, strict=True) if own is not None)
        return {"learned": learned, **online.as_dict()}

    @app.get("/weights")
    def weights() -> dict[str, Any]:
        """The weights of the channels, those at the start, and how many sessions moved them."""
        return need_online(current()).as_dict()


def need_online(pipeline: SearchPipeline) -> OnlineWeights:
    """The weights. ValueError when the server has none."""
    if pipeline.online is None:
        raise ValueError(
            "weights follow no clicks here; start the server with: goodrate serve DIR --online-weights FILE"
        )
    return pipeline.online


def learn(pipeline: SearchPipeline, session: ClickSession, events_read: int | None = None) -> bool:
    """Learn from one session; whether there was anything to learn."""
    found = _found(pipeline, session)
    return found is not None and need_online(pipeline).learn(session, *found, events_read)


def _found(pipeline: SearchPipeline, session: ClickSession) -> tuple[list[str], Any] | None:
    """What the search finds for a session and what each channel says of it; None where there is nothing to learn."""
    online = need_online(pipeline)
    if not session.clicked or not (online.settings.active and online.settings.learning):
        return None
    return pipeline.features(session.query, online.channels, session.where)
