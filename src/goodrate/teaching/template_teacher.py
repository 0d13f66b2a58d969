"""Silver reasons without a model: typed requirements of a query matched against typed fields of an item.

The gold label is never doubted and never explained away: it only chooses among the readings that matching leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from goodrate.relevance.pairs import Item, JudgedPair
from goodrate.relevance.rationale import CHECKS, RELATIONS, Rationale, Want
from goodrate.relevance.rulebook import Rule, RuleBook
from goodrate.teaching.query_reading import BRAND, PRICE, TEXT, Lexicon, QueryReading
from goodrate.teaching.teacher import Progress, Taught, each, survives_writing
from goodrate.teaching.typed_item import NO, YES, Phrase, TypedItem, contains, stems, typed_item, words_of

WORST = ("none", *CHECKS)  # a column over several checks has the worst of them
# What the template can say of each column; a book with another column asks for what matching cannot see.
COLUMNS = {
    "category": ("same", "other"),
    "must": WORST,
    "may": WORST,
    "not": WORST,
    "alternative": ("none", "cheaper", "costlier"),
}


@dataclass(frozen=True)
class Matched:
    """What matching sees of one pair: found values and checks (one per want), and the relations that it leaves open."""

    reading: QueryReading
    item_kind: Phrase
    relations: tuple[str, ...]
    values: tuple[str | None, ...]
    checks: tuple[str, ...]


class TemplateTeacher:
    """Writes reasons by plain matching. Raises ValueError for a rule book whose columns matching cannot fill."""

    name = "template"
    silver = True

    def __init__(self, book: RuleBook, lexicon: Lexicon) -> None:
        _check_columns(book)
        self.book, self.lexicon = book, lexicon
        self._read = cache(lexicon.read)  # a query has many items, and an item many queries
        self._typed: dict[int, tuple[Item, TypedItem]] = {}

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """Reasons of the pairs. Failures:

        words_unread (the query has words that no item has), no_wanted_kind, no_item_kind, no_reference_price, and
        label_disagrees (no rule of the gold label agrees with what was matched).
        """
        return each(pairs, self._taught, progress)

    def _taught(self, pair: JudgedPair) -> Taught:
        reading = self._read(pair.query, pair.facts)
        item = self._typed_item(pair.item)
        kind = self.lexicon.kind_of(item)
        failure = _unreadable(reading, kind, item)
        if failure:
            return Taught(None, self.silver, failure)
        matched = match(reading, item, kind)
        rationale = self._explained(matched, pair.label)
        if rationale is None:
            return Taught(None, self.silver, "label_disagrees")
        if not survives_writing(rationale, len(self.book.scale)):
            return Taught(None, self.silver, "not_writable")
        return Taught(rationale, self.silver)

    def _typed_item(self, item: Item) -> TypedItem:
        """The typed fields of an item, worked out once for each row (which is held, so that its id stays its own)."""
        if id(item) not in self._typed:
            self._typed[id(item)] = item, typed_item(item)
        return self._typed[id(item)][1]

    def _explained(self, matched: Matched, label: int) -> Rationale | None:
        """The reason with the first open relation whose deciding rule has the gold label; None when none has."""
        for relation in dict.fromkeys(self._book_relation(relation) for relation in matched.relations):
            rule = self.decide(matched.reading, relation, matched.checks)
            if self.book.scale.index(rule.label) == label:
                kinds = " ".join(matched.reading.kind), " ".join(matched.item_kind)
                wants = matched.reading.wants
                return Rationale(label, kinds[0], wants, kinds[1], matched.values, relation, matched.checks, rule.id)
        return None

    def _book_relation(self, relation: str) -> str:
        """The relation in the book's words: one that it does not tell apart is "other"."""
        return relation if relation in self.book.columns.get("category", RELATIONS) else "other"

    def decide(self, reading: QueryReading, relation: str, checks: Sequence[str]) -> Rule:
        """The rule that decides."""
        values = columns(reading, relation, checks, "alternative" in self.book.columns)
        codes = tuple(accepted.index(values[name]) for name, accepted in self.book.columns.items())
        return self.book.rules[int(self.book.table[codes])]


