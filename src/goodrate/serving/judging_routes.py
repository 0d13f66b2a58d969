"""/judge and /explain."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from goodrate.relevance.pairs import Item, text_item
from goodrate.serving.answers import explain_json
from goodrate.serving.parts import Current
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.requests import JudgeBody, PairBody


def add_judging(app: FastAPI, current: Current) -> None:
    """Give an application its routes for verdicts."""

    def item_of(pipeline: SearchPipeline, pair: PairBody) -> Item:
        return text_item(pair.item_text) if pair.item_text is not None else pipeline.item(str(pair.item_id))

    @app.post("/judge")
    def judge(body: JudgeBody) -> dict[str, Any]:
        """Verdicts for pairs of a query and an item, in the order of the pairs."""
        pipeline = current()
        scale = pipeline.need_judge().scale
        by_query: dict[str, list[int]] = {}
        for position, pair in enumerate(body.pairs):
            by_query.setdefault(pair.query, []).append(position)
        answers: dict[int, Any] = {}
        for query, positions in by_query.items():
            verdicts = pipeline.judge_items(query, [item_of(pipeline, body.pairs[position]) for position in positions])
            answers |= zip(positions, [verdict.as_dict(scale) for verdict in verdicts], strict=True)
        return {"labels": list(scale.labels), "verdicts": [answers[position] for position in range(len(body.pairs))]}

    @app.get("/explain")
    def explain(pair: Annotated[PairBody, Query()]) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand; query and item_id (or item_text) in the address."""
        return explain_post(pair)

    @app.post("/explain")
    def explain_post(pair: PairBody) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand."""
        pipeline = current()
        judge = pipeline.need_judge()
        return explain_json(pair.query, pipeline.explain(pair.query, item_of(pipeline, pair)), judge.scale)
