"""/rerank and /score, in the shapes that clients of Cohere, Jina, TEI and vLLM speak."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Response

from goodrate.relevance.pairs import Item, text_item
from goodrate.serving.client_answers import rerank_json, score_json, tei_rerank_json
from goodrate.serving.client_bodies import RerankBody, ScoreBody, cut, is_item_id
from goodrate.serving.observing import Observer
from goodrate.serving.pair_judging import said_of
from goodrate.serving.parts import Current

WARNINGS = "X-Goodrate-Warnings"  # a JSON list of texts, for the shapes that have no other place
RAW = "raw_scores: a judge has probabilities and no scores before them; these are expected gains"


def add_rerank(app: FastAPI, current: Current, seen: Observer) -> None:
    """Give an application its routes for reranking and scoring texts."""

    def answer(body: RerankBody, response: Response, version: str) -> Any:
        pipeline = current()
        name = pipeline.need_judge().name
        query, texts, said = cut(body.query, body.read())
        ids = body.item_ids()
        pairs: list[tuple[str, Item]] = [
            (query, pipeline.item(item) if is_item_id(document) else text_item(text))
            for document, text, item in zip(body.given(), texts, ids, strict=True)
        ]
        verdicts = pipeline.judge_pairs(pairs, ids)
        seen.judged(verdicts)
        said += said_of(pipeline, pairs, verdicts) + ([RAW] if body.raw_scores else [])
        _warn(response, said)
        if body.texts is not None:
            return tei_rerank_json(body.texts, verdicts, body.return_text or body.return_documents)
        with_documents = body.return_documents or body.return_text
        return rerank_json(body.model or name, body.given(), verdicts, body.top_n, with_documents, said, version)

    @app.post("/rerank")
    @app.post("/v1/rerank")
    def rerank(body: RerankBody, response: Response) -> Any:
        """Order documents by relevance: Cohere, Jina and vLLM send `documents`, TEI sends `texts`."""
        return answer(body, response, "1")

    @app.post("/v2/rerank")
    def rerank_v2(body: RerankBody, response: Response) -> Any:
        """The same for the second version of Cohere's API."""
        return answer(body, response, "2")

    @app.post("/score")
    @app.post("/v1/score")
    def score(body: ScoreBody, response: Response) -> dict[str, Any]:
        """A score for each pair of texts, in their order, as vLLM gives it."""
        pipeline = current()
        name = pipeline.need_judge().name
        pairs: list[tuple[str, Item]] = []
        said: dict[str, None] = {}
        for query, text in body.pairs():
            short, (kept,), warnings = cut(query, [text])
            pairs.append((short, text_item(kept)))
            said |= dict.fromkeys(warnings)
        verdicts = pipeline.judge_pairs(pairs)
        seen.judged(verdicts)
        said |= dict.fromkeys(said_of(pipeline, pairs, verdicts))
        _warn(response, list(said))
        return score_json(body.model or name, verdicts, list(said))


def _warn(response: Response, said: Sequence[str]) -> None:
    if said:
        response.headers[WARNINGS] = json.dumps(list(said))  # ASCII, as a header has to be
