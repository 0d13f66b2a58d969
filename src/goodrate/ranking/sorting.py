"""Order by a number such as the price, among the results that are relevant."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.ranking.item_values import check_name, item_value, number
from goodrate.ranking.results import Result

RELEVANCE = "relevance"
SORT_COLUMNS = ("price", "rating")
SORTED_AMONG = 200  # retrieved items, where no judge says which of them are relevant
# Of the best score of a channel in a search: what is below in all channels shares a common word with the query and
# little else. On Chorus half of the best BM25 score keeps 96 % of what is relevant, and 65 items of 158.
LEAST_SHARE = {"lexical": 0.5, "dense": 0.8}


def check_sort(sort: str) -> None:
    """ValueError unless results can be sorted so."""
    if sort != RELEVANCE:
        check_name(sort.removeprefix("-"), SORT_COLUMNS, "sort")


def sorted_results(results: Sequence[Result], sort: str) -> list[Result]:
    """Results by a number, the smallest first, or the largest for a name with "-" in front.

    Items without the number come last, and equal ones keep their order. sort: price, rating or attributes.NAME.
    """
    name, down = sort.removeprefix("-"), sort.startswith("-")

    def key(result: Result) -> tuple[bool, float]:
        value = number(item_value(result.item, name))
        return value is None, 0.0 if value is None else -value if down else value

    return sorted(results, key=key)


def relevant(results: Sequence[Result]) -> list[Result]:
    """The results that are worth sorting, in their order; never those with what the query excludes.

    Of those that have a verdict: what it does not call Bad. Of the others: those whose score in a channel is at least
    LEAST_SHARE of the best one there, and all of a channel that has no such share.
    """
    wanted = [result for result in results if not result.excluded]
    best = {
        channel: max((float(r.channels[channel]["score"]) for r in wanted if channel in r.channels), default=0.0)
        for channel in LEAST_SHARE
    }

    def near(channel: str, score: float) -> bool:
        return channel not in LEAST_SHARE or score >= LEAST_SHARE[channel] * best[channel]

    def worth(result: Result) -> bool:
        if result.verdict is not None:
            return result.verdict.tier != "Bad"
        return any(near(name, float(part["score"])) for name, part in result.channels.items())

    return [result for result in wanted if worth(result)]
