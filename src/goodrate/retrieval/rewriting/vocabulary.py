"""The words of a catalogue: how often each occurs, how it is written, and which titles hold it."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from goodrate.retrieval.rewriting.words import MAIN_WEIGHT, WORD, catalogue_texts, fold, plain

MAX_DOCUMENTS = 200_000  # titles that co-occurrence is counted in: bounds the file and the memory


class Vocabulary:
    """Words in the order of their letters, and titles by word.

    words (V,): folded. shown (V,): as the catalogue mostly writes them, in small letters. frequency (V,): texts with
    the word, weighted. starts (V + 1,), documents: titles documents[starts[v]:starts[v + 1]] hold word v.
    """

    def __init__(
        self, words: list[str], shown: list[str], frequency: np.ndarray, starts: np.ndarray, documents: np.ndarray
    ) -> None:
        self.words, self.shown, self.frequency = words, shown, frequency
        self.starts, self.documents = starts, documents
        self.row_of = {word: row for row, word in enumerate(words)}
        self._titles = int(documents.max(initial=-1)) + 1

    @classmethod
    def build(cls, texts: Iterable[tuple[str, float]] | pl.DataFrame, known: Iterable[str] = ()) -> Vocabulary:
        """From (text, weight) pairs, or a frame of items (ITEM_COLUMNS), which catalogue_texts turns into pairs.

        weight: what a word counts by being in that text, >= 0; texts of weight 1 or more are titles. known: further
        words, which count nothing. Raises ValueError for a weight that is negative or no number.
        """
        counted = _Counts()
        for text, weight in catalogue_texts(texts) if isinstance(texts, pl.DataFrame) else texts:
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {text[:40]!r} is {weight}; expected a number of at least 0")
            counted.add(text, weight)
        for text in known:
            counted.add(text, 0.0)
        return counted.vocabulary()

    def __len__(self) -> int:
        return len(self.words)

    def titles_of(self, row: int) -> np.ndarray:
        """The titles with a word, ascending, int32."""
        return self.documents[self.starts[row] : self.starts[row + 1]]

    def titles_with(self, rows: Iterable[int]) -> np.ndarray:
        """How many of some words each title has (titles,), int32."""
        held = np.zeros(self._titles, dtype=np.int32)
        for row in rows:
            held[self.titles_of(row)] += 1
        return held

    def starting(self, beginning: str) -> range:
        """The rows of the words with a beginning."""
        return span(self.words, beginning)


def span(words: Sequence[str], beginning: str) -> range:
    """Where the words with a beginning stand among sorted words."""
    low = bisect_left(words, beginning)
    return range(low, bisect_left(words, beginning + "\U0010ffff", low))


class _Counts:
    """Words, how often they are written in which way, and which titles hold them, while texts come in."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}  # as written, in small letters
        self._weights = array("d")
        self._pairs = array("q")  # title << 32 | word
        self._titles = 0

    def add(self, text: str, weight: float) -> None:
        """Count every word of a text once."""
        found = [self._id(word) for word in set(WORD.findall(plain(text)))]
        for number in found:
            self._weights[number] += weight
        if weight >= MAIN_WEIGHT and self._titles < MAX_DOCUMENTS:
            self._pairs.extend(self._titles << 32 | number for number in found)
            self._titles += 1

    def _id(self, word: str) -> int:
        number = self._ids.setdefault(word, len(self._weights))
        if number == len(self._weights):
            self._weights.append(0.0)
        return number

    def vocabulary(self) -> Vocabulary:
        """What has been counted, by folded word."""
        weights = np.array(self._weights, dtype=np.float64)
        folded = [fold(word) for word in self._ids]
        words = sorted(set(folded))
        row_of = {word: row for row, word in enumerate(words)}
        rows = np.fromiter((row_of[word] for word in folded), dtype=np.int64, count=len(folded))
        frequency = np.bincount(rows, weights, minlength=len(words)).astype(np.float32)
        shown = _mostly(list(self._ids), rows, weights, len(words))
        return Vocabulary(words, shown, frequency, *self._postings(rows, len(words)))

    def _postings(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """starts (count + 1,) int64 and documents int32, ascending within a word."""
        pairs = np.array(self._pairs, dtype=np.int64)
        keys = np.unique(rows[pairs & 0xFFFFFFFF] << 32 | pairs >> 32) if len(pairs) else pairs
        starts = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) << 32)
        return starts.astype(np.int64), (keys & 0xFFFFFFFF).astype(np.int32)


def _mostly(written: Sequence[str], rows: np.ndarray, weights: np.ndarray, count: int) -> list[str]:
    """Of each word the way it is mostly written."""
    shown = [""] * count
    for place in np.lexsort((weights, rows)).tolist():  # the heaviest of a word comes last
        shown[rows[place]] = written[place]
    return shown
