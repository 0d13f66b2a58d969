"""A query read by plain matching: which kind of product, and which typed requirements, in the words of a catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from goodrate.relevance.rationale import Want
from goodrate.teaching.typed_item import NO, YES, Phrase, TypedItem, stems, words_of

LONGEST = 4  # words of a value, a brand or a kind
TEXT = "text"  # attribute of words that the catalogue has, but in no typed field
BRAND, PRICE = "brand", "price"
# English cues. A soft cue or an exclusion is about the phrase right behind it.
SOFT = {("preferably",), ("ideally",), ("if", "possible")}
EXCLUDING = {("not",), ("without",), ("no",), ("non",), ("except",)}
BELOW = {("under",), ("below",), ("less", "than"), ("cheaper", "than")}
CHEAPER = "cheaper"
EMPTY_WORDS = """a an the and or of for to in on at by with from is are be do does i me my need want what which who that
this good best buy online please shop order deal sale new cheap cheaper alternative like but than"""
EMPTY = frozenset(EMPTY_WORDS.split())


@dataclass(frozen=True)
class QueryReading:
    """kind: () when no known kind is named. alternative: the price limit is that of a reference item.

    unread: words that no item of the catalogue has. A query with such words is not understood.
    """

    kind: Phrase
    wants: tuple[Want, ...]
    alternative: bool
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """The words of a catalogue, as stems. values: phrase -> attribute; kinds: what titles or categories end in."""

    brands: frozenset[Phrase]
    values: dict[Phrase, str]
    kinds: frozenset[Phrase]
    words: frozenset[str]

    @classmethod
    def of(cls, items: Iterable[TypedItem], queries: Iterable[str]) -> Lexicon:
        """The lexicon of all items, its kinds those that somebody asks for.

        A phrase that is a value of several attributes goes to the most frequent one. One that ends more names than it
        is a value of is a kind.
        """
        brands: set[Phrase] = set()
        words: set[str] = set()
        values: Counter[tuple[Phrase, str]] = Counter()
        kinds: Counter[Phrase] = Counter()
        for item in items:
            brands.add(stems(item.brand))
            words |= item.stems
            values.update(_values(item))
            kinds.update(_endings(item))
        attribute_of: dict[Phrase, str] = {}
        counts: Counter[Phrase] = Counter()
        for (phrase, attribute), count in sorted(values.items(), key=lambda entry: (-entry[1], entry[0])):
            attribute_of.setdefault(phrase, attribute)
            counts[phrase] += count
        asked = {phrase for query in queries for phrase in _phrases(stems(words_of(query)))}
        often = {kind for kind, count in kinds.items() if count > max(1, counts[kind]) and kind in asked}
        values_alone = {phrase: attribute for phrase, attribute in attribute_of.items() if phrase not in often}
        return cls(frozenset(brands - {()}), values_alone, frozenset(often), frozenset(words))

    def kind_of(self, item: TypedItem) -> Phrase:
        """The item's kind: its category, else the longest known kind that ends its name; () when there is none."""
        if item.kind:
            return item.kind
        endings = (item.name[-n:] for n in range(min(LONGEST, len(item.name)), 0, -1))
        return next((ending for ending in endings if stems(ending) in self.kinds), ())

    def read(self, query: str, facts: str = "") -> QueryReading:
        """The reading of a query. facts (relevance.facts) tell what names in it stand for."""
        words, reference = words_of(query), _Facts.of(facts)
        scan = _Scan(self, words, reference.names)
        scan.run()
        alternative = CHEAPER in words and reference.price is not None
        wants = list(scan.wants)
        if reference.explanations:
            explanation = _Scan(self, reference.explanations, frozenset())
            explanation.run()
            scan.kind = scan.kind or explanation.kind
            wants += [want for want in explanation.wants if want.attribute != TEXT]
        if alternative and not any(want.attribute == PRICE for want in wants):
            wants.append(Want(PRICE, f"{reference.price:g}", "below"))
        ordered = sorted(dict.fromkeys(wants), key=_order)
        return QueryReading(scan.kind, tuple(ordered), alternative, tuple(scan.unread))


def _order(want: Want) -> tuple[int, str]:
    """Brand first, then attributes by name, then loose words, price last: one reading has one text."""
    return {BRAND: 0, TEXT: 2, PRICE: 3}.get(want.attribute, 1), want.attribute


