"""A filter in parts: what it would be without what it asks of one field."""

from __future__ import annotations

from collections.abc import Iterator

from goodrate.retrieval.filters import KEYWORDS, Token, field_name, tokens

MOST_NARROWED = 10  # fields that are counted without their own conditions: each costs a search


def without_own(where: str | None) -> dict[str, str | None]:
    """Field -> the filter without the conditions on that field alone; None where nothing is left of it.

    where: a filter (filters.filter_sql). Its conditions are what AND joins outside parentheses; one that names several
    fields belongs to none, and one whole OR is one condition.
    >>> without_own("brand = 'HP' AND (price < 5 OR price > 9) AND price IS NOT NULL")
    {'brand': '(price < 5 OR price > 9) AND price IS NOT NULL', 'price': "brand = 'HP'"}
    """
    if where is None:
        return {}
    parts = list(_parts(where))
    alone = dict.fromkeys(next(iter(fields)) for _, fields in parts if len(fields) == 1)
    rests = {field: [text for text, fields in parts if fields != {field}] for field in alone}
    return {field: " AND ".join(rest) or None for field, rest in rests.items()}


def _parts(where: str) -> Iterator[tuple[str, set[str]]]:
    """The conditions that AND joins outside parentheses, and the fields that each names."""
    read = list(tokens(where))
    ends = list(_ends(read))
    for first, last in zip([0, *(end + 1 for end in ends)], [*ends, len(read) - 1], strict=True):
        words = [token.text for token in read[first:last] if token.kind == "word"]
        text = where[read[first].place - 1 : read[last].place - 1].strip()
        yield text, {field_name(word) for word in words if word.upper() not in KEYWORDS}


def _ends(read: list[Token]) -> list[int]:
    """Where the AND between two conditions stand; nowhere in a filter that has an OR outside parentheses."""
    depth, between, ends = 0, False, []
    for number, token in enumerate(read):
        word = token.text.upper() if token.kind == "word" else token.text if token.kind == "sign" else ""
        depth += (word == "(") - (word == ")")
        if depth or word == ")":
            continue
        if word == "OR":
            return []
        if word == "AND" and not between:
            ends.append(number)
        between = word == "BETWEEN" or (between and word != "AND")
    return ends
