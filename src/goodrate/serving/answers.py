"""The JSON that the HTTP API answers with, made from the pipeline's records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from goodrate.ranking.results import Result
from goodrate.relevance.verdicts import Verdict
from goodrate.scale import RelevanceScale
from goodrate.serving.records import SearchResponse


def search_json(response: SearchResponse, scale: RelevanceScale | None) -> dict[str, Any]:
    """The answer of /search. labels: those of the scale, worst first; none without a judge."""
    return {
        **asdict(response.request),
        "labels": list(scale.labels) if scale else [],
        "retrieved": response.retrieved,
        "judged": response.judged,
        "cached": response.cached,
        "failed": response.failed,
        "live": response.live,
        "left": response.left,
        "spans": [asdict(span) for span in response.spans],
        "correction": {**asdict(response.correction), "used": response.corrected} if response.correction else None,
        "facets": response.facets.facets if response.facets else [],
        "counted": response.facets.counted if response.facets else None,
        "complete": response.facets.complete if response.facets else None,
        "rules": list(response.rules),
        "more": response.more,
        "latency_ms": {stage: round(ms, 2) for stage, ms in response.latency_ms.items()},
        "results": [_result_json(result, scale) for result in response.results],
    }


def _result_json(result: Result, scale: RelevanceScale | None) -> dict[str, Any]:
    return {
        "rank": result.rank,
        "item_id": result.item["id"],
        "item": {name: value for name, value in result.item.items() if name != "id"},
        "retrieval": {"rank": result.retrieval_rank, "score": result.score, "channels": result.channels},
        "excluded": result.excluded,
        "rules": list(result.rules),
        "variants": [asdict(variant) for variant in result.variants],
        "variant_count": result.variant_count,
        "utility": result.utility,
        "verdict": result.verdict.as_dict(scale) if scale and result.verdict else None,
    }


def explain_json(query: str, verdict: Verdict, scale: RelevanceScale) -> dict[str, Any]:
    """The answer of /explain: the verdict and its steps in words."""
    return {"query": query, "verdict": verdict.as_dict(scale), "steps": verdict.steps_as_dicts()}
