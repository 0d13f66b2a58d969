"""What a search is asked and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from goodrate.ranking.results import Result
from goodrate.retrieval.facets import Facets
from goodrate.retrieval.rewriting.spelling import Correction


@dataclass(frozen=True)
class SearchRequest:
    """One search. k: results wanted. mode: None = the best that the index has.

    depth: how many of the retrieved items the judge sees; 0 = none. ignore: ids of spans (SearchResponse.spans) that
    are to be plain words. offset: results left out before the first; requests that differ in it alone are pages of
    one list. facets: names of facets, or "auto". disjunctive: whether each facet ignores the conditions of `where` on
    its own field (retrieval.filter_parts), so that a second value can be chosen beside the first. sort:
    ranking.sorting. group_by: ranking.variants; None = as the index says, "none" = not at all. with_rules: whether the
    shop's ranking rules act. judge_ms: milliseconds that may be spent on verdicts (serving.judge_budget); None = as
    the pipeline says, which may be no limit.
    """

    query: str
    k: int = 20
    where: str | None = None
    mode: str | None = None
    depth: int = 50
    ignore: tuple[str, ...] = ()
    offset: int = 0
    sort: str = "relevance"
    group_by: str | None = None
    with_rules: bool = True
    facets: tuple[str, ...] = ()
    judge_ms: float | None = None
    disjunctive: bool = False


class UnknownItem(LookupError):
    """An item id that the index does not hold."""


class IndexUnavailable(ValueError):
    """The index on disk cannot be searched, for no fault of the request."""


class NoJudge(LookupError):
    """A verdict was asked for and no judge is loaded."""


class Overloaded(Exception):
    """More waits for a model than it will get to in good time. seconds: after which asking again may help."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class NoEncoder(LookupError):
    """Vectors were asked for and the index has no encoder."""


@dataclass(frozen=True)
class SearchResponse:
    """Results in their final order and how they came about. latency_ms: by stage, with "total".

    judged: items that have a verdict; failed: those that the judge failed on; cached: how many of both were stored, the
    others were judged now; left: items within the depth that judge_ms did not reach.

    spans: what was read in the query as an exclusion or a price (retrieval.query_constraints.Span). correction: the
    query as it was probably meant, None when nothing is wrong; corrected: that was searched for in place of the query.
    rules: names of the ranking rules for this query. more: whether results follow the last one. facets: None when none
    were asked for.
    """

    request: SearchRequest
    results: list[Result]
    retrieved: int
    judged: int
    cached: int
    failed: int
    left: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    spans: tuple[Any, ...] = ()
    correction: Correction | None = None
    corrected: bool = False
    rules: tuple[str, ...] = ()
    more: bool = False
    facets: Facets | None = None

    @property
    def live(self) -> int:
        """How many items the judge was asked about now."""
        return self.judged + self.failed - self.cached

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, place: int) -> Result:
        return self.results[place]

    def __str__(self) -> str:
        """One line a result: rank, tier where there is one, title and price."""
        return "\n".join(str(result) for result in self.results) or "no results"