def _check_columns(book: RuleBook) -> None:
    for name, accepted in book.columns.items():
        if name not in COLUMNS:
            raise ValueError(
                f"the template teacher cannot fill column {name!r} of the rule book; it knows {', '.join(COLUMNS)}"
            )
        missing = [value for value in COLUMNS[name] if value not in accepted]
        if missing:
            raise ValueError(f"column {name!r} of the rule book has no value {missing[0]!r}; the template needs it")


def _unreadable(reading: QueryReading, kind: Phrase, item: TypedItem) -> str | None:
    """What keeps a pair from being matched at all, None when nothing does."""
    if reading.unread:
        return "words_unread"
    if not reading.kind:
        return "no_wanted_kind"
    if not kind:
        return "no_item_kind"
    return "no_reference_price" if reading.alternative and item.price is None else None


def match(reading: QueryReading, item: TypedItem, kind: Phrase) -> Matched:
    """Relation, found values and checks by comparing words and numbers. kind: the item's, see Lexicon.kind_of."""
    compared = [_compared(want, item) for want in reading.wants]
    values, checks = tuple(value for value, _ in compared), tuple(check for _, check in compared)
    return Matched(reading, kind, relations(reading.kind, kind), values, checks)


def relations(query_kind: Phrase, item_kind: Phrase) -> tuple[str, ...]:
    """The relations that the words of two kinds leave open, the likeliest first.

    Equal words are one kind, and a "desk lamp" is a lamp. A "phone case" begins like a phone and is none. Other words
    may be synonyms or not: only the label can tell.
    """
    query_kind, item_kind = stems(query_kind), stems(item_kind)
    if item_kind[-len(query_kind) :] == query_kind:
        return ("same",)
    longer, shorter = (query_kind, item_kind) if len(query_kind) > len(item_kind) else (item_kind, query_kind)
    if len(longer) > len(shorter) and longer[: len(shorter)] == shorter:
        return ("accessory", "other", "sibling")
    return ("same", "other", "sibling", "accessory")


def _compared(want: Want, item: TypedItem) -> tuple[str | None, str]:
    """What the item says of a want, None when nothing, and the check."""
    query_value = words_of(want.value)
    if want.attribute == PRICE:
        return _price(float(want.value), item.price)
    if want.attribute == TEXT:
        item_value: Phrase = query_value if item.stems.issuperset(stems(query_value)) else ()
    elif want.attribute == BRAND:
        item_value = item.brand
    else:
        item_value = _item_value(item, want.attribute, query_value)
        # A yes/no attribute is asked for by its name: "dimmable".
        query_value = YES if item_value in (YES, NO) else query_value
    if not item_value:
        return None, "unknown"
    equal = contains(item_value, query_value)
    return " ".join(item_value), "match" if equal != (want.strength == "not") else "conflict"


def _item_value(item: TypedItem, attribute: str, query_value: Phrase) -> Phrase:
    """The item's value of an attribute, the wanted one first; where it has none, the wanted words from its title."""
    values = item.attributes.get(attribute, ())
    if values:
        return next((value for value in values if contains(value, query_value)), values[0])
    return query_value if contains(item.title, query_value) else ()


def _price(limit: float, price: float | None) -> tuple[str | None, str]:
    if price is None:
        return None, "unknown"
    return f"{price:g}", "match" if price < limit else "conflict"


def columns(reading: QueryReading, relation: str, checks: Sequence[str], tells_alternatives: bool) -> dict[str, str]:
    """The rule book's columns. tells_alternatives: whether "cheaper than X" has one of its own; else it is a must."""
    by_column: dict[str, list[str]] = {"must": [], "may": [], "not": [], "alternative": []}
    for want, check in zip(reading.wants, checks, strict=True):
        priced = "alternative" if reading.alternative and tells_alternatives else "must"
        by_column[priced if want.strength == "below" else want.strength].append(check)
    worst = {name: max(verdicts, key=WORST.index, default="none") for name, verdicts in by_column.items()}
    worst["alternative"] = {"none": "none", "match": "cheaper"}.get(worst["alternative"], "costlier")
    return {"category": relation, **worst}
