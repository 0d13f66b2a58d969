"""From stated step verdicts to the rules that may decide: does a rationale follow the book it cites?"""

from __future__ import annotations

from goodrate.relevance.rationale import CHECKS, Rationale
from goodrate.relevance.rulebook import RuleBook

COLUMNS = {"category", "must", "may", "not", "alternative"}
CHEAPER = {"match": "cheaper", "unknown": "none", "conflict": "costlier"}


def derives(book: RuleBook) -> bool:
    """Whether labels follow from stated steps by this book: its columns are those that steps speak of."""
    return set(book.columns) == COLUMNS


def deciding_rules(book: RuleBook, rationale: Rationale) -> set[str]:
    """Ids of the rules that the stated category and checks lead to; empty for a book with other columns.

    A price limit is a requirement in most queries and the alternative's price in "cheaper than X": the steps do not say
    which, so that a price check can lead to two rules.
    """
    if not derives(book):
        return set()
    worst = {"must": "none", "may": "none", "not": "none", "below": "none"}
    for want, check in zip(rationale.wants, rationale.checks, strict=True):
        worst[want.strength] = _worse(worst[want.strength], check)
    price = worst.pop("below")
    readings = [{**worst, "must": _worse(worst["must"], price), "alternative": "none"}]
    if price != "none":
        readings.append({**worst, "alternative": CHEAPER[price]})
    return {_rule(book, {"category": rationale.relation, **reading}) for reading in readings}


def _worse(first: str, second: str) -> str:
    return max(first, second, key=("none", *CHECKS).index)


def _rule(book: RuleBook, values: dict[str, str]) -> str:
    codes = tuple(accepted.index(values[name]) for name, accepted in book.columns.items())
    return book.rules[int(book.table[codes])].id
