"""What a judge is asked: a query and an item, with what is known beside the query's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.relevance.marks import told_apart, without_marks

if TYPE_CHECKING:
    from goodrate.relevance.rationale import Rationale

Item = Mapping[str, Any]  # a catalogue row (catalog.items.ITEM_COLUMNS), or {"text": ...} where there is only a text
TEXT = "text"


@dataclass(frozen=True)
class Pair:
    """A query and an item to judge. facts: what the shop knows of names in the query (relevance.facts).

    context: a retrieved text of the query, None without one.
    """

    query: str
    item: Item
    facts: str = ""
    context: str | None = None


@dataclass(frozen=True)
class JudgedPair(Pair):
    """A pair with its label. label: position on the scale, 0 = worst.

    reason: the steps behind the label, where they are known. weight: how much the example counts, less where its steps
    are silver. context_kind: what the retrieved text is worth (helpful, irrelevant, misleading), "" unknown.
    """

    label: int = 0
    reason: Rationale | None = None
    weight: float = 1.0
    context_kind: str = ""

    @property
    def item_id(self) -> str:
        """The id of the item, "" for a bare text."""
        return str(self.item.get("id") or "")


def gold_labels(pairs: Sequence[JudgedPair]) -> np.ndarray:
    """Label positions (N,) int64."""
    return np.asarray([pair.label for pair in pairs], dtype=np.int64)


def text_item(text: str) -> Item:
    """An item of which only a text is known; every judge reads that text as it stands."""
    return {TEXT: text}


def item_texts(items: Sequence[Item], form: str) -> list[str]:
    """Each item as a judge reads it. form: "listing" (typed fields), "text" (running text), "short" (to be cut), each
    also with "_filled" behind it: with the attributes that models fill in (catalog.inferred).

    Raises ValueError with the accepted forms.
    >>> item_texts([{"title": "lamp", "price": 40.0}, text_item("a red  lamp")], "listing")
    ['lamp ; price 40', 'a red  lamp']
    """
    if form not in RENDERERS:
        raise ValueError(f"item form {form!r} is not one of {', '.join(RENDERERS)}")
    return rendered(items, RENDERERS[form])


def rendered(items: Sequence[Item], render: Callable[[Sequence[Item]], list[str]]) -> list[str]:
    """Each item's text, of a row by `render`, without what would mean something in a prompt (relevance.marks).

    The one way from items to what a judge or a teacher reads. A row that stands in many pairs is rendered once.
    """
    distinct = {id(item): item for item in items if TEXT not in item}
    texts = map(without_marks, render([told_apart(row) for row in distinct.values()]))
    known = dict(zip(distinct, texts, strict=True))
    return [without_marks(str(item[TEXT])) if TEXT in item else known[id(item)] for item in items]


def as_asked(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs as a judge is asked: query and retrieved text without what would mean something in a prompt."""
    return [_plain(pair) for pair in pairs]


def _plain(pair: Pair) -> Pair:
    query, context = without_marks(pair.query), pair.context and without_marks(pair.context)
    return pair if query == pair.query and context == pair.context else replace(pair, query=query, context=context)


def _listings(items: Sequence[Item]) -> list[str]:
    from goodrate.relevance.listing import listings

    return listings(items)


def _filled_listings(items: Sequence[Item]) -> list[str]:
    from goodrate.relevance.listing import filled_listings

    return filled_listings(items)


def _rendered(items: Sequence[Item], *fields: str) -> list[str]:
    from goodrate.catalog.rendering import RENDERED_FIELDS, render_rows

    return render_rows(items, fields or RENDERED_FIELDS)


# What says most comes first: the text is meant to be cut.
_SHORT = ("title", "brand", "category", "description", "attributes")
_FILLED = "inferred_attributes"

RENDERERS: dict[str, Callable[[Sequence[Item]], list[str]]] = {
    "listing": _listings,
    "text": _rendered,
    "short": lambda items: _rendered(items, *_SHORT),
    "listing_filled": _filled_listings,
    "text_filled": lambda items: _rendered(items, "title", "brand", "category", "attributes", _FILLED, "description"),
    "short_filled": lambda items: _rendered(items, *_SHORT, _FILLED),
}
