"""Suggestions while a query is typed: past queries, categories, brands, product types and phrases of titles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import composed_text, normal_text
from goodrate.retrieval.rewriting.array_file import check_lengths, load_arrays, save_arrays
from goodrate.retrieval.rewriting.phrases import frequent_phrases
from goodrate.retrieval.rewriting.vocabulary import Vocabulary, span
from goodrate.retrieval.rewriting.words import WORD, catalogue_texts, comparable, folded_words

SUGGESTIONS_FILE = "suggestions.npz"  # its usual name inside an index folder
KIND, FORMAT_VERSION = "suggestions", 1
KINDS = ("query", "category", "type", "brand", "brand_type", "phrase", "words")
BONUS = {"query": 0.0, "category": 1.0, "type": 1.0, "brand": 0.5, "brand_type": 0.5, "phrase": 0.0, "words": 0.0}
ASKED = 2.0  # how much the log of a query's count weighs beside the log of its results
LATER = 1.5  # taken off where the typed word is not the first of the suggestion
CONTINUES = 2.0  # added where the suggestion goes on exactly as it was typed
MIN_ITEMS = 3  # of a product type, or of a brand in it
LOOKED_AT = 200  # of the best by score: those that are near equal leave enough
MAX_TYPED = 16  # words; nothing is suggested for more, which bounds the time
FUZZY_LETTERS = 4  # typed letters from which one typing error is forgiven
TYPES = ("product_type", "producttype", "product type")  # attributes that hold one


@dataclass(frozen=True)
class Suggestion:
    """text as it is shown. kind: one of KINDS. results: items with all its words. asked: times in the query log."""

    text: str
    kind: str
    results: int
    asked: float = 0.0

    @property
    def score(self) -> float:
        """log(1 + results) + 2 log(1 + asked), and a little for names of whole groups of items."""
        return math.log1p(self.results) + ASKED * math.log1p(self.asked) + BONUS[self.kind]


class SuggestionIndex:
    """Suggestions, and from every word of them the way to them.

    words (W,) sorted; entries[starts[w]:starts[w + 1]] are the suggestions with word w, so that all words with one
    beginning are one slice; first: whether the word is the first of the suggestion.
    """

    def __init__(
        self, suggestions: Sequence[Suggestion], words: list[str], starts: np.ndarray, entries: np.ndarray,
        first: np.ndarray,
    ) -> None:  # fmt: skip
        self.suggestions, self.words = list(suggestions), words
        self._starts, self._entries, self._first = starts, entries, first
        scores = np.array([suggestion.score for suggestion in self.suggestions], dtype=np.float32)
        self._scores = scores[entries] - LATER * ~first

    @classmethod
    def build(cls, items: pl.DataFrame, queries: Iterable[tuple[str, float]] = ()) -> SuggestionIndex:
        """From a frame of items (ITEM_COLUMNS) and, where there is one, a query log of (query, count).

        Queries that no item has all words of are left out, as is all but the best of suggestions that differ only in
        case, accents, plural endings or the order of words.
        """
        found = [*_asked(items, queries), *_groups(items)]
        found += [Suggestion(text, "phrase", count) for text, count in frequent_phrases(items["title"]).items()]
        return cls._linked(_distinct(found))

    @classmethod
    def _linked(cls, suggestions: Sequence[Suggestion]) -> SuggestionIndex:
        """Suggestions with their words in order."""
        at: dict[str, dict[int, bool]] = defaultdict(dict)
        for number, suggestion in enumerate(suggestions):
            for place, word in enumerate(folded_words(suggestion.text)):
                at[word].setdefault(number, place == 0)
        words = sorted(at)
        starts = np.cumsum([0, *(len(at[word]) for word in words)], dtype=np.int64)
        entries = np.array([number for word in words for number in at[word]], dtype=np.int32)
        first = np.array([is_first for word in words for is_first in at[word].values()], dtype=bool)
        return cls(suggestions, words, starts, entries, first)

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all."""
        arrays: dict[str, np.ndarray] = {
            "kinds": np.array([KINDS.index(s.kind) for s in self.suggestions], dtype=np.uint8),
            "results": np.array([s.results for s in self.suggestions], dtype=np.int64),
            "asked": np.array([s.asked for s in self.suggestions], dtype=np.float64),
            "starts": self._starts, "entries": self._entries, "first": self._first,
        }  # fmt: skip
        texts = {"texts": [s.text for s in self.suggestions], "words": self.words}
        save_arrays(path, KIND, FORMAT_VERSION, arrays, texts)

    @classmethod
    def load(cls, path: str | Path) -> SuggestionIndex:
        """The index of a file. Raises FileNotFoundError, or ValueError for a damaged one or another format."""
        arrays, texts = load_arrays(path, KIND, FORMAT_VERSION)
        rows = dict.fromkeys(("texts", "kinds", "results", "asked"), len(texts.get("texts", ())))
        words, links = len(texts.get("words", ())), len(arrays.get("entries", ()))
        lengths = rows | {"words": words, "starts": words + 1, "entries": links, "first": links}
        check_lengths(path, {**texts, **arrays}, lengths)
        columns = (arrays.pop(name).tolist() for name in ("kinds", "results", "asked"))
        suggestions = [
            Suggestion(text, KINDS[kind], results, asked)
            for text, kind, results, asked in zip(texts["texts"], *columns, strict=True)
        ]
        return cls(suggestions, texts["words"], **arrays)

    def __len__(self) -> int:
        return len(self.suggestions)

    def suggest(self, typed: str, k: int = 8, vocabulary: Vocabulary | None = None) -> list[Suggestion]:
        """The best k suggestions for what has been typed so far; no two of them near equal, none for nothing typed.

        Every typed word is the beginning of a word of the suggestion, in any order. A word of four letters or more that
        begins none may have one typing error after its first letter. vocabulary: the catalogue's (SpellingIndex has
        it); where no suggestion fits several words, the last is completed to words that titles have with the others.
        Raises ValueError for k under 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}")
        words = folded_words(typed)
        if not 0 < len(words) <= MAX_TYPED:
            return []
        numbers, scores = self._matching(words)
        if not len(numbers) and len(words) > 1 and vocabulary is not None:
            return _completed(typed, words, k, vocabulary)
        start = " ".join(words)
        ranked = sorted(
            (-score - CONTINUES * self._continues(number, start), self.suggestions[number].text, number)
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        )
        return [self.suggestions[number] for _, _, number in ranked[:k]]

    def _continues(self, number: int, start: str) -> bool:
        return " ".join(folded_words(self.suggestions[number].text)).startswith(start)

    def _matching(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The best matches (M,) by score, at most LOOKED_AT: numbers and scores."""
        numbers, scores = self._with(words[-1])
        for word in words[:-1]:
            keep = np.isin(numbers, self._with(word)[0])
            numbers, scores = numbers[keep], scores[keep]
        if len(numbers) > 2 * LOOKED_AT:  # a suggestion stands there once for each of its words
            best = np.argpartition(-scores, 2 * LOOKED_AT)[: 2 * LOOKED_AT]
            numbers, scores = numbers[best], scores[best]
        order = np.lexsort((-scores, numbers))
        numbers, place = np.unique(numbers[order], return_index=True)
        return numbers, scores[order][place]

    def _with(self, beginning: str) -> tuple[np.ndarray, np.ndarray]:
        """Suggestions with a word that begins so, or nearly so: numbers and scores; one may be there twice."""
        rows = span(self.words, beginning)
        spans = [slice(self._starts[rows.start], self._starts[rows.stop])] if rows else self._nearly(beginning)
        return (
            np.concatenate([self._entries[:0], *(self._entries[part] for part in spans)]),
            np.concatenate([self._scores[:0], *(self._scores[part] for part in spans)]),
        )

    def _nearly(self, typed: str) -> list[slice]:
        """Of the words with the same first letter those that begin so but for one error."""
        if len(typed) < FUZZY_LETTERS:
            return []
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        same = span(self.words, typed[0])
        rows: set[int] = set()
        for length in (len(typed) - 1, len(typed), len(typed) + 1):
            heads = [word[:length] for word in self.words[same.start : same.stop]]
            near = process.extract(typed, heads, scorer=OSA.distance, score_cutoff=1, limit=None)
            rows.update(same.start + place for _, _, place in near)
        return [slice(self._starts[row], self._starts[row + 1]) for row in sorted(rows)]


