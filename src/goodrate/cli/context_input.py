"""The retrieved text of every query that is trained or judged on: what it says, and what it is worth where known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from goodrate.cli.labelled_pair import NO_CONTEXT, Context, LabelledPair

if TYPE_CHECKING:
    from goodrate.relevance.context import ContextFinder, ContextText
    from goodrate.shop.knowledge import KnowledgeText
    from goodrate.shop.queries import Query

IGNORED = "ignore"  # what is said of a text that is not there: it must stay likely where there is one


@dataclass(frozen=True)
class Contexts:
    """Texts to search. worth: (kind, use) of a text for a query; texts are read, and indexed, when they are needed.

    graded: whether kinds are known; where they are not, a rationale says nothing of texts.
    """

    texts: Callable[[], list[ContextText]]
    worth: Callable[[str, ContextText], tuple[str, str | None]]
    encoder: str | None = None
    graded: bool = True
    found: dict[tuple[str, int], Context] = field(default_factory=dict)

    @cached_property
    def finder(self) -> ContextFinder:
        """The indexed texts."""
        from goodrate.relevance.context import ContextFinder, opened_encoder

        return ContextFinder(self.texts(), encoder=opened_encoder(self.encoder))

    @property
    def hidden(self) -> Context:
        """What stands in place of a text that is not shown."""
        return Context(use=IGNORED if self.graded else None)

    def of(self, query: str, count: int) -> Context:
        """The best `count` texts as one, worth what the most useful of them is worth."""
        from goodrate.relevance.context import KINDS, joined

        if (query, count) not in self.found:
            texts = self.finder.find(query, count)
            worths = [self.worth(query, text) for text in texts]
            order = ("helpful", "misleading", "irrelevant", "")
            assert set(order) == {*KINDS, ""}
            kind, use = min(worths, key=lambda one: order.index(one[0]), default=("", self.hidden.use))
            self.found[query, count] = Context(joined(texts), kind, use)
        return self.found[query, count]


def file_worth(_: str, text: ContextText) -> tuple[str, str | None]:
    """Kind as the file says it, whatever the query. Nobody knows how a text without a kind should be used."""
    return text.kind, {"helpful": "use", "": None}.get(text.kind, IGNORED)


def shop_worth(
    queries: Mapping[str, Query], corpus: Mapping[str, KnowledgeText]
) -> Callable[[str, ContextText], tuple[str, str | None]]:
    """What the texts of a shop are worth, from its truth."""
    from goodrate.shop.knowledge import kind_of, use_of

    def worth(query: str, text: ContextText) -> tuple[str, str | None]:
        kind = kind_of(queries[query], corpus[text.id])
        return kind, use_of(queries[query], kind)

    return worth


def contexts_of(
    queries: Sequence[str], contexts: Contexts | None, count: int | None, hidden: float = 0.0, seed: int = 0
) -> list[Context]:
    """What a judge that reads `count` texts is shown for each query; 0 or None: nothing.

    hidden: this share shows no text, and says "ignore". Raises ValueError when there is nothing to search.
    """
    if not count:
        return [NO_CONTEXT] * len(queries)
    if contexts is None:
        raise ValueError(f"the judge reads {count} retrieved text(s): name a file of texts with data.contexts")
    drawn = Random(seed)
    return [contexts.hidden if drawn.random() < hidden else contexts.of(query, count) for query in queries]


def with_contexts(
    pairs: Sequence[LabelledPair], contexts: Contexts | None, count: int | None, hidden: float = 0.0, seed: int = 0
) -> list[LabelledPair]:
    """The pairs with what contexts_of finds for their queries, and their rationales with what it is worth."""
    if not count:
        return list(pairs)
    found = contexts_of([pair.query for pair in pairs], contexts, count, hidden, seed)
    return [_told(pair, context) for pair, context in zip(pairs, found, strict=True)]


def _told(pair: LabelledPair, context: Context) -> LabelledPair:
    rationale = pair.rationale and replace(pair.rationale, context=context.use)
    return replace(pair, context=context, rationale=rationale)


def require_contexts(contexts: str | None, encoder: str | None) -> None:
    """ValueError when an encoder is named that has no texts to find."""
    if encoder is not None and contexts is None:
        raise ValueError(f"--context-encoder {encoder} finds texts, and none are named: --contexts FILE")


def require_reader(named: str | None, count: int | None) -> None:
    """ValueError when texts are named for a judge that reads none."""
    if named is not None and not count:
        raise ValueError(
            f"data.contexts is {named!r} and the judge reads no texts: set format.contexts = 1 for its SFT"
        )
