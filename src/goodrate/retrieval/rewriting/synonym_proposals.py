"""Proposals of synonyms for a person to accept: phrases near in meaning that stand in the same contexts, not together.

Ours: embedding neighbours among a catalogue's phrases and a shop's queries, kept when their items are alike and when
nothing says that the two are a contrast (two values of one attribute, opposites, brands, a part and a whole).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl
from scipy import sparse

from goodrate import strict_json
from goodrate.catalog.normal_form import normal_text
from goodrate.retrieval.rewriting.phrases import MIN_TITLES, STOP_WORDS, frequent_phrases
from goodrate.retrieval.rewriting.suggestions import TYPES
from goodrate.retrieval.rewriting.words import comparable

Phrase = tuple[str, ...]
MOST_TERMS = 4000  # of the most frequent: bounds the encoding
NEIGHBOURS, MIN_COSINE = 5, 0.6
BLOCK = 512  # phrases whose cosines to all others are looked at together
MIN_CONTEXT = 0.15  # cosine of what else stands in the titles
CONTEXT_SHARE, FULL_CONTEXT = 0.3, 0.5  # of the score that contexts decide, and what counts as wholly alike
MAX_TOGETHER = 0.25  # share of the rarer phrase's items that have both: names of one thing replace each other
MAX_OF_ONE_BRAND = 0.85  # share of a phrase's items
SAME_ROOT, SPELLINGS_APART = 4, 2  # letters that words of one root begin with; edits between spellings of one word
ABBREVIATION = 4  # letters of one, at most
OTHER_LENGTH = 0.85  # what the score is multiplied by for each word that one phrase has more
SHARED_WORDS = 5  # shown as evidence
MIN_ASKED = 2.0  # times a query must have been typed
MOST_VALUES = 500  # of an attribute whose values are looked at as contrasts

COLOURS = frozenset(
    ("black", "white", "grey", "gray", "silver", "gold", "red", "blue", "green", "yellow", "orange", "purple", "violet",
     "pink", "brown", "beige", "cyan", "magenta", "turquoise", "navy", "ivory", "bronze", "copper", "color", "colour",
     "schwarz", "weiss", "grau", "silber", "rot", "blau", "grün", "gelb", "noir", "blanc", "rouge", "bleu", "vert")
)  # fmt: skip
SIZES = frozenset(
    ("xs", "small", "medium", "large", "xl", "xxl", "mini", "micro", "nano", "midi", "maxi", "big", "tiny", "short",
     "long", "wide", "narrow", "tall", "slim", "thin", "thick", "compact", "full", "half", "single", "double", "triple",
     "dual", "quad", "one", "two", "three", "four", "five", "six", "eight", "ten", "low", "high", "extra", "ultra",
     "super", "standard", "basic", "light", "heavy", "new", "old")
)  # fmt: skip
OPPOSITES = frozenset(
    frozenset(pair) for pair in (
        ("wired", "wireless"), ("corded", "cordless"), ("indoor", "outdoor"), ("internal", "external"),
        ("man", "woman"), ("men", "women"), ("boy", "girl"), ("kid", "adult"), ("left", "right"), ("front", "rear"),
        ("front", "back"), ("top", "bottom"), ("upper", "lower"), ("input", "output"), ("in", "out"),
        ("male", "female"), ("male", "gender"), ("female", "gender"), ("summer", "winter"), ("hot", "cold"),
        ("dry", "wet"),
        ("hard", "soft"), ("gloss", "matt"), ("glossy", "matt"), ("glossy", "matte"), ("gloss", "matte"),
        ("transparent", "opaque"), ("analog", "digital"), ("horizontal", "vertical"), ("passive", "active"),
        ("automatic", "manual"), ("read", "write"), ("sender", "receiver"), ("desktop", "laptop"), ("ac", "dc"),
        ("plug", "socket"), ("hd", "sd"), ("buy", "sell"), ("online", "offline"),
    )
)  # fmt: skip
_NEGATIONS = ("un", "non", "in", "dis", "anti", "de")


class TextEncoder(Protocol):
    """Texts to unit vectors (N, D); models.encoder.Encoder is one."""

    def encode_queries(self, texts: list[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Proposal:
    """Two phrases that may mean the same. score: 0..1, higher is surer. evidence: lines for the person who decides."""

    first: str
    second: str
    score: float
    evidence: tuple[str, ...]


@dataclass
class _Term:
    """A phrase as it is mostly written, the items that have it, and how often it was asked for."""

    text: str
    asked: float = 0.0
    items: list[int] = field(default_factory=list)


def propose(
    items: pl.DataFrame, encoder: TextEncoder, query_log: Iterable[tuple[str, float]] = (), most: int = 200
) -> list[Proposal]:
    """The best pairs of phrases that may be synonyms, best first.

    items: a frame with the columns of ITEM_COLUMNS. query_log: (query, count); its queries become phrases, too. The
    encoder reads at most 4,000 short texts. Raises ValueError for `most` under 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1; got {most}")
    terms = _terms(items, query_log)
    keys = list(terms)
    if len(keys) < 2:
        return []
    titles = [comparable(title) for title in items["title"].to_list()]
    _find(terms, titles)
    contexts = _Contexts(keys, terms, titles)
    contrasts = _Contrasts(items)
    lines = [contrasts.is_line(terms[key].items) for key in keys]
    found = []
    for a, b, cosine in _near(encoder.encode_queries([terms[key].text for key in keys]), _words_of(keys)):
        if not (lines[a] or lines[b] or contrasts.between(keys[a], keys[b])):
            proposal = _proposal(terms[keys[a]], terms[keys[b]], a, b, cosine, contexts)
            found += [proposal] if proposal else []
    return sorted(found, key=lambda p: (-p.score, p.first, p.second))[:most]


