"""/search and /suggest."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from goodrate.serving.answers import search_json
from goodrate.serving.interleaving import Interleaving, answered
from goodrate.serving.observing import Observer
from goodrate.serving.parts import Current
from goodrate.serving.requests import SearchBody, SuggestBody


def add_search(app: FastAPI, current: Current, seen: Observer, interleaving: Interleaving | None = None) -> None:
    """Give an application its routes for searching. interleaving: a second system that answers with the pipeline."""

    def answer(body: SearchBody) -> dict[str, Any]:
        pipeline = current()
        response, query_id = answered(pipeline, body, interleaving)
        seen.searched(response)
        if query_id is not None:
            return {**search_json(response, None), "query_id": query_id}
        return search_json(response, pipeline.judge.scale if pipeline.judge else None)

    @app.get("/search")
    def search(body: Annotated[SearchBody, Query()]) -> dict[str, Any]:
        """Search; the same fields as the POST body, in the address."""
        return answer(body)

    @app.get("/suggest")
    def suggest(body: Annotated[SuggestBody, Query()]) -> dict[str, Any]:
        """What somebody who has typed so far may want to type."""
        found = current().suggest(body.query, body.k)
        shown = [{"text": one.text, "kind": one.kind, "results": one.results} for one in found]
        return {"query": body.query, "suggestions": shown}

    @app.post("/search")
    def search_post(body: SearchBody) -> dict[str, Any]:
        """Search: results in tiers, with label probabilities and each retrieval channel's part."""
        return answer(body)