def _completed(typed: str, words: Sequence[str], k: int, vocabulary: Vocabulary) -> list[Suggestion]:
    """What was typed with its last word completed to a word without digits, most titles with all of them first."""
    others = set(words[:-1])
    if not others <= vocabulary.row_of.keys():
        return []
    with_all = vocabulary.titles_with(vocabulary.row_of[word] for word in others) == len(others)
    ends = sorted(vocabulary.starting(words[-1]), key=lambda row: (-vocabulary.frequency[row], row))[:LOOKED_AT]
    composed = composed_text(typed)
    *_, last = WORD.finditer(composed)
    found = [
        Suggestion(composed[: last.start()] + vocabulary.shown[row], "words", int(with_all[titles].sum()))
        for row, titles in ((row, vocabulary.titles_of(row)) for row in ends)
        if vocabulary.words[row].isalpha() and vocabulary.words[row] not in words
    ]
    return sorted(_distinct(one for one in found if one.results), key=lambda one: (-one.results, one.text))[:k]


def _asked(items: pl.DataFrame, queries: Iterable[tuple[str, float]]) -> Iterator[Suggestion]:
    """The queries of a log that items have all words of, counts of equal ones added up."""
    counts: dict[str, float] = defaultdict(float)
    for query, count in queries:
        if not 0 <= count < math.inf:
            raise ValueError(f"query {query[:40]!r} has the count {count}; expected a number of at least 0")
        counts[normal_text(query)] += count
    words = {query: set(comparable(query)) for query in counts}
    holding = _holding(items, set().union(*words.values()))
    for query, count in counts.items():
        if words[query] and count > 0:
            results = len(set.intersection(*(holding[word] for word in words[query])))
            if results:
                yield Suggestion(query, "query", results, count)


