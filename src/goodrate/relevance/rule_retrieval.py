"""The few rules of a rule book that a query may need, found by their words; never by knowing the answer.

TaoSR1 (arXiv 2508.12365) retrieves atomic rules for every training pair. Here a rule says which words it speaks about;
it is found when the query has them. Rules of one query are the same for all its items, so they share its prefix.
"""

from __future__ import annotations

import functools
import re

from goodrate.relevance.rulebook import Rule, RuleBook

WORD = re.compile(r"\w+")


class RuleFinder:
    """The best `count` rules of a book for a query: those about its words first, then those about every query.

    A rule about words that the query does not have is never given. Order: share of rare words hit, then the book's.
    """

    def __init__(self, book: RuleBook, count: int, shape: str = "{id}") -> None:
        """shape: a rule in a prompt, with id, because, label and digit in braces. ValueError unless count >= 1."""
        if count < 1:
            raise ValueError(f"count is {count}, expected at least 1 rule")
        self._rules, self._count = book.rules, count
        self._shown = {rule.id: _shown(rule, book, shape) for rule in book.rules}
        self._rarity = _rarity(book.rules)
        self._find = functools.lru_cache(maxsize=100_000)(self._search)

    def find(self, query: str, facts: str = "") -> tuple[Rule, ...]:
        """At most `count` rules, best first."""
        return self._find(query, facts)

    def line(self, query: str, facts: str = "") -> str:
        """They as one line of a prompt."""
        return " ; ".join(self._shown[rule.id] for rule in self.find(query, facts))

    def _search(self, query: str, facts: str) -> tuple[Rule, ...]:
        words = set(WORD.findall(f"{query} {facts}".lower()))
        hits = [sum(self._rarity[word] for word in words.intersection(rule.query_words)) for rule in self._rules]
        fitting = [place for place, rule in enumerate(self._rules) if hits[place] > 0 or not rule.query_words]
        fitting.sort(key=lambda place: (-hits[place], place))
        return tuple(self._rules[place] for place in fitting[: self._count])


def _shown(rule: Rule, book: RuleBook, shape: str) -> str:
    """A rule in words, its label as the digit that a judge writes."""
    digit = book.scale.index(rule.label) + 1
    return shape.format(id=rule.id, because=rule.because, label=rule.label, digit=digit)


def _rarity(rules: tuple[Rule, ...]) -> dict[str, float]:
    """1 / number of rules that speak about a word."""
    words = [word for rule in rules for word in rule.query_words]
    return {word: 1 / words.count(word) for word in words}
