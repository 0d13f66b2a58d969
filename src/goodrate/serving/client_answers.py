"""The answers of /rerank, /score, /v1/embeddings and their like: what the clients of other servers read."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from goodrate.relevance.verdicts import Verdict

# A judge has no tokens to count, and a verdict that was stored none that were read; the shapes want a number.
NO_TOKENS = {"prompt_tokens": 0, "total_tokens": 0}


def scores(verdicts: Sequence[Verdict]) -> list[float]:
    """Expected gains, 0..1; 0 for a failure, the only number that the shapes allow: `about` counts them."""
    return [verdict.expected_gain or 0.0 for verdict in verdicts]


def best_first(verdicts: Sequence[Verdict]) -> list[int]:
    """Places by expected gain, ties by place; those that the judge failed on last."""
    gains, failed = scores(verdicts), [verdict.label is None for verdict in verdicts]
    return sorted(range(len(gains)), key=lambda place: (failed[place], -gains[place], place))


def about(verdicts: Sequence[Verdict], warnings: Sequence[str]) -> dict[str, Any]:
    """What their shapes have no place for. failed: texts without a verdict. cut: texts that lost their end."""
    return {
        "failed": sum(verdict.label is None for verdict in verdicts),
        "cut": sum(verdict.item_cut for verdict in verdicts),
        "warnings": list(warnings),
    }


def rerank_json(
    model: str, documents: Sequence[Any], verdicts: Sequence[Verdict], top_n: int | None, with_documents: bool,
    warnings: Sequence[str] = (), version: str = "1",
) -> dict[str, Any]:  # fmt: skip
    """The answer of /rerank for Cohere's, Jina's and vLLM's clients: indices into documents by relevance_score."""
    gains = scores(verdicts)
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": gains[index]} for index in best_first(verdicts)[:top_n]
    ]
    if with_documents:
        for result in results:
            document = documents[result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document
    meta: dict[str, Any] = {"api_version": {"version": version}, "billed_units": {"search_units": 0}}
    return {
        "id": str(uuid.uuid4()),
        "object": "list",
        "model": model,
        "results": results,
        "usage": dict(NO_TOKENS),
        "meta": meta | ({"warnings": list(warnings)} if warnings else {}),
        "goodrate": about(verdicts, warnings),
    }


def tei_rerank_json(texts: Sequence[str], verdicts: Sequence[Verdict], with_texts: bool) -> list[dict[str, Any]]:
    """The answer of /rerank for TEI's clients."""
    gains = scores(verdicts)
    shown = [{"index": index, "score": gains[index]} for index in best_first(verdicts)]
    return [one | {"text": texts[int(one["index"])]} for one in shown] if with_texts else shown


def score_json(model: str, verdicts: Sequence[Verdict], warnings: Sequence[str]) -> dict[str, Any]:
    """The answer of /score, in the order of the pairs."""
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores(verdicts))]
    return {
        "id": f"score-{uuid.uuid4()}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": {**NO_TOKENS, "completion_tokens": 0},
        "goodrate": about(verdicts, warnings),
    }


def embeddings_json(model: str, vectors: np.ndarray, as_base64: bool, tokens: int) -> dict[str, Any]:
    """The answer of /v1/embeddings. vectors: (N, D) float32; as text they are little-endian base64."""
    shown = base64_of(vectors) if as_base64 else vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def cohere_embed_json(
    texts: Sequence[str], vectors: np.ndarray, kinds: Sequence[str], tokens: int, version: str
) -> dict[str, Any]:
    """The answer of /v2/embed: vectors by kind, float and base64."""
    shown: dict[str, Any] = {}
    if "float" in kinds:
        shown["float"] = vectors.tolist()
    if "base64" in kinds:
        shown["base64"] = base64_of(vectors)
    meta = {
        "api_version": {"version": version},
        "billed_units": {"input_tokens": 0},
        "tokens": {"input_tokens": tokens},
    }
    answer = {"id": str(uuid.uuid4()), "response_type": "embeddings_by_type", "embeddings": shown}
    return answer | {"texts": list(texts), "meta": meta}


def base64_of(vectors: np.ndarray) -> list[str]:
    """Each row of (N, D) as base64 of little-endian float32."""
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]


def models_json(judge: str | None, encoder: str | None) -> dict[str, Any]:
    """The answer of /v1/models: `data` for OpenAI's clients, `models` for Cohere's."""
    uses = [(judge, ["rerank"]), *([(encoder, ["embed"]), (f"{encoder}-query", ["embed"])] if encoder else [])]
    there = [(name, endpoints) for name, endpoints in uses if name]
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "goodrate"} for name, _ in there],
        "models": [{"name": name, "endpoints": endpoints, "finetuned": False} for name, endpoints in there],
    }
