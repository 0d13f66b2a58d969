"""Which rule decides while a person is still filling in the columns of a rule book."""

from __future__ import annotations

from collections.abc import Mapping

from goodrate.relevance.rulebook import Rule, RuleBook


def deciding_rule(book: RuleBook, values: Mapping[str, str]) -> Rule | None:
    """The rule that decides whatever the columns that have no value yet will have; None while that is open.

    values: column -> value, for some of the book's columns. Raises ValueError for a column or value that is not there.
    >>> from goodrate.relevance.rulebook import named_rulebook
    >>> esci = named_rulebook("esci")
    >>> deciding_rule(esci, {"category": "other"}).id
    'other_category'
    >>> deciding_rule(esci, {"category": "same"}) is None
    True
    """
    for column, value in values.items():
        book.codes(column, [value])
    for rule in book.rules:
        known = [values[column] in accepted for column, accepted in rule.when.items() if column in values]
        if not all(known):
            continue
        return rule if len(known) == len(rule.when) else None
    return None


def columns_json(book: RuleBook) -> dict[str, list[str]]:
    """The columns and their values, for a page."""
    return {column: list(values) for column, values in book.columns.items()}


def rules_json(book: RuleBook) -> list[dict[str, object]]:
    """The rules in their order, for a page that shows which one decides."""
    return [
        {"id": rule.id, "when": {name: list(values) for name, values in rule.when.items()}, "label": rule.label,
         "because": rule.because}
        for rule in book.rules
    ]  # fmt: skip
