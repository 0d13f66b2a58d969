"""/v1/rerank, in the shapes that other clients speak."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from goodrate.relevance.pairs import text_item
from goodrate.serving.answers import rerank_json
from goodrate.serving.parts import Current
from goodrate.serving.requests import RerankBody


def add_rerank(app: FastAPI, current: Current) -> None:
    """Give an application its routes for reranking."""

    @app.post("/v1/rerank")
    def rerank(body: RerankBody) -> dict[str, Any]:
        """Order documents by relevance, in the shape of Cohere's and Jina's rerank."""
        pipeline = current()
        name = pipeline.need_judge().name
        verdicts = pipeline.judge_items(body.query, [text_item(text) for text in body.texts()])
        return rerank_json(body.model or name, body.documents, verdicts, body.top_n, body.return_documents)