def _terms(items: pl.DataFrame, query_log: Iterable[tuple[str, float]]) -> dict[Phrase, _Term]:
    """The most frequent phrases of titles, categories and queries, by what they are compared by."""
    counts: dict[Phrase, int] = defaultdict(int)
    written: dict[Phrase, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    asked: dict[Phrase, float] = defaultdict(float)
    sources = [*frequent_phrases(items["title"]).items(), *_named(items["category"])]
    for text, count in sources:
        key = comparable(text)
        counts[key] = max(counts[key], count)
        written[key][text] += count
    for query, times in query_log:
        text = normal_text(query)
        key = comparable(text)
        if times >= MIN_ASKED and 0 < len(key) <= 3 and not any(word.isnumeric() for word in key):
            asked[key] += times
            written[key][text] += times
    order = sorted(written, key=lambda key: (-asked[key], -counts[key], key))[:MOST_TERMS]
    return {key: _Term(max(written[key], key=lambda text: (written[key][text], text)), asked[key]) for key in order}


def _named(categories: pl.Series) -> list[tuple[str, int]]:
    """The last parts of category paths, in small letters, with their items."""
    parts = Counter(normal_text(text.replace("/", ">").split(">")[-1]) for text in categories.to_list())
    return [(text, count) for text, count in parts.items() if text and count >= MIN_TITLES and len(text.split()) <= 3]


def _find(terms: dict[Phrase, _Term], titles: Sequence[Phrase]) -> None:
    """Note which items have which term in their title, its words side by side."""
    longest = max(map(len, terms))
    for number, words in enumerate(titles):
        runs = {words[at : at + n] for n in range(1, longest + 1) for at in range(len(words) - n + 1)}
        for run in runs & terms.keys():
            terms[run].items.append(number)


def _near(vectors: np.ndarray, apart: sparse.csr_matrix) -> list[tuple[int, int, float]]:
    """(a, b, cosine) of the pairs a < b that are among each other's nearest. vectors: (N, D) of length 1.

    apart: (N, W), which words each phrase has; those that share one are no neighbours.
    """
    pairs: dict[tuple[int, int], list[float]] = defaultdict(list)
    for start in range(0, len(vectors), BLOCK):
        block = slice(start, start + BLOCK)
        cosines = np.where((apart[block] @ apart.T).toarray() > 0, -1.0, vectors[block] @ vectors.T)
        width = min(NEIGHBOURS, len(vectors) - 1)
        nearest = np.argpartition(-cosines, width - 1, axis=1)[:, :width]
        for row, others in enumerate(nearest.tolist()):
            for other in others:
                pairs[min(start + row, other), max(start + row, other)].append(float(cosines[row, other]))
    return [(a, b, both[0]) for (a, b), both in sorted(pairs.items()) if len(both) == 2 and both[0] >= MIN_COSINE]


def _words_of(keys: Sequence[Phrase]) -> sparse.csr_matrix:
    """Which words each phrase has (N, W)."""
    column: dict[str, int] = {}
    rows = [[column.setdefault(word, len(column)) for word in set(key)] for key in keys]
    return _incidence(rows, len(column))


class _Contexts:
    """Of every term the other words in its titles, weighted by how telling they are."""

    def __init__(self, keys: Sequence[Phrase], terms: dict[Phrase, _Term], titles: Sequence[Phrase]) -> None:
        self._keys = keys
        counts = Counter(word for words in titles for word in set(words))
        usual = {word: n for word, n in counts.items() if n >= MIN_TITLES and word not in STOP_WORDS}
        self._words = sorted(usual)
        self._column = {word: column for column, word in enumerate(self._words)}
        telling = np.log(len(titles) / np.array([usual[word] for word in self._words] or [1]))
        title_words = _incidence([[self._column[w] for w in set(words) & usual.keys()] for words in titles], len(usual))
        held = _incidence([terms[key].items for key in keys], len(titles))
        self._rows = sparse.csr_matrix((held @ title_words).multiply(telling[: len(usual)]))

    def alike(self, a: int, b: int) -> tuple[float, list[str]]:
        """Cosine of two terms' contexts without their own words, and the words that they share most."""
        left, right = (self._rows[row].toarray()[0] for row in (a, b))
        own = [self._column[word] for word in (*self._keys[a], *self._keys[b]) if word in self._column]
        left[own] = right[own] = 0.0
        norms = float(np.linalg.norm(left) * np.linalg.norm(right))
        if norms == 0.0:
            return 0.0, []
        parts = left * right / norms
        best = [column for column in np.argsort(-parts, kind="stable")[:SHARED_WORDS].tolist() if parts[column] > 0]
        return float(parts.sum()), [self._words[column] for column in best]


def _incidence(rows: Sequence[Sequence[int]], width: int) -> sparse.csr_matrix:
    """Rows of column numbers as a matrix of ones."""
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((column for row in rows for column in row), dtype=np.int32, count=int(starts[-1]))
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(rows), width))


