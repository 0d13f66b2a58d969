"""Spelling correction towards the catalogue's own words: `labtop` and `hp lapotp` are asked again as laptop.

A noisy channel: of the catalogue's words near to a word that the catalogue lacks, the best has
log(1 + frequency) + CONTEXT log(1 + titles shared with the query's other words) - EDIT cost(typed, meant).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import composed_text
from goodrate.retrieval.rewriting.array_file import check_lengths, load_arrays, save_arrays
from goodrate.retrieval.rewriting.synonyms import Alternative
from goodrate.retrieval.rewriting.typos import OTHER, SWAP, NearWords, edit_cost, signature
from goodrate.retrieval.rewriting.vocabulary import Vocabulary
from goodrate.retrieval.rewriting.words import WORD, fold, same_stem

SPELLING_FILE = "spelling.npz"  # its usual name inside an index folder
KIND, FORMAT_VERSION = "spelling", 1
MAX_QUERY = 32  # words of a query; nothing is corrected in a longer text, which bounds the time
MAX_WORD = 40  # letters; longer runs are no words, and the full text cuts them too

EDIT, CONTEXT = 5.0, 1.0
SPACE = 0.8  # the cost of a blank too much or too few
TWO_EDITS = 6  # letters from which two edits are believed
# How much a word may cost, per letter: more where a dictionary says which other words are right, and less to be sure.
# A word that the catalogue lacks is often just a word of another trade: chosen on queries of QueryNER's training part
# against Chorus, where bolder costs without a dictionary changed every second such word.
COST_KNOWING, COST, COST_SURE = 0.33, 0.2, 0.18
DICTIONARY = 5000  # known words that make a dictionary
MIN_TARGET = 1.0  # one title, or ten descriptions, must have a word that others are corrected to
MIN_FAR_TARGET = 5.0  # and so many for two edits
MIN_SHARED, MIN_SHARED_PART = 3, 0.05  # titles that the halves of a split share, and of the rarer half's titles
MIN_PART = 3  # letters of a word that is written as two
MIN_SWAP_SHARED = 3  # titles that a three-letter word shares with the query's other words
SURE_MARGIN = math.log(4)  # between the best and the second, for a correction to be sure
CANDIDATES = 30  # looked at closely

# Units that are written out; shorter ones have the three letters that stay anyway.
UNITS = frozenset(
    ("inch", "inches", "foot", "feet", "watt", "watts", "volt", "volts", "amps", "hertz", "litre", "litres", "liter",
     "liters", "metre", "metres", "meter", "meters", "gram", "grams", "ounce", "ounces", "pound", "pounds", "gallon",
     "gallons", "pack", "pair", "piece", "pieces")
)  # fmt: skip
# Scripts without blanks between words, or with syllables for letters: an edit there is no slip of one key.
_NO_LETTERS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CHUNK = re.compile(r"[^\s,;/|]+")
_BLANK = re.compile(r"[\s-]+")


@dataclass(frozen=True)
class Change:
    """text[start:end] of the corrected query was `typed`."""

    start: int
    end: int
    typed: str


@dataclass(frozen=True)
class Correction:
    """The corrected query and where it differs. sure: clear enough to search with when the query itself finds little.

    A correction that is not sure is for "did you mean".
    """

    text: str
    changes: tuple[Change, ...]
    sure: bool


@dataclass(frozen=True)
class _Token:
    """One word of the query, text[start:end]. fixed: never touched, nor joined with another."""

    start: int
    end: int
    word: str
    fixed: bool


@dataclass(frozen=True)
class _Option:
    """Tokens first..last read as the catalogue's words `rows`."""

    first: int
    last: int
    rows: tuple[int, ...]
    cost: float
    score: float


