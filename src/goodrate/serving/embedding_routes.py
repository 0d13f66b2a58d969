"""/v1/embeddings, /embed and /v1/models, in the shapes that clients of OpenAI, Jina, Cohere and TEI speak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

from goodrate.serving.client_answers import cohere_embed_json, embeddings_json, models_json
from goodrate.serving.client_bodies import CohereEmbedBody, EmbeddingsBody, TeiEmbedBody
from goodrate.serving.parts import Current
from goodrate.serving.records import NoEncoder
from goodrate.serving.text_encoder import TextEncoder


def add_embeddings(app: FastAPI, current: Current, encoder: TextEncoder | None) -> None:
    """Give an application its routes for vectors. encoder: that of the index; None: they answer that there is none."""

    def vectors(texts: Sequence[str], query: bool, dimensions: int | None) -> np.ndarray:
        return _need(encoder).vectors(texts, query, dimensions)

    def tokens(texts: Sequence[str]) -> int:
        return _need(encoder).tokens(texts)

    @app.post("/v1/embeddings")
    @app.post("/embeddings")
    def embeddings(body: EmbeddingsBody) -> dict[str, Any]:
        """Vectors of texts, as OpenAI and Jina give them."""
        texts = body.read()
        made = vectors(texts, body.query, body.dimensions)
        return embeddings_json(body.model or _need(encoder).name, made, body.base64, tokens(texts))

    @app.post("/embed")
    @app.post("/", include_in_schema=False)
    def embed(body: TeiEmbedBody) -> list[list[float]]:
        """Vectors of texts, as TEI gives them."""
        return vectors(body.read(), body.query, body.dimensions).tolist()  # type: ignore[no-any-return]

    @app.post("/v1/embed")
    @app.post("/v2/embed")
    def cohere_embed(body: CohereEmbedBody, request: Request) -> dict[str, Any]:
        """Vectors of texts, as Cohere gives them."""
        made = vectors(body.texts, body.query, body.output_dimension)
        version = request.url.path[2]
        return cohere_embed_json(body.texts, made, body.embedding_types or ["float"], tokens(body.texts), version)

    @app.get("/v1/models")
    @app.get("/models")
    def models() -> dict[str, Any]:
        """The judge and the encoder by name; a request may name any model, and gets these."""
        judge = current().judge
        return models_json(judge.name if judge else None, encoder.name if encoder else None)


def _need(encoder: TextEncoder | None) -> TextEncoder:
    if encoder is None:
        raise NoEncoder(
            "this index has no encoder, it is searched by words; make one with: goodrate index --encoder DIR"
        )
    return encoder
