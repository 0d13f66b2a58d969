"""What a judge is told of a query beside its words: facts on names in it, and retrieved texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from goodrate.relevance.pairs import Item, Pair


@dataclass(frozen=True)
class QueryNotes:
    """facts: what is known of names in a query, "" for nothing (FactBook.of). context: its retrieved
    text, None without one.

    >>> QueryNotes(facts={"red": "a colour"}.get).pairs("red", [{"text": "lamp"}])[0].facts
    'a colour'
    """

    facts: Callable[[str], str | None] = lambda query: ""
    context: Callable[[str], str | None] = lambda query: None

    @classmethod
    def from_mappings(cls, facts: Mapping[str, str], contexts: Mapping[str, str | None]) -> QueryNotes:
        """Of queries that are known beforehand."""
        return cls(facts.get, contexts.get)

    def pairs(self, query: str, items: Sequence[Item]) -> list[Pair]:
        """The pairs of a query and its items."""
        facts, context = self.facts(query) or "", self.context(query)
        return [Pair(query, item, facts, context) for item in items]
