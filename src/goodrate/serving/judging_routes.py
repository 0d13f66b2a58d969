"""/judge and /explain."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from goodrate.relevance.pairs import Item, text_item
from goodrate.serving.answers import explain_json
from goodrate.serving.observing import Observer
from goodrate.serving.pair_judging import said_of
from goodrate.serving.parts import Current
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.requests import JudgeBody, PairBody


def add_judging(app: FastAPI, current: Current, seen: Observer) -> None:
    """Give an application its routes for verdicts."""

    def item_of(pipeline: SearchPipeline, pair: PairBody) -> Item:
        return text_item(pair.item_text) if pair.item_text is not None else pipeline.item(str(pair.item_id))

    @app.post("/judge")
    def judge(body: JudgeBody) -> dict[str, Any]:
        """Verdicts for pairs of a query and an item, in the order of the pairs."""
        pipeline = current()
        scale = pipeline.need_judge().scale
        pairs = [(pair.query, item_of(pipeline, pair)) for pair in body.pairs]
        verdicts = pipeline.judge_pairs(pairs)
        seen.judged(verdicts)
        return {
            "labels": list(scale.labels),
            "verdicts": [verdict.as_dict(scale) for verdict in verdicts],
            "warnings": said_of(pipeline, pairs, verdicts),
        }

    @app.get("/explain")
    def explain(pair: Annotated[PairBody, Query()]) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand; query and item_id (or item_text) in the address."""
        return explain_post(pair)

    @app.post("/explain")
    def explain_post(pair: PairBody) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand."""
        pipeline = current()
        judge = pipeline.need_judge()
        verdict = pipeline.explain(pair.query, item_of(pipeline, pair))
        seen.judged([verdict])
        return explain_json(pair.query, verdict, judge.scale)
