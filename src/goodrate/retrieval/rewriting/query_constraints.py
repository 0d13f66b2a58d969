"""What a query says beside its positive words: exclusions ("without raisins"), a price ("under 50 euro"), measures.

Rules of words only (query_rules_*.toml), so that a shop can read and change them; microseconds, no model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from goodrate.retrieval.rewriting.constraint_rules import ConstraintRules, Word, load_rules, words_in
from goodrate.retrieval.rewriting.exclusions import Exclusion, forms
from goodrate.retrieval.rewriting.quantities import Measure, PriceMention, find_measures, find_prices

Kind = Literal["not", "price", "measure", "cheap"]
MOST_WORDS = 3  # of one exclusion
GERUND = 5  # "ring" and "wing" are no verbs


@dataclass(frozen=True)
class Span:
    """A removable part of a query: text[start:end], in characters. id names it for `read_query(ignore=...)`."""

    id: str
    kind: Kind
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class PriceRange:
    """low, high: inclusive, None = open. currency: ISO code, None = not said. spans: two of "over 20 under 50"."""

    low: float | None
    high: float | None
    currency: str | None
    spans: tuple[Span, ...]

    def holds(self, price: float | None) -> bool | None:
        """Whether a price of the same currency lies in the range; None = the price is not known."""
        if price is None:
            return None
        return (self.low is None or price >= self.low) and (self.high is None or price <= self.high)

    def where(self, unknown: bool = True, currencies: Collection[str] = ()) -> str:
        """The range as a condition for a store's filter. unknown: whether items without a price pass.

        currencies: in which items have prices, as they write them; where that of the query is among them, prices in
        others do not pass. Where it is not, no price could, and each is compared as it is.
        >>> PriceRange(20.0, 50.0, "EUR", ()).where()
        '(price IS NULL OR (price >= 20.0 AND price <= 50.0))'
        >>> PriceRange(None, 50.0, "EUR", ()).where(currencies=["eur", "usd"])
        "(price IS NULL OR (price <= 50.0 AND (currency IS NULL OR currency = 'EUR')))"
        """
        bounds = [
            f"price {sign} {value!r}" for sign, value in ((">=", self.low), ("<=", self.high)) if value is not None
        ]
        if self.currency and self.currency.casefold() in {name.casefold() for name in currencies}:
            bounds.append(f"(currency IS NULL OR currency = '{self.currency}')")
        inside = " AND ".join(bounds) or "price IS NOT NULL"
        return f"(price IS NULL OR ({inside}))" if unknown else f"({inside})"


@dataclass(frozen=True)
class QueryConstraints:
    """positive: the query without exclusions, price and words for cheap; searchable: the same with the exclusions.

    To search, take searchable and put violators last (docs/query_constraints.md). Neither is empty unless the query is.

    Measures and forms such as "sugar-free" stay in it, because titles write them as well. spans: every part that was
    read, in the query's order; parts that were asked to be ignored are not among them.
    """

    positive: str
    searchable: str
    must_not: tuple[Exclusion, ...]
    price: PriceRange | None
    measures: tuple[Measure, ...]
    cheap: bool
    spans: tuple[Span, ...]


def read_query(text: str, language: str = "en", ignore: Collection[str] = ()) -> QueryConstraints:
    """The constraints of a query. Never raises for a text; ValueError for a language without a rule file.

    ignore: ids of spans that a shopper took away; their words are plain again; other spans keep their ids.

    >>> read = read_query("oat bars without raisins under $20")
    >>> read.positive, [exclusion.term for exclusion in read.must_not], read.price.high
    ('oat bars', ['raisins'], 20.0)
    >>> read_query("oat bars without raisins under $20", ignore={"not-9"}).positive
    'oat bars without raisins'
    """
    rules = load_rules(language)
    words = words_in(text)
    prices = find_prices(text, words, rules)
    taken = [(price.start, price.end) for price in prices]
    measures = [m for m in find_measures(text, language) if _clear(m.start, m.end, taken)]
    taken += [(m.start, m.end) for m in measures]
    exclusions = [e for e in _Scan(text, words, rules, taken).exclusions() if e.id not in ignore]
    exclusions = exclusions if _leaves_words(words, exclusions, taken) else []
    cheap = _cheap_spans(text, words, rules, [*taken, *((e.start, e.end) for e in exclusions)])
    kept = [span for span in cheap if span.id not in ignore]
    price = _price_range(text, prices, ignore)
    measures = [m for m in measures if m.id not in ignore]
    said = [(span.start, span.end) for span in (*kept, *(price.spans if price else ()))]
    searchable = _without(text, said) or text.strip()
    positive = _without(text, [*said, *((e.start, e.end) for e in exclusions if not e.stays)]) or text.strip()
    named = tuple(_named(e, positive, language) for e in exclusions)
    spans = [Span(part.id, "not", part.start, part.end, text[part.start : part.end]) for part in exclusions]
    spans += [Span(m.id, "measure", m.start, m.end, m.text) for m in measures]
    spans += [*kept, *(price.spans if price else ())]
    ordered = tuple(sorted(spans, key=lambda span: span.start))
    return QueryConstraints(positive, searchable, named, price, tuple(measures), bool(kept), ordered)


def _clear(start: int, end: int, taken: Sequence[tuple[int, int]]) -> bool:
    """Whether a stretch touches none of the taken ones."""
    return all(end <= first or start >= last for first, last in taken)


def _leaves_words(words: Sequence[Word], exclusions: Sequence[Exclusion], taken: Sequence[tuple[int, int]]) -> bool:
    """Whether a word is left that is not excluded: a query that only excludes asks for nothing."""
    spans = [*taken, *((e.start, e.end) for e in exclusions if not e.stays)]
    return any(_clear(word.start, word.end, spans) for word in words)


def _price_range(text: str, mentions: Sequence[PriceMention], ignore: Collection[str]) -> PriceRange | None:
    """The mentions as one range; one that contradicts those in front of it is not read."""
    low = high = currency = None
    spans: list[Span] = []
    for mention in mentions:
        span = Span(f"price-{mention.start}", "price", mention.start, mention.end, text[mention.start : mention.end])
        new_low = mention.low if low is None else low
        new_high = mention.high if high is None else high
        again = (mention.low is not None and low is not None) or (mention.high is not None and high is not None)
        if span.id in ignore or again or (new_low is not None and new_high is not None and new_low > new_high):
            continue
        low, high, currency = new_low, new_high, currency or mention.currency
        spans.append(span)
    return PriceRange(low, high, currency, tuple(spans)) if spans else None


def _cheap_spans(
    text: str, words: Sequence[Word], rules: ConstraintRules, taken: Sequence[tuple[int, int]]
) -> Iterator[Span]:
    """Where the query asks for a low price without a number."""
    plain = rules.price["not_cheap"].covered(words)
    at = 0
    while at < len(words):
        length = 0 if at in plain else rules.price["cheap"].at(words, at)
        if length:
            start, end = words[at].start, words[at + length - 1].end
            if _clear(start, end, taken):
                yield Span(f"cheap-{start}", "cheap", start, end, text[start:end])
        at += length or 1


def _without(text: str, removed: Sequence[tuple[int, int]]) -> str:
    """The text without some stretches, and without the white space and commas that they leave behind."""
    if not removed:
        return text.strip()
    pieces, at = [], 0
    for start, end in sorted(removed):
        pieces.append(text[at:start])
        at = max(at, end)
    pieces.append(text[at:])
    joined = " ".join(" ".join(pieces).split())
    return re.sub(r"^[\s,;.&-]+(?=\s)|\s+(?=[,;])|[\s,;&-]+$", "", joined).strip()


def _named(exclusion: Exclusion, positive: str, language: str) -> Exclusion:
    """The exclusion, marked where the positive words name the same thing ("pencil case without pencils")."""
    present = {word.text for word in words_in(positive)}
    named = not exclusion.stays and all(present & set(forms(word, language)) for word in exclusion.term.split())
    return Exclusion(exclusion.term, exclusion.stays, named, exclusion.text, exclusion.start, exclusion.end, language)


class _Scan:
    """One pass over the words of a query for exclusions. taken: stretches that are prices and measures."""

    def __init__(
        self, text: str, words: Sequence[Word], rules: ConstraintRules, taken: Sequence[tuple[int, int]]
    ) -> None:
        self.text, self.words, self.language, self.rules = text, words, rules.language, rules.exclusion
        self.plain = self.rules["idioms"].covered(words)
        self.plain |= {at for at, word in enumerate(words) if not _clear(word.start, word.end, taken)}

    def exclusions(self) -> Iterator[Exclusion]:
        """All exclusions, in the order of the words."""
        at = 0
        while at < len(self.words):
            found = [] if at in self.plain else self._at(at)
            yield from (self._exclusion(*part) for part in found)
            at = max([at, *(last for *_, last in found)]) + 1

    def _exclusion(self, first: int, term: tuple[int, int], stays: bool, last: int) -> Exclusion:
        """first, last: places of the words that go; term: places of the first and last excluded word."""
        start, end = self.words[first].start, self.words[last].end
        if self.text[start - 1 : start] == "-" and first == term[0] and not stays:
            start -= 1
        words = self._fused(first) or " ".join(word.text for word in self.words[term[0] : term[1] + 1])
        return Exclusion(words, stays, False, self.text[start:end], start, end, self.language)

    def _at(self, at: int) -> list[tuple[int, tuple[int, int], bool, int]]:
        """(first word, excluded words, whether they stay, last word) of what starts at a place."""
        if self._is_minus(at):
            return [(at, (at, at), False, at)]
        if self._is_prefix(at):
            return [(at, (at + 1, at + 1), True, at + 1)]
        if self._is_free(at):
            return [(at, (at, at), True, at + 1)]
        if self._fused(at):
            return [(at, (at, at), True, at)]
        for name in ("without", "no", "not"):
            length = self.rules[name].at(self.words, at)
            if length:
                return self._behind(at, length, name)
        return []

    def _is_minus(self, at: int) -> bool:
        """-word, with white space in front of the sign and none behind it."""
        word = self.words[at]
        return at > 0 and bool(re.search(r"\s[-−]$", word.gap)) and word.text[0].isalpha()

    def _is_prefix(self, at: int) -> bool:
        """non-x with or without a hyphen; of a word that also stands alone ("nicht") only with a hyphen."""
        if self.words[at].text not in self.rules["prefixes"] or not self._follows(at + 1):
            return False
        return self.words[at + 1].hyphen or self.words[at].text not in self.rules["not"]

    def _follows(self, at: int) -> bool:
        """Whether a plain word with a letter stands at a place."""
        return (
            at < len(self.words)
            and at not in self.plain
            and not self.words[at].broken
            and self.words[at].text.isalpha()
        )

    def _is_free(self, at: int) -> bool:
        """x-free with a hyphen, or a substance with "free" behind it."""
        if not self._follows(at + 1) or self.words[at + 1].text not in self.rules["suffixes"]:
            return False
        hyphen = self.words[at + 1].hyphen and self.words[at].text.isalpha() and not self.words[at].hyphen
        return hyphen or self.rules["substances"].at(self.words, at) == 1

    def _fused(self, at: int) -> str:
        """The substance in a word such as sugarfree, zuckerfreie; "" = it is no such word."""
        word = self.words[at].text
        stems = [word.removesuffix(end) for end in self.rules["suffixes"] if word.endswith(end)]
        return next((stem for stem in stems if stem in self.rules["substances"]), "")

    def _behind(self, at: int, length: int, kind: str) -> list[tuple[int, tuple[int, int], bool, int]]:
        """The exclusions that the words of `kind` at a place begin, [] where they exclude nothing."""
        first = at + length
        if kind != "without" and not self._may_negate(at, first):
            return []
        most = self._most(at, first) if kind == "no" else MOST_WORDS
        found, start, begin = [], self._joint_before(at), first
        while True:
            term = self._term(begin, most)
            if term is None:
                break
            last = self._swallowed(term[1])
            found.append((start, term, False, last))
            begin, start = self._joined(last), last + 1
            if not begin:
                break
        return [] if not found or self._is_print(found[-1][1]) else found

    def _joint_before(self, at: int) -> int:
        """The first place that goes with an exclusion: an "and" in front of "without" goes, too."""
        joint = at > 1 and self.words[at - 1].text in self.rules["weak_joiners"] and not self.words[at].broken
        return at - 1 if joint and at - 1 not in self.plain else at

    def _swallowed(self, last: int) -> int:
        """The last place that goes with an exclusion: in "no headrest needed" the last word does, too."""
        follows = last + 1 < len(self.words) and self.words[last + 1].text in self.rules["swallowed"]
        return last + 1 if follows and not self.words[last + 1].broken and last + 1 not in self.plain else last

    def _may_negate(self, at: int, first: int) -> bool:
        """Whether "no" and "not" may exclude what follows: they do not in a sentence or in front of a number."""
        if first >= len(self.words) or self.words[first].broken or self.words[first].text[0].isdigit():
            return False
        if at and not self.words[at].broken and self.words[at - 1].text in self.rules["before_not"]:
            return False
        follower = self.words[first].text
        return follower not in self.rules["after_not"] and not (at == 0 and self.words[0].text in self.rules["not"])

    def _most(self, at: int, first: int) -> int:
        """How many words "no" excludes: few in front of the product ("no sugar cereal", "no added sugar granola")."""
        modified = self.words[first].text in self.rules["modifiers"]
        known = self.rules["substances"].at(self.words, first) == 1
        return 1 + modified if at == 0 or known or modified else MOST_WORDS

    def _term(self, begin: int, most: int) -> tuple[int, int] | None:
        """The places of the first and last word of what is excluded; None = nothing is."""
        while begin < len(self.words) and self.words[begin].text in self.rules["articles"]:
            begin += 1
        end = begin
        while end < len(self.words) and end - begin < most and not self._ends(end, begin):
            end += 1
        if end == begin or self._is_manner(begin, end - 1):
            return None
        return begin, end - 1

    def _ends(self, at: int, begin: int) -> bool:
        """Whether the excluded words end in front of a place."""
        word = self.words[at]
        if at in self.plain or (word.broken and at > begin) or self.rules["stops"].at(self.words, at):
            return True
        if any(self.rules[name].at(self.words, at) for name in ("without", "no", "not")):
            return True
        return at > begin and (word.text[0].isdigit() or word.text in self.rules["tails"])

    def _is_manner(self, begin: int, last: int) -> bool:
        """Whether "without" is of a manner or a title: "without drilling", "without fear"."""
        words = [word.text for word in self.words[begin : last + 1]]
        if words[0] in self.rules["abstract"]:
            return True
        doing = [w for w in words if w.endswith("ing") and len(w) > GERUND and w not in self.rules["things_in_ing"]]
        return self.language == "en" and bool(doing)

    def _joined(self, last: int) -> int:
        """Where the next excluded word of a list begins; 0 = the list ends behind `last`."""
        at = last + 1
        if at >= len(self.words):
            return 0
        word = self.words[at]
        if word.text in self.rules["joiners"] and at + 1 < len(self.words):
            return at + 1
        if word.text in self.rules["weak_joiners"]:
            return at + 1 if at + 2 == len(self.words) and self._follows(at + 1) else 0
        return at if self._in_list(at) else 0

    def _in_list(self, at: int) -> bool:
        """Whether the word behind a comma is of a list that ends in "or": "without corn, wheat or soy"."""
        if "," not in self.words[at].gap:
            return False
        for place in range(at, min(at + 2 * MOST_WORDS, len(self.words))):
            if self.words[place].text in self.rules["joiners"]:
                return True
            if place > at and self.words[place].broken and "," not in self.words[place].gap:
                return False
        return False

    def _is_print(self, term: tuple[int, int]) -> bool:
        """Whether a printed word ends the excluded words or follows them: "dance without shame shirt"."""
        media = self.rules["media"]
        return any(media.at(self.words, at) for at in range(term[0] + 1, len(self.words)))
