"""What a judge reads and writes in every shop: the texts whose words a trimmed vocabulary must keep."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from goodrate.catalog.inferred import INFERRED
from goodrate.relevance.pairs import RENDERERS, item_texts
from goodrate.relevance.prompts import TEMPLATES, judge_prompt, with_hint
from goodrate.relevance.rationale import (
    CHECKS,
    FACTS,
    ORDERS,
    RELATIONS,
    STRENGTHS,
    USES,
    WORD_FACT,
    Rationale,
    Want,
    write,
)
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.rulebook import RuleBook


def house_texts(book: RuleBook) -> Iterator[str]:
    """Prompts of every template without a shop's words, reasons with every word of the house, and single characters."""
    for template, form in TEMPLATES.items():
        rules = RuleFinder(book, len(book.rules), form.rule).line(" ".join(_query_words(book)))
        prefix, suffix = judge_prompt("a", "a", "a", "a", template, rules)
        yield from (prefix, suffix, with_hint(suffix, "a", template))
    for order in ORDERS:
        yield from (write(rationale, order) for rationale in _rationales(book))
    for character in string.printable:
        yield from (character, f" {character}", character * 2)


def _query_words(book: RuleBook) -> list[str]:
    return [word for rule in book.rules for word in rule.query_words]


def _rationales(book: RuleBook) -> Iterator[Rationale]:
    """Reasons that have each word of the steps, and each rule of the book, at least once."""
    wants = tuple(Want("a", "a", strength) for strength in STRENGTHS)
    checks = (*CHECKS, *CHECKS[: len(wants) - len(CHECKS)])
    stated = (None, *("a" for _ in wants[1:]))
    for number in range(max(len(book.rules), len(RELATIONS))):
        rule = book.rules[number % len(book.rules)]
        relation, use = RELATIONS[number % len(RELATIONS)], USES[number % len(USES)]
        yield Rationale(book.scale.index(rule.label), "a", wants, "a", stated, relation, checks, rule.id, use)
        facts = [(fact, "a", check) for check in CHECKS for fact in (WORD_FACT, *FACTS)]
        yield Rationale.of_facts(book.scale.index(rule.label), facts, rule.id)


def item_prompts(items: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Of each catalogue row the item's part of a prompt, in every form that a row is rendered in.

    In lower case, too, which is how shoppers write: of the queries of a real shop a quarter then lacked a token, with
    it one in ninety (docs/trim.md).
    """
    filled = any(item.get(INFERRED) not in (None, "", "[]") for item in items)
    forms = [item_texts(items, form) for form in RENDERERS if filled or not form.endswith("_filled")]
    parts = [[judge_prompt("", text, template="nano")[1] for text in texts] for texts in zip(*forms, strict=True)]
    return [[*texts, texts[-1].lower()] for texts in parts]


def loose_prompts(text: str) -> list[str]:
    """A text that may stand anywhere: as it is, and as query, item, fact, rule or context of a prompt."""
    return [text, *judge_prompt(text, text, text, text, "nano", text)]