class SpellingIndex:
    """A catalogue's vocabulary, and which of its words others may be corrected to.

    signatures (V,) uint64: of each word, 0 for one that nothing is corrected to. known (1,): how many words were given
    besides the catalogue's.
    """

    def __init__(self, vocabulary: Vocabulary, signatures: np.ndarray, known: np.ndarray) -> None:
        self.vocabulary = vocabulary
        self._signatures, self._known = signatures, known
        self._cost = COST_KNOWING if known[0] >= DICTIONARY else COST
        self._targets = np.flatnonzero(signatures)
        targets = [vocabulary.words[row] for row in self._targets.tolist()]
        lengths = np.fromiter(map(len, targets), dtype=np.int16, count=len(targets))
        self._near = NearWords(targets, signatures[self._targets], lengths)

    @classmethod
    def build(cls, texts: Iterable[tuple[str, float]] | pl.DataFrame, known: Iterable[str] = ()) -> SpellingIndex:
        """From (text, weight) pairs, or a frame of items (ITEM_COLUMNS), which catalogue_texts turns into pairs.

        weight: what a word counts by being in that text, >= 0; texts of weight 1 or more are titles, in which words are
        counted together. known: words that are right though the catalogue lacks them: brands, a dictionary, whole_words
        of an encoder's vocabulary. With 5,000 of them or more, bolder corrections are believed. Raises ValueError for a
        weight that is negative or no number.
        """
        known = list(known)
        words = Vocabulary.build(texts, known)
        signatures = np.zeros(len(words), dtype=np.uint64)
        for row, (word, frequency) in enumerate(zip(words.words, words.frequency.tolist(), strict=True)):
            if frequency >= MIN_TARGET and _can_be_meant(word):
                signatures[row] = signature(word)
        return cls(words, signatures, np.array([len(known)]))

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all."""
        words = self.vocabulary
        other = [row for row, (word, shown) in enumerate(zip(words.words, words.shown, strict=True)) if word != shown]
        arrays = {
            "frequency": words.frequency, "starts": words.starts, "documents": words.documents,
            "signatures": self._signatures, "known": self._known, "accented": np.array(other, dtype=np.int32),
        }  # fmt: skip
        texts = {"words": words.words, "shown": [words.shown[row] for row in other]}
        save_arrays(path, KIND, FORMAT_VERSION, arrays, texts)

    @classmethod
    def load(cls, path: str | Path) -> SpellingIndex:
        """The index of a file. Raises FileNotFoundError, or ValueError for a damaged one or another format."""
        arrays, texts = load_arrays(path, KIND, FORMAT_VERSION)
        rows, pairs = len(texts.get("words", ())), len(arrays.get("documents", ()))
        lengths = dict.fromkeys(("words", "frequency", "signatures"), rows)
        lengths |= dict.fromkeys(("shown", "accented"), len(texts.get("shown", ())))
        check_lengths(path, {**texts, **arrays}, lengths | {"starts": rows + 1, "documents": pairs, "known": 1})
        signatures, known, accented = (arrays.pop(name) for name in ("signatures", "known", "accented"))
        shown = texts["words"].copy()
        for row, other in zip(accented.tolist(), texts["shown"], strict=True):
            shown[row] = other
        return cls(Vocabulary(texts["words"], shown, **arrays), signatures, known)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __contains__(self, word: str) -> bool:
        """Whether the catalogue has the word, or a form of it that the full text finds."""
        return any(form in self.vocabulary.row_of for form in same_stem(fold(word)))

    def in_catalogue(self, word: str) -> bool:
        """Whether a text of the catalogue has the word or such a form of it: not merely a word that is right."""
        rows = (self.vocabulary.row_of.get(form) for form in same_stem(fold(word)))
        return any(row is not None and self.vocabulary.frequency[row] > 0 for row in rows)

    def joined(self, query: str) -> list[Alternative]:
        """The query with two neighbouring words as one that titles have: "head set" as headset, "smart watch".

        Both words have three letters at least; what holds a digit and units stay, and so does a text of many words.
        """
        query = composed_text(query)
        tokens = list(_tokens(query))
        pairs = zip(tokens, tokens[1:], strict=False) if len(tokens) <= MAX_QUERY else ()
        return [
            Alternative(query[: one.start] + whole + query[other.end :], ((query[one.start : other.end], whole),))
            for one, other in pairs
            if (whole := self._whole(one, other)) is not None
        ]

    def _whole(self, one: _Token, other: _Token) -> str | None:
        """Two neighbours as one word of enough titles."""
        row = self.vocabulary.row_of.get(one.word + other.word)
        if row is None or one.fixed or other.fixed or other.start - one.end != 1:
            return None
        is_word = min(len(one.word), len(other.word)) >= MIN_PART and len(self.vocabulary.titles_of(row)) >= MIN_SHARED
        return self.vocabulary.shown[row] if is_word else None

    def correct(self, query: str) -> Correction | None:
        """The query with the words that the catalogue lacks corrected; None when there is nothing to correct.

        Never touched: the catalogue's words, whatever holds a digit, units, and words of three letters, unless two of
        them are swapped and the word meant goes with the rest of the query; and no query of more than 32 words.
        """
        query = composed_text(query)
        tokens = list(_tokens(query))
        if len(tokens) > MAX_QUERY or all(token.fixed or token.word in self for token in tokens):
            return None
        rows = self.vocabulary.row_of
        context = self.vocabulary.titles_with({rows[token.word] for token in tokens if token.word in rows})
        chosen: list[_Option] = []
        sure, place = True, 0
        while place < len(tokens):
            options = self._options(tokens, place, context, chosen[-1].last + 1 if chosen else 0)
            if options:
                chosen.append(options[0])
                sure = sure and _is_sure(options, len(tokens[place].word))
                place = options[0].last
            place += 1
        return self._corrected(query, tokens, chosen, sure) if chosen else None

    def _options(self, tokens: Sequence[_Token], place: int, context: np.ndarray, free_from: int) -> list[_Option]:
        """What may be meant by a token, best first. free_from: the first token that no earlier change has taken."""
        token = tokens[place]
        if token.fixed or token.word in self:
            return []
        options = [*self._edits(token.word, place, context), *self._splits(token.word, place)]
        for first in (place - 1, place):
            if free_from <= first and first + 1 < len(tokens):
                options += self._joins(tokens, first, context)
        return sorted(options, key=lambda option: (-option.score, option.rows))

    def _edits(self, word: str, place: int, context: np.ndarray) -> Iterator[_Option]:
        """The catalogue's words within one edit, or two where there is none."""
        if len(word) < 3 or len(word) > MAX_WORD:
            return
        for distance in (1, 2) if len(word) >= TWO_EDITS else (1,):
            rows = self._targets[self._near.within(word, distance)]
            rows = rows[np.argsort(-self.vocabulary.frequency[rows], kind="stable")][:CANDIDATES]
            options = [self._edit(word, place, int(row), context, distance) for row in rows]
            believed = [option for option in options if option]
            yield from believed
            if believed:
                return

    def _edit(self, word: str, place: int, row: int, context: np.ndarray, distance: int) -> _Option | None:
        """One word as what is meant, None when it is not believed."""
        cost = edit_cost(word, self.vocabulary.words[row])
        shared = self._shared(row, context)
        if len(word) == 3 and (cost > SWAP or shared < MIN_SWAP_SHARED):
            return None
        if len(word) > 3 and cost > self._cost * len(word):
            return None
        if distance > 1 and self.vocabulary.frequency[row] < MIN_FAR_TARGET:
            return None
        return _Option(place, place, (row,), cost, self._score(row, cost, shared))

    def _score(self, row: int, cost: float, shared: float) -> float:
        return math.log1p(self.vocabulary.frequency[row]) + CONTEXT * math.log1p(shared) - EDIT * cost

    def _shared(self, row: int, context: np.ndarray) -> int:
        """Titles of a word that the query's other words have too, each counted."""
        return int(context[self.vocabulary.titles_of(row)].sum())

    def _splits(self, word: str, place: int) -> Iterator[_Option]:
        """Two of the catalogue's words written as one: usbcable."""
        for cut in range(2, len(word) - 1):
            rows = self.vocabulary.row_of.get(word[:cut]), self.vocabulary.row_of.get(word[cut:])
            if rows[0] is None or rows[1] is None or max(cut, len(word) - cut) < 3:
                continue
            left, right = self.vocabulary.titles_of(rows[0]), self.vocabulary.titles_of(rows[1])
            shared = len(np.intersect1d(left, right, assume_unique=True))
            if shared >= max(MIN_SHARED, MIN_SHARED_PART * min(len(left), len(right))):
                yield _Option(place, place, (rows[0], rows[1]), SPACE, math.log1p(shared) - EDIT * SPACE)

    def _joins(self, tokens: Sequence[_Token], first: int, context: np.ndarray) -> Iterator[_Option]:
        """One of the catalogue's words written as two: blue tooth."""
        left, right = tokens[first], tokens[first + 1]
        row = self.vocabulary.row_of.get(left.word + right.word)
        if row is None or left.fixed or right.fixed or not self._signatures[row] or right.start - left.end != 1:
            return
        yield _Option(first, first + 1, (row,), SPACE, self._score(row, SPACE, self._shared(row, context)))

    def _corrected(self, query: str, tokens: Sequence[_Token], chosen: Sequence[_Option], sure: bool) -> Correction:
        """The query with the chosen readings in place."""
        text, changes, at = "", [], 0
        for option in chosen:
            start, end = tokens[option.first].start, tokens[option.last].end
            meant = " ".join(self.vocabulary.shown[row] for row in option.rows)
            text += query[at:start]
            changes.append(Change(len(text), len(text) + len(meant), query[start:end]))
            text, at = text + meant, end
        return Correction(text + query[at:], tuple(changes), sure)


def _is_sure(options: Sequence[_Option], letters: int) -> bool:
    """Whether the best option is near for a word of so many letters, and clearly before the second."""
    second = options[1].score if len(options) > 1 else -math.inf
    is_near = options[0].cost <= max(SWAP, min(OTHER, COST_SURE * letters))
    return is_near and options[0].score - second >= SURE_MARGIN


def _tokens(query: str) -> Iterator[_Token]:
    """The words of a query. A chunk between blanks that holds a digit is a model number, an id or a size."""
    for chunk in _CHUNK.finditer(query):
        has_digit = any(sign.isnumeric() for sign in chunk.group())
        for match in WORD.finditer(chunk.group()):
            word = fold(match.group())
            fixed = has_digit or word in UNITS or bool(_NO_LETTERS.search(word))
            yield _Token(chunk.start() + match.start(), chunk.start() + match.end(), word, fixed)


def _can_be_meant(word: str) -> bool:
    """Whether others may be corrected to this word: letters alone, at least three, of a script with letters."""
    is_letters = len(word) >= 3 and not any(sign.isnumeric() for sign in word)
    return is_letters and len(word) <= MAX_WORD and not _NO_LETTERS.search(word)
