"""The retrieved text of every query that is trained or judged on: what it says, and what it is worth where known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from goodrate.relevance.pairs import JudgedPair

if TYPE_CHECKING:
    from goodrate.relevance.context import ContextFinder, ContextText
    from goodrate.shop.knowledge import KnowledgeText
    from goodrate.shop.queries import Query

IGNORED = "ignore"  # what is said of a text that is not there: it must stay likely where there is one
Worth = Callable[[str, "ContextText"], tuple[str, str | None]]  # query, text -> kind, and how it should be used


@dataclass(frozen=True)
class QueryContext:
    """text: None without one. kind: helpful, irrelevant or misleading, "" unknown. use: what a reason says of it."""

    text: str | None = None
    kind: str = ""
    use: str | None = None


@dataclass(frozen=True)
class ContextTexts:
    """Texts to search; they are read, and indexed, when they are needed.

    graded: whether kinds are known; where they are not, a reason says nothing of texts.
    """

    texts: Callable[[], list[ContextText]]
    worth: Worth
    encoder: str | None = None
    graded: bool = True
    cache: dict[tuple[str, int], QueryContext] = field(default_factory=dict)

    @cached_property
    def finder(self) -> ContextFinder:
        """The indexed texts."""
        from goodrate.relevance.context import ContextFinder, load_context_encoder

        return ContextFinder(self.texts(), encoder=load_context_encoder(self.encoder))

    @property
    def hidden(self) -> QueryContext:
        """What stands in place of a text that is not shown."""
        return QueryContext(use=IGNORED if self.graded else None)

    def of(self, query: str, count: int) -> QueryContext:
        """The best `count` texts as one, worth what the most useful of them is worth."""
        from goodrate.relevance.context import KINDS, joined

        if (query, count) not in self.cache:
            texts = self.finder.find(query, count)
            worths = [self.worth(query, text) for text in texts]
            order = ("helpful", "misleading", "irrelevant", "")
            assert set(order) == {*KINDS, ""}
            kind, use = min(worths, key=lambda one: order.index(one[0]), default=("", self.hidden.use))
            self.cache[query, count] = QueryContext(joined(texts), kind, use)
        return self.cache[query, count]


def file_worth(_: str, text: ContextText) -> tuple[str, str | None]:
    """Kind as the file says it, whatever the query. Nobody knows how a text without a kind should be used."""
    return text.kind, {"helpful": "use", "": None}.get(text.kind, IGNORED)


def shop_worth(queries: Mapping[str, Query], corpus: Mapping[str, KnowledgeText]) -> Worth:
    """What the texts of a shop are worth, from its truth."""
    from goodrate.shop.knowledge import kind_of, use_of

    def worth(query: str, text: ContextText) -> tuple[str, str | None]:
        kind = kind_of(queries[query], corpus[text.id])
        return kind, use_of(queries[query], kind)

    return worth


def query_contexts(
    queries: Sequence[str], contexts: ContextTexts | None, count: int | None, hidden: float = 0.0, seed: int = 0
) -> list[QueryContext]:
    """What a judge that reads `count` texts is shown for each query; 0 or None: nothing.

    hidden: this share shows no text, and says "ignore". Raises ValueError when there is nothing to search.
    """
    if not count:
        return [QueryContext()] * len(queries)
    if contexts is None:
        raise ValueError(f"the judge reads {count} retrieved text(s): name a file of texts with data.contexts")
    rng = Random(seed)
    return [contexts.hidden if rng.random() < hidden else contexts.of(query, count) for query in queries]


def with_contexts(
    pairs: Sequence[JudgedPair], contexts: ContextTexts | None, count: int | None, hidden: float = 0.0, seed: int = 0
) -> list[JudgedPair]:
    """The pairs with what query_contexts finds for their queries, and their reasons with what it is worth."""
    if not count:
        return list(pairs)
    shown = query_contexts([pair.query for pair in pairs], contexts, count, hidden, seed)
    return [_with_context(pair, context) for pair, context in zip(pairs, shown, strict=True)]


def _with_context(pair: JudgedPair, context: QueryContext) -> JudgedPair:
    reason = pair.reason and replace(pair.reason, context=context.use)
    return replace(pair, context=context.text, context_kind=context.kind, reason=reason)


def require_text_reading(named: str | None, count: int | None) -> None:
    """ValueError when texts are named for a judge that reads none."""
    if named is not None and not count:
        raise ValueError(
            f"data.contexts is {named!r} and the judge reads no texts: set format.contexts = 1 for its SFT"
        )