class _Contrasts:
    """Pairs that are no synonyms however near they are."""

    def __init__(self, items: pl.DataFrame) -> None:
        self._brands = items["brand"].to_list()
        self._brand_words = {word for brand in set(self._brands) for word in comparable(brand)}
        self._attributes = _attribute_values(items)

    def between(self, a: Phrase, b: Phrase) -> bool:
        """Whether two phrases without a shared word contrast.

        They do when one holds a brand, a colour, a size or a number, when both are values of one attribute, when they
        are opposites, forms of one word, or when one is the other and more.
        """
        words = {*a, *b}
        if words & (COLOURS | SIZES | self._brand_words) or any(not word.isalpha() for word in words):
            return True
        if self._attributes.get(a, set()) & self._attributes.get(b, set()):
            return True
        if any(_opposite(x, y) for x in a for y in b):
            return True
        if len(a) == len(b) == 1:
            return _is_part(a[0], b[0])
        return "".join(a) != "".join(b) and any(_beginning(x, y) >= SAME_ROOT for x in a for y in b)

    def is_line(self, items: Sequence[int]) -> bool:
        """Whether nearly all items of a phrase are of one brand: the name of a line of products."""
        brands = Counter(self._brands[number] for number in items if self._brands[number])
        return bool(brands) and max(brands.values()) > MAX_OF_ONE_BRAND * brands.total() and len(set(self._brands)) > 2


