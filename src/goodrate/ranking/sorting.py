"""Order by a number such as the price, among the results that are relevant."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.ranking.item_values import check_name, item_value, number
from goodrate.ranking.results import Result

RELEVANCE = "relevance"
SORT_COLUMNS = ("price", "rating")
SORTED_AMONG = 200  # retrieved items, where no judge says which of them are relevant
# Of the best BM25 score of a search: below it items share a common word with the query and no more.
LEAST_SHARE = 0.5


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


def relevant(results: Sequence[Result], judged: bool) -> list[Result]:
    """The results that are worth sorting, in their order; never those with what the query excludes.

    judged: a judge saw the results: those that it does not call Bad. Otherwise those that were found by identifier, by
    synonym or by meaning, or by words with a score of at least LEAST_SHARE of the best.
    """
    wanted = [result for result in results if not result.excluded]
    if judged:
        return [result for result in wanted if result.verdict is not None and result.verdict.tier != "Bad"]
    return wanted