def _values(item: TypedItem) -> Iterator[tuple[Phrase, str]]:
    """(stems, attribute) of what a query can ask for: a value names itself, a yes/no attribute is named by its name."""
    for attribute, phrases in item.attributes.items():
        for phrase in phrases:
            if phrase in (YES, NO):
                yield stems(tuple(attribute.split("_"))), attribute
            elif len(phrase) <= LONGEST and not all(word.isdigit() for word in phrase):
                yield stems(phrase), attribute


def _phrases(words: Phrase) -> Iterator[Phrase]:
    """All neighbouring words up to LONGEST."""
    for at in range(len(words)):
        yield from (words[at : at + n] for n in range(1, LONGEST + 1))


def _endings(item: TypedItem) -> Iterator[Phrase]:
    """Stems of what may be the item's kind: its category, or the last words of its name."""
    if item.kind:
        yield stems(item.kind)
        return
    for n in range(1, min(LONGEST, len(item.name)) + 1):
        ending = item.name[-n:]
        if not any(letter.isdigit() for letter in "".join(ending)):
            yield stems(ending)


@dataclass(frozen=True)
class _Facts:
    """names: words that facts explain; explanations: what they say, without the names; price: of the reference item."""

    names: frozenset[str]
    explanations: Phrase
    price: float | None

    @classmethod
    def of(cls, facts: str) -> _Facts:
        names: set[str] = set()
        explanations: list[str] = []
        price = None
        for field in (part for part in facts.split(" ; ") if part):
            name, colon, rest = field.rpartition(" : ")
            names |= set(words_of(name)) if colon else set()
            words = words_of(rest)
            if len(words) == 2 and words[0] == PRICE and words[1].replace(".", "").isdigit():
                price = float(words[1])
            else:
                explanations += words
        return cls(frozenset(names), tuple(explanations), price)


class _Scan:
    """One pass over the words of a query, longest phrase first."""

    def __init__(self, lexicon: Lexicon, words: Phrase, explained: frozenset[str]) -> None:
        self.lexicon, self.words, self.explained = lexicon, words, explained
        self.kind: Phrase = ()
        self.wants: list[Want] = []
        self.unread: list[str] = []
        self.strength = "must"

    def run(self) -> None:
        """Read all words."""
        at = 0
        while at < len(self.words):
            at += self._cue(at) or self._phrase(at) or self._word(at)

    def _cue(self, at: int) -> int:
        """How many words a cue takes, its number with it; 0 = no cue."""
        for length in (2, 1):
            cue = self.words[at : at + length]
            number = self.words[at + length : at + length + 1]
            if cue in BELOW and number and number[0].replace(".", "").isdigit() and number[0] not in self.explained:
                self.wants.append(Want(PRICE, number[0], "below"))
                return length + 1
            if cue in SOFT or cue in EXCLUDING:
                self.strength = "may" if cue in SOFT else "not"
                return length
        return 0

    def _phrase(self, at: int) -> int:
        """How many words the longest known kind, brand or value takes; 0 = none is here."""
        for length in range(min(LONGEST, len(self.words) - at), 0, -1):
            phrase = self.words[at : at + length]
            key = stems(phrase)
            if key in self.lexicon.kinds and length > len(self.kind):
                self._take_kind(phrase)
                return length
            attribute = BRAND if key in self.lexicon.brands else self.lexicon.values.get(key)
            if attribute and not EMPTY.issuperset(phrase):  # "for" and "new" are values somewhere
                self._want(attribute, " ".join(phrase))
                return length
        return 0

    def _take_kind(self, phrase: Phrase) -> None:
        """A longer kind replaces a shorter one, which then is a loose word."""
        if self.kind:
            self.wants.append(Want(TEXT, " ".join(self.kind), "must"))
        self.kind, self.strength = phrase, "must"

    def _want(self, attribute: str, value: str) -> None:
        self.wants.append(Want(attribute, value, self.strength))
        self.strength = "must"

    def _word(self, at: int) -> int:
        """A word that is no kind, brand or value: empty, explained by the facts, a loose word, or unread."""
        word = self.words[at]
        if word in EMPTY or word in self.explained:
            return 1
        if stems((word,))[0] in self.lexicon.words:
            self._want(TEXT, word)
        else:
            self.unread.append(word)
        return 1
