"""Verdicts for pairs of a query and an item that need not be in the index, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.relevance.notices import notices
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.pipeline import SearchPipeline


def said_of(pipeline: SearchPipeline, pairs: Sequence[tuple[str, Item]], verdicts: Sequence[Verdict]) -> list[str]:
    """What is wrong with many of the pairs: texts in another form than the judge was trained on, failures."""
    return notices(pipeline.need_judge().inner, [Pair(query, item) for query, item in pairs], verdicts)