def _holding(items: pl.DataFrame, wanted: set[str]) -> dict[str, set[int]]:
    """Of the wanted words the items that have them in any text."""
    holding: dict[str, set[int]] = {word: set() for word in wanted}
    if wanted:
        for number, (text, _) in enumerate(catalogue_texts(items)):
            for word in wanted.intersection(comparable(text)):
                holding[word].add(number % len(items))
    return holding


def _groups(items: pl.DataFrame) -> Iterator[Suggestion]:
    """Brands, categories (the last part of a path), product types, and brands in them."""
    category = pl.col("category").str.split(">").list.last().str.split("/").list.last().str.strip_chars()
    typed = pl.coalesce(pl.col("attributes").str.json_path_match(f"$['{name}']") for name in TYPES)
    frame = items.select(
        pl.col("brand").str.strip_chars(), category=category, type=typed.fill_null("").str.strip_chars()
    )
    for kind, least in (("brand", 1), ("category", 1), ("type", MIN_ITEMS)):
        yield from _counted(frame[kind], kind, least)
    group = pl.when(pl.col("type") != "").then("type").otherwise("category")
    filled = frame.with_columns(group=group).filter(pl.col("brand") != "", pl.col("group") != "")
    named = pl.concat_str("brand", pl.col("group").str.to_lowercase(), separator=" ")
    yield from _counted(filled.select(named).to_series(), "brand_type", MIN_ITEMS)


def _counted(values: pl.Series, kind: str, least: int) -> Iterator[Suggestion]:
    """Every value that occurs often enough."""
    counts = values.filter(values != "").alias("value").value_counts().filter(pl.col("count") >= least)
    for text, count in counts.sort("value").rows():
        yield Suggestion(" ".join(text.split()), kind, count)


def _distinct(suggestions: Iterable[Suggestion]) -> list[Suggestion]:
    """The best of those that are near equal, with the most results and the highest count of them."""
    best: dict[tuple[str, ...], Suggestion] = {}
    for suggestion in suggestions:
        key = tuple(sorted(comparable(suggestion.text)))
        if not key:
            continue
        other = best.get(key, suggestion)
        top = max(suggestion, other, key=lambda s: (s.score, -KINDS.index(s.kind), s.text))
        best[key] = replace(
            top, results=max(suggestion.results, other.results), asked=max(suggestion.asked, other.asked)
        )
    return sorted(best.values(), key=lambda s: s.text)
