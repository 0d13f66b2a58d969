"""What plain reading finds of a query in an item's text: words, brand, identifier, measures, exclusions, price.

A fact is (what, value, check): "match" where the text has or meets it, "unknown" where it does not speak of it,
"conflict" where it says otherwise. Every fact follows from the two texts, the brand and the price; no label is read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from goodrate.catalog.normal_form import composed_text
from goodrate.relevance.pairs import TEXT, Item, Pair, item_texts
from goodrate.relevance.rationale import WORD_FACT
from goodrate.relevance.words_judge import WordCounts
from goodrate.retrieval.identifiers import is_identifier, normal_identifier
from goodrate.retrieval.rewriting.exclusions import Exclusion, evidence
from goodrate.retrieval.rewriting.quantities import Measure, matches
from goodrate.retrieval.rewriting.query_constraints import PriceRange, read_query
from goodrate.retrieval.rewriting.words import comparable, folded_words, without_plural
from goodrate.teaching.query_reading import EMPTY

FORM, CHARACTERS = "short", 300  # of an item's text: about what a judge with item_tokens = 64 to 96 reads
BRAND_WORDS = 3
PURITY = 0.6  # of the titles with a brand's words, the share that must be that brand's: "apple" is also a fruit
FEWEST = 2  # such items
COMPATIBLE = frozenset(without_plural(word) for word in ("for", "fits", "compatible", "replacement"))
EVIDENCE = {"absent": "match", "present": "conflict", None: "unknown"}
CHECK_OF = {True: "match", False: "conflict", None: "unknown"}

Fact = tuple[str, str, str]


@dataclass(frozen=True)
class Asked:
    """A query, read. words: key to compare by -> (the query's word, rarity), without empty words.

    brand: keys of its words, () = none is named.
    """

    words: dict[str, tuple[str, float]]
    brand: tuple[str, ...]
    brand_name: str
    identifiers: tuple[str, ...]
    measures: tuple[Measure, ...]
    without: tuple[Exclusion, ...]
    price: PriceRange | None


@dataclass(frozen=True)
class PairFacts:
    """facts: of one pair. share: of the asked words, by rarity, those that the item has (a brand's count as words).

    behind: all asked words that the title has stand behind "for" or its like: the item goes with what was asked for.
    """

    facts: tuple[Fact, ...]
    share: float
    behind: bool

    def worst(self, *names: str) -> str:
        """The worst check of the facts so named; "none" where there is none."""
        checks = [check for name, _, check in self.facts if name in names]
        return max(checks, key=("match", "unknown", "conflict").index, default="none")


class FactReader:
    """Reads pairs in the words of a catalogue. Raises ValueError for a language without rules of constraints."""

    def __init__(self, items: Sequence[Item], language: str = "en", characters: int = CHARACTERS) -> None:
        """items: of the whole catalogue, whose rarities and brands are counted. characters: read of an item's text."""
        self.language, self.characters = language, characters
        read_query("", language)
        self.counts = WordCounts.of(item_texts(items, FORM))
        self.brands = frozenset(_brands(items))
        self.asked = lru_cache(maxsize=4096)(self._asked)
        self._seen: dict[int, tuple[Item, _Said]] = {}

    def read(self, pairs: Sequence[Pair]) -> list[PairFacts]:
        """The facts of pairs, in order."""
        new = {id(pair.item): pair.item for pair in pairs if id(pair.item) not in self._seen}
        texts = item_texts(list(new.values()), FORM)
        for item, text in zip(new.values(), texts, strict=True):
            self._seen[id(item)] = item, _said(item, beginning(text, self.characters))
        return [self._of(self.asked(pair.query), self._seen[id(pair.item)][1]) for pair in pairs]

    def text(self, item: Item) -> str:
        """What is read of an item."""
        return beginning(item_texts([item], FORM)[0], self.characters)

    def _of(self, asked: Asked, said: _Said) -> PairFacts:
        """The facts of a query and an item."""
        rarities = {key: rarity for key, (_, rarity) in asked.words.items()}
        rarities |= {key: self.counts.rarity(key) for key in asked.brand}
        had = sum(rarity for key, rarity in rarities.items() if key in said.words)
        facts = dict.fromkeys(self._facts(asked, said))
        return PairFacts(tuple(facts), had / (sum(rarities.values()) or 1.0), said.behind(set(rarities)))

    def _facts(self, asked: Asked, said: _Said) -> Iterator[Fact]:
        for key, (word, _) in asked.words.items():
            yield WORD_FACT, word, "match" if key in said.words else "unknown"
        if asked.brand:
            yield "brand", asked.brand_name, said.brand_check(asked.brand)
        for name in asked.identifiers:
            yield "identifier", name, said.identifier_check(name)
        for measure in asked.measures:
            yield "measure", _plain(measure.text), CHECK_OF[matches(measure, said.text, self.language)]
        for exclusion in asked.without:
            yield "without", _plain(exclusion.term), EVIDENCE[evidence(exclusion, said.text)]
        if asked.price:
            yield "price", price_text(asked.price), CHECK_OF[asked.price.holds(said.price)]

    def _asked(self, query: str) -> Asked:
        read = read_query(query, self.language)
        positive = read.positive
        for measure in read.measures:
            positive = positive.replace(measure.text, " ")
        identifiers = tuple(dict.fromkeys(filter(is_identifier, map(normal_identifier, positive.split()))))
        kept = [word for word in positive.split() if normal_identifier(word) not in identifiers]
        said = {without_plural(word): word for word in folded_words(" ".join(kept)) if _asks(word)}
        brand = next((name for name in _phrases(tuple(said)) if name in self.brands), ())
        words = {key: (word, self.counts.rarity(key)) for key, word in said.items() if key not in brand}
        named = " ".join(said[key] for key in brand)
        return Asked(words, brand, named, identifiers, read.measures, read.must_not, read.price)


@dataclass(frozen=True)
class _Said:
    """An item's text, title, brand (folded words) and price."""

    text: str
    title: str
    brand: tuple[str, ...]
    price: float | None

    @cached_property
    def words(self) -> frozenset[str]:
        """Of the text, folded."""
        return frozenset(comparable(self.text))

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Of the text: its words, and those that hyphens join."""
        return frozenset(normal_identifier(word) for word in self.text.split()) | self.words

    def brand_check(self, asked: tuple[str, ...]) -> str:
        """An item of another brand whose text names the asked one goes with it, perhaps: unknown."""
        if asked == self.brand[: len(asked)]:
            return "match"
        return "conflict" if self.brand and not self.words.issuperset(asked) else "unknown"

    def identifier_check(self, asked: str) -> str:
        """Another number behind the same letters is another identifier."""
        if asked in self.identifiers:
            return "match"
        stem = asked.rstrip("0123456789")
        others = (name for name in self.identifiers if len(stem) > 1 and name.startswith(stem))
        return "conflict" if any(name[len(stem) :].isdigit() for name in others) else "unknown"

    def behind(self, asked: set[str]) -> bool:
        """Whether "for" stands in the title before the first of its asked words."""
        title = comparable(self.title)
        places = [place for place, word in enumerate(title) if word in asked]
        cue = next((place for place, word in enumerate(title) if word in COMPATIBLE), None)
        return bool(places) and cue is not None and cue < min(places)


def _said(item: Item, text: str) -> _Said:
    """What an item says. text: what is read of it."""
    title = str(item[TEXT] if TEXT in item else item.get("title") or "")
    price = item.get("price")
    return _Said(text, title, comparable(str(item.get("brand") or "")), None if price is None else float(price))


def _asks(word: str) -> bool:
    """Whether a word of a query asks for anything: "the" does not, nor the s of "men's".

    >>> [word for word in ("the", "men", "s", "8") if _asks(word)]
    ['men', '8']
    """
    return word not in EMPTY and (len(word) > 1 or not word.isascii() or word.isdigit())


def beginning(text: str, characters: int) -> str:
    """At most so many characters, up to a whole word.

    >>> beginning("a red lamp", 7)
    'a red'
    """
    return text if len(text) <= characters else text[: characters + 1].rsplit(" ", 1)[0]


def price_text(price: PriceRange) -> str:
    """A range in words.

    >>> price_text(PriceRange(None, 50.0, "EUR", ()))
    'under 50'
    """
    if price.low is None:
        return f"under {price.high:g}"
    return f"over {price.low:g}" if price.high is None else f"{price.low:g} to {price.high:g}"


def _plain(text: str) -> str:
    """A value without the marks of a reason's lines."""
    return " ".join(composed_text(text).lower().replace(";", " ").replace(":", " ").split())


def _phrases(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All neighbouring words that may be a brand, the longest first."""
    for length in range(min(BRAND_WORDS, len(words)), 0, -1):
        yield from (tuple(words[at : at + length]) for at in range(len(words) - length + 1))


def _brands(items: Iterable[Item]) -> Iterator[tuple[str, ...]]:
    """The brands whose words in a title mostly mean them."""
    own, named = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    titles: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for item in items:
        brand = comparable(str(item.get("brand") or ""))
        titles.append((comparable(str(item.get("title") or "")), brand))
        if 0 < len(brand) <= BRAND_WORDS:
            own[brand] += 1
    starts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for brand in own:
        starts[brand[0]].add(brand)
    for title, _ in titles:
        found = {b for at, word in enumerate(title) for b in starts.get(word, ()) if title[at : at + len(b)] == b}
        named.update(found)
    with_own = Counter(brand for title, brand in titles if brand in own and brand[0] in title)
    yield from (brand for brand, count in own.items() if count >= FEWEST and with_own[brand] >= PURITY * named[brand])
