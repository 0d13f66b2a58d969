"""GET, POST and DELETE /overrides: what an editor says against a judge of entities, previewed before it is saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import Field, ValidationError, model_validator

from goodrate.catalog.normal_form import normal_text
from goodrate.folder_lock import FolderBusy
from goodrate.relevance.override_file import OverridesChanged, UnknownOverride
from goodrate.relevance.overrides import Override
from goodrate.serving.access import USER
from goodrate.serving.bodies import error_answer
from goodrate.serving.requests import MAX_NAME, MAX_QUERY_CHARACTERS, StrictBody
from goodrate.serving.workbench.overrides import LiveOverrides

MAX_NOTE, MAX_WORDS = 500, 20
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"\S")]
Id = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class OverrideBody(StrictBody):
    """One override. Which queries: query, words or after, one of them. Which entities: entity, contains or type.

    A file may hold patterns of any kind (docs/entity_judge.md); over HTTP they are made here, so that none of them can
    take seconds on a query.
    """

    verdict: Literal["support", "conflict", "neutral"]
    query: Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS, pattern=r"\S")] | None = Field(
        None, description="this query alone"
    )
    words: Name | None = Field(None, description="every query with these words side by side")
    after: list[Name] | None = Field(
        None, min_length=1, max_length=MAX_WORDS,
        description='every query with one of these words, such as "without"; the word behind it is meant',
    )  # fmt: skip
    entity: Name | None = Field(None, description="an entity by its whole text")
    contains: Name | None = Field(None, description="entities with these words; {what}: the word behind `after`")
    type: Name | None = Field(None, description="entities of this type alone")
    note: str = Field("", max_length=MAX_NOTE, description="shown in the reason")

    @model_validator(mode="after")
    def _one_of_each(self) -> OverrideBody:
        if sum(given is not None for given in (self.query, self.words, self.after)) != 1:
            raise ValueError("expected one of query, words and after")
        self.override()
        return self

    def override(self) -> Override:
        """The same as it is kept. Raises ValueError naming what is wrong."""
        contains = self.contains
        if self.after is not None and self.entity is None and contains is None:
            contains = "{what}"
        try:
            return Override(
                verdict=self.verdict, query=self.query and self.query.strip(), pattern=self._pattern(), type=self.type,
                entity=self.entity, contains=contains, note=self.note.strip(),
            )  # fmt: skip
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None

    def _pattern(self) -> str | None:
        if self.words is not None:
            return rf"(?<!\w){re.escape(normal_text(self.words))}(?!\w)"
        if self.after is not None:
            words = "|".join(re.escape(normal_text(word)) for word in self.after)
            return rf"(?<!\w)(?:{words}) (?P<what>\w+)"
        return None


class SavedBody(OverrideBody):
    """POST /overrides."""

    by: Name


class PreviewBody(StrictBody):
    """POST /overrides/preview."""

    override: OverrideBody | None = Field(None, description="to be added")
    remove: Id | None = Field(None, description="id of one to be taken away")

    @model_validator(mode="after")
    def _one(self) -> PreviewBody:
        if (self.override is None) == (self.remove is None):
            raise ValueError("expected either override or remove")
        return self


class OfItemBody(StrictBody):
    """GET /overrides/entities."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS, pattern=r"\S")
    item_id: str = Field(min_length=1, max_length=MAX_NAME)


def add_overrides(app: FastAPI, overrides: Callable[[], LiveOverrides]) -> None:
    """The routes. overrides: of the judge that is served; raises where there is no workbench."""

    @app.exception_handler(UnknownOverride)
    def _unknown(_: Request, error: UnknownOverride) -> JSONResponse:
        return error_answer(404, str(error))

    @app.exception_handler(OverridesChanged)
    @app.exception_handler(FolderBusy)
    def _conflict(_: Request, error: Exception) -> JSONResponse:
        return error_answer(409, str(error))

    @app.get("/overrides", response_model=None)
    def listed(request: Request) -> dict[str, Any] | Response:
        """The overrides that hold, and who changed them when; a browser that opens the address gets the page."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("overrides/", 307)
        return overrides().listed()

    @app.get("/overrides/entities")
    def entities(body: Annotated[OfItemBody, Query()]) -> dict[str, Any]:
        """An item's entities: how far each supports the query and conflicts with it, and what overrules that."""
        return {"query": body.query, "entities": overrides().entities(body.query, body.item_id)}

    @app.post("/overrides/preview")
    def preview(body: PreviewBody) -> dict[str, Any]:
        """How many judged pairs come nearer to their label, and how many go away from it; nothing is saved."""
        one = body.override.override() if body.override is not None else None
        return overrides().preview(one, body.remove).as_dict()

    @app.post("/overrides")
    def save(request: Request, body: SavedBody) -> dict[str, Any]:
        """Save an override; it holds from the next request on, and for every server and command with this judge."""
        told, key = overrides().add(body.override(), body.by.strip(), **_token(request))
        return {"id": key, **told.as_dict()}

    @app.delete("/overrides/{key}")
    def remove(request: Request, key: Id, by: Annotated[Name, Query()]) -> dict[str, Any]:
        """Take an override away: what the judge says itself counts again. by: who does so."""
        return {"id": key, **overrides().remove(key, by.strip(), **_token(request)).as_dict()}


def _token(request: Request) -> dict[str, str]:
    """Whose token it was, for the log: names are what people type."""
    user = request.scope.get(USER)
    return {"token": user} if user else {}
