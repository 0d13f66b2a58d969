"""Verdicts for pairs of a query and an item that need not be in the index, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.relevance.notices import notices
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.pipeline import SearchPipeline


def judge_pairs(
    pipeline: SearchPipeline, pairs: Sequence[tuple[str, Item]], ids: Sequence[str] | None = None
) -> list[Verdict]:
    """A verdict for each (query, item), in their order; the items of one query are judged together.

    ids: by which people's verdicts are found, "" for none; None: the items' own. Raises NoJudge without a judge.
    """
    by_query: dict[str, list[int]] = {}
    for place, (query, _) in enumerate(pairs):
        by_query.setdefault(query, []).append(place)
    given: dict[int, Verdict] = {}
    for query, places in by_query.items():
        named = None if ids is None else [ids[place] for place in places]
        given |= zip(places, pipeline.judge_items(query, [pairs[place][1] for place in places], named), strict=True)
    return [given[place] for place in range(len(pairs))]


def said_of(pipeline: SearchPipeline, pairs: Sequence[tuple[str, Item]], verdicts: Sequence[Verdict]) -> list[str]:
    """What is wrong with many of the pairs: texts in another form than the judge was trained on, failures."""
    return notices(pipeline.need_judge().inner, [Pair(query, item) for query, item in pairs], verdicts)
