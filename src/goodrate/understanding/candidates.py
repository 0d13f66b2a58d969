"""Candidate phrases without a parser: runs of content words (the chunker), and word pairs that belong together (PMI).

Ours: stream.md's small-scale substitute for spaCy's noun chunks and AutoPhrase's phrases. A chunk is a run of words
between function words and punctuation; a candidate is any part of a chunk that begins and ends with a content word.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import normal_text
from goodrate.understanding.hashing import mixed
from goodrate.understanding.words import Words, split_words

_ENGLISH = """
a about above after against all also although among an and any are as at be because been before being below between
both but by can could did do does during each either else for from further had has have he her here his how however
i if in into is it its itself just may me might more most must my neither no nor not of off on once only or other
our out over own per same shall she should since so some such than that the their them then there these they this
those though through thus to too under until up upon us very via was we were what when where whether which while
who whom whose why will with within without would yet you your
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
JOINERS = frozenset("-–/'’&+.")  # inside a phrase, never at its ends
CONTENT, JOINER, BOUNDARY = 0, 1, 2


@dataclass(frozen=True)
class Spans:
    """S candidate phrases, by first and then last word.

    first, last (S,): words, last inclusive. text (S,): whose they are. phrase (S,): the same number for equal words in
    normal form, 0..P-1. example (P,): a span of each phrase. count (P,). parent (S,): the phrase of linked words
    that the span lies in, else itself. whole (S,): it is all of its chunk. at (T, W): the span that begins at a word
    with that width - 1, or -1.
    """

    first: np.ndarray
    last: np.ndarray
    text: np.ndarray
    phrase: np.ndarray
    example: np.ndarray
    count: np.ndarray
    parent: np.ndarray
    whole: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def width(self) -> np.ndarray:
        """(S,) words in each span."""
        return self.last - self.first + 1


def find_spans(
    words: Words, function_words: Collection[str] = (), max_width: int = 5, npmi: float = 0.5, pairs: int = 3
) -> Spans:
    """The candidate phrases of texts. function_words: that end chunks, besides FUNCTION_WORDS.

    Two neighbours are linked when they stand together `pairs` times or more with a normalised pointwise mutual
    information of at least npmi (1: they never stand apart); a run of linked words is the parent of what lies in it.
    """
    kind = word_kinds(words, function_words)
    chunk = _chunks(words, kind)
    first, last = _inside_chunks(chunk, kind, max_width)
    at = np.full((len(words), max_width), -1, dtype=np.int64)
    at[first, last - first] = np.arange(len(first))
    keys = span_keys(words, first, last, max_width)
    _, example, phrase, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    parent = _parents(_links(words, chunk, npmi, pairs), first, last, at)
    edges = _edges(chunk, kind)
    whole = edges[0][first] & edges[1][last]
    return Spans(first, last, words.text[first], phrase, example, count, parent, whole, at)


def word_kinds(words: Words, function_words: Collection[str] = ()) -> np.ndarray:
    """(T,) CONTENT, JOINER or BOUNDARY of each word."""
    ends = pl.Series(sorted(FUNCTION_WORDS | set(map(normal_text, function_words))))
    signs = ~words.vocabulary.str.contains(r"[\p{L}\p{N}]")
    kinds = np.where((words.vocabulary.is_in(ends.implode()) | signs).to_numpy(), BOUNDARY, CONTENT)
    kinds[words.vocabulary.is_in(pl.Series(sorted(JOINERS)).implode()).to_numpy()] = JOINER
    return kinds[words.word]


def span_keys(words: Words, first: np.ndarray, last: np.ndarray, max_width: int) -> np.ndarray:
    """(S,) uint64: the words of each span in order, the same in every corpus."""
    hashes = words.hashes[words.word]
    keys = np.full(len(first), 17, dtype=np.uint64)
    for offset in range(max_width):
        place = first + offset
        inside = place <= last
        keys[inside] = mixed(keys[inside], hashes[place[inside]])
    return keys


def phrase_texts(words: Words, spans: Spans, phrases: np.ndarray) -> list[str]:
    """The normal form of each phrase, words with a blank between them."""
    examples = spans.example[phrases]
    width = spans.width[examples]
    rows = np.repeat(np.arange(len(phrases)), width)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width)
    place = spans.first[examples][rows] + offset
    frame = pl.DataFrame({"row": rows, "word": words.vocabulary[words.word[place]]})
    return frame.group_by("row", maintain_order=True).agg(pl.col("word").str.join(" "))["word"].to_list()