def _is_part(a: str, b: str) -> bool:
    """Whether one word begins or ends with the other, or both come from one: printer, printing.

    Spellings of one word are not meant: theater, theatre.
    """
    from rapidfuzz.distance import OSA

    short, long = sorted((a, b), key=len)
    if len(short) > 2 and (long.startswith(short) or long.endswith(short)):
        return True
    return _beginning(a, b) >= SAME_ROOT and OSA.distance(a, b) > SPELLINGS_APART


def _beginning(a: str, b: str) -> int:
    """How many letters two words begin with alike."""
    differing = (place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _is_abbreviation(a: str, b: str) -> bool:
    """Whether the shorter one's letters occur in the longer one in that order, the first one first: hdd, hard drive."""
    short, long = sorted((a.replace(" ", ""), b.replace(" ", "")), key=len)
    letters = iter(long)
    return len(short) <= ABBREVIATION and short[:1] == long[:1] and all(letter in letters for letter in short)


def _opposite(a: str, b: str) -> bool:
    """Listed opposites, and words that a negation parts: lined and unlined, wire and wireless."""
    if frozenset((a, b)) in OPPOSITES:
        return True
    short, long = sorted((a, b), key=len)
    return (long.startswith(short) and long.endswith("less")) or any(long == prefix + short for prefix in _NEGATIONS)


def _attribute_values(items: pl.DataFrame) -> dict[Phrase, set[str]]:
    """Phrase -> attributes that have it as a value, of those with few values; names of product types are left out."""
    values: dict[str, set[Phrase]] = defaultdict(set)
    for text in items["attributes"].unique().to_list():
        for name, value in strict_json.parse(text).items():
            if name not in TYPES and name != "type":
                listed = value if isinstance(value, list) else [value]
                values[name].update(comparable(v) for v in listed if isinstance(v, str) and len(v) < 40)
    holders: dict[Phrase, set[str]] = defaultdict(set)
    for name, phrases in values.items():
        if len(phrases) <= MOST_VALUES:
            for phrase in phrases:
                holders[phrase].add(name)
    return holders


def _proposal(x: _Term, y: _Term, a: int, b: int, cosine: float, contexts: _Contexts) -> Proposal | None:
    """A pair with its score and evidence, None where their items speak against it."""
    together, rarer = len(set(x.items).intersection(y.items)), min(len(x.items), len(y.items))
    alike, shared = contexts.alike(a, b) if rarer else (MIN_CONTEXT, [])
    if alike < MIN_CONTEXT or together > MAX_TOGETHER * rarer or not (x.items or y.items):
        return None
    evidence = [
        f"cosine {cosine:.2f}; " + (f"contexts alike {alike:.2f}" if rarer else "no title has one of them"),
        f"{len(x.items):,} and {len(y.items):,} items, {together:,} with both",
    ]
    evidence += [f"both stand with: {', '.join(shared)}"] if shared else []
    evidence += [f"asked: {term.text} {term.asked:,.0f} times" for term in (x, y) if term.asked]
    score = (
        cosine * (1 - CONTEXT_SHARE + CONTEXT_SHARE * min(alike / FULL_CONTEXT, 1.0)) * (1 - together / max(rarer, 1))
    )
    if not _is_abbreviation(x.text, y.text):
        score *= OTHER_LENGTH ** abs(len(x.text.split()) - len(y.text.split()))
    return Proposal(x.text, y.text, round(score, 4), tuple(evidence))
