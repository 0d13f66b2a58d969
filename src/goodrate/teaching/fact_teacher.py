"""Silver reasons on a shop's own catalogue: which facts a rule of the book follows from, where plain reading finds any.

The rule is read off the facts alone; where it is not one of the gold label there is no reason. So a reason is never
made up to fit a label, and pairs whose label has other grounds, such as synonyms or a neighbouring kind, have none.
"""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import WORD_FACT, Rationale
from goodrate.relevance.rulebook import Rule, RuleBook
from goodrate.teaching.fact_reading import FactReader, PairFacts
from goodrate.teaching.teacher import Progress, Taught, each, survives_writing

SAME, OTHER = 0.8, 0.35  # share of the asked words, by rarity, from which on, and up to which, the kind is settled
CHECKED = ("none", "match", "unknown", "conflict")
# What facts can say of each column. "sibling" is no fact: which kinds serve one end stands in no text.
COLUMNS = {
    "category": ("same", "accessory", "other"),
    "brand": CHECKED,
    "must": CHECKED,
    "may": ("none",),
    "not": CHECKED,
    "quantity": CHECKED,
    "fits": ("none",),
    "alternative": ("none",),
}
WORDS = (WORD_FACT, "identifier", "price")


class FactTeacher:
    """Writes reasons of facts alone (relevance.rationale).

    Raises ValueError for a rule book whose columns facts cannot fill.
    """

    name = "facts"
    silver = True

    def __init__(self, book: RuleBook, reader: FactReader) -> None:
        _check_columns(book)
        self.book, self.reader = book, reader

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """Reasons of the pairs. Failures:

        no_words (the query has none to look for), kind_open (the item has some of the words and lacks some),
        label_disagrees (the facts lead to a rule of another label), and not_writable.
        """
        read = iter(self.reader.read(pairs))
        return each(pairs, lambda pair: self._taught(pair, next(read)), progress)

    def _taught(self, pair: JudgedPair, read: PairFacts) -> Taught:
        if not read.facts:
            return Taught(None, self.silver, "no_words")
        rule = self.decide(read)
        if rule is None:
            return Taught(None, self.silver, "kind_open")
        if self.book.scale.index(rule.label) != pair.label:
            return Taught(None, self.silver, "label_disagrees")
        rationale = Rationale.of_facts(pair.label, read.facts, rule.id)
        if not survives_writing(rationale, len(self.book.scale)):
            return Taught(None, self.silver, "not_writable")
        return Taught(rationale, self.silver)

    def decide(self, read: PairFacts) -> Rule | None:
        """The rule that the facts of a pair lead to; None where they leave the kind open."""
        kind = kind_of(read)
        if kind is None:
            return None
        values = columns(read, kind, self.book)
        codes = tuple(accepted.index(values[name]) for name, accepted in self.book.columns.items())
        return self.book.rules[int(self.book.table[codes])]


def kind_of(read: PairFacts) -> str | None:
    """The category that facts settle: by the share of words, and "for" in front of them."""
    if read.share >= SAME:
        return "accessory" if read.behind else "same"
    return "other" if read.share <= OTHER else None


def columns(read: PairFacts, kind: str, book: RuleBook) -> dict[str, str]:
    """The rule book's columns. What the book has no column of its own for is a requirement."""
    own = {"brand": "brand", "measure": "quantity"}
    rest = [fact for fact, column in own.items() if column not in book.columns]
    said = {column: read.worst(fact) for fact, column in own.items()}
    kind = kind if kind in book.columns.get("category", (kind,)) else "other"
    said |= {"category": kind, "not": read.worst("without"), "must": read.worst(*WORDS, *rest)}
    return {name: said.get(name, "none") for name in book.columns}


def _check_columns(book: RuleBook) -> None:
    for name, accepted in book.columns.items():
        if name not in COLUMNS:
            raise ValueError(f"facts cannot fill column {name!r} of the rule book; they know {', '.join(COLUMNS)}")
        missing = [value for value in COLUMNS[name] if value not in (*accepted, "accessory")]
        if missing:
            raise ValueError(f"column {name!r} of the rule book has no value {missing[0]!r}; facts need it")