def phrases_of(words: Words, spans: Spans, texts: Collection[str]) -> dict[str, int]:
    """The phrase of each text that is one; texts are compared in normal form, words apart by blanks."""
    listed = list(texts)
    asked = split_words(listed)
    begin = asked.begin
    some = np.flatnonzero(np.diff(begin) > 0)
    keys = span_keys(asked, begin[some], begin[some + 1] - 1, int(np.diff(begin).max(initial=1)))
    own = span_keys(words, spans.first[spans.example], spans.last[spans.example], spans.at.shape[1])
    place = np.searchsorted(own, keys).clip(max=max(len(own) - 1, 0))
    return {listed[t]: int(p) for t, p, key in zip(some, place, keys, strict=True) if len(own) and own[p] == key}


def frequent_phrases(words: Words, spans: Spans, least: int, most: int) -> np.ndarray:
    """The most frequent phrases to ask an expert about, at most `most`, each `least` times or more.

    Mentions inside a linked phrase do not count ("stainless" in "stainless steel"), nor does a phrase of several words
    that is neither linked nor ever a whole chunk, nor one without a letter.
    """
    own = spans.parent == np.arange(len(spans))
    linked = np.zeros(len(spans), dtype=bool)
    linked[spans.parent[~own]] = True
    sound = own & (linked | spans.whole | (spans.width == 1))
    count = np.bincount(spans.phrase[sound], minlength=len(spans.count))
    order = np.lexsort((np.arange(len(count)), -count))
    chosen = order[count[order] >= least]
    letters = pl.Series(phrase_texts(words, spans, chosen), dtype=pl.String).str.contains(r"\p{L}{2}").to_numpy()
    return chosen[letters][:most] if len(chosen) else chosen


def _chunks(words: Words, kind: np.ndarray) -> np.ndarray:
    """(T,) number of each word's chunk, -1 for boundaries."""
    new = np.ones(len(words), dtype=bool)
    new[1:] = (words.text[1:] != words.text[:-1]) | (kind[1:] == BOUNDARY) | (kind[:-1] == BOUNDARY)
    return np.where(kind == BOUNDARY, -1, np.cumsum(new))


def _inside_chunks(chunk: np.ndarray, kind: np.ndarray, max_width: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last words of all candidates, sorted."""
    firsts, lasts = [], []
    for offset in range(max_width):
        start = np.arange(max(0, len(chunk) - offset))
        end = start + offset
        sound = (chunk[start] == chunk[end]) & (kind[start] == CONTENT) & (kind[end] == CONTENT)
        firsts.append(start[sound])
        lasts.append(end[sound])
    first, last = np.concatenate(firsts), np.concatenate(lasts)
    order = np.lexsort((last, first))
    return first[order], last[order]


def _edges(chunk: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) bool: the first and the last content word of a chunk."""
    begins, ends = np.zeros(len(chunk), dtype=bool), np.zeros(len(chunk), dtype=bool)
    content = np.flatnonzero(kind == CONTENT)
    if len(content):
        change = np.flatnonzero(chunk[content][1:] != chunk[content][:-1])
        begins[content[np.r_[0, change + 1]]] = True
        ends[content[np.r_[change, len(content) - 1]]] = True
    return begins, ends


def _links(words: Words, chunk: np.ndarray, npmi: float, pairs: int) -> np.ndarray:
    """(T,) bool: the word belongs to the one before it."""
    linked = np.zeros(len(words), dtype=bool)
    together = np.flatnonzero((chunk[1:] == chunk[:-1]) & (chunk[1:] >= 0)) + 1
    if not len(together):
        return linked
    single = np.bincount(words.word, minlength=len(words.vocabulary))
    left, right = words.word[together - 1], words.word[together]
    _, inverse, counts = np.unique(left * len(words.vocabulary) + right, return_inverse=True, return_counts=True)
    both = counts[inverse]
    total = len(words)
    chance = np.log(both * total / (single[left] * single[right]))
    surprise = np.log(total / both)
    strong = chance >= npmi * surprise  # surprise is 0 where a text has one pair alone: then chance is, too
    linked[together] = (both >= pairs) & strong & (surprise > 0)
    return linked


def _parents(linked: np.ndarray, first: np.ndarray, last: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(S,) the span of all linked words around each span; itself where that is none or too wide."""
    own = np.arange(len(first))
    run = np.cumsum(~linked)  # words of a run share a number
    size = np.bincount(run, minlength=int(run[-1]) + 1 if len(run) else 1)
    start = np.r_[0, np.cumsum(size)[:-1]] if len(run) else np.zeros(1, dtype=np.int64)
    inside = run[first] == run[last]
    group = run[first]
    fits = inside & (size[group] > 1) & (size[group] <= at.shape[1])
    parent = own.copy()
    parent[fits] = at[start[group[fits]], size[group[fits]] - 1]
    return np.where(parent < 0, own, parent)
