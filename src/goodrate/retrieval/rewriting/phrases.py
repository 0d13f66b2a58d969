"""Frequent phrases of titles: what the catalogue itself calls its things."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from goodrate.retrieval.rewriting.words import plain

MAX_WORDS = 3
MIN_TITLES, MIN_SHARE = 3, 0.0003  # titles that must have a phrase, at least, and of all titles
UNIT_LETTERS = 3  # a word as short as this after a number is its unit
COMPLETED = 0.7  # a phrase whose titles go on with the same word as often as this is a part of the longer one
# A phrase neither begins nor ends with one of these.
STOP_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "incl", "into", "of", "on", "or", "per", "the", "to", "with",
     "without", "your", "mit", "für", "und", "oder", "der", "die", "das", "ein", "eine", "zum", "zur", "von", "im",
     "de", "du", "des", "la", "le", "les", "et", "pour", "avec", "en", "con", "para", "del", "el", "los", "las", "y",
     "di", "da", "per", "e", "il", "lo", "voor", "met", "van", "het", "een")
)  # fmt: skip
_PARTS = re.compile(r"[^\w\s&'\u2019.-]+|\s-+\s|\.(?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:[&'\u2019-][^\W\d_]+)*")  # letters, with a hyphen or the like inside


def frequent_phrases(titles: Iterable[str]) -> dict[str, int]:
    """Phrases of one to three words without digits -> how many titles have them, for those that many have.

    Of phrases that nearly always go on with the same word only the longer one is kept; single words are kept.
    >>> frequent_phrases(["Desk lamp, black", "desk lamp LED", "white desk lamp 2m"])
    {'desk': 3, 'lamp': 3, 'desk lamp': 3}
    """
    counts: Counter[str] = Counter()
    total = 0
    for title in titles:
        total += 1
        counts.update(set(_phrases(plain(title))))
    least = max(MIN_TITLES, MIN_SHARE * total)
    frequent = {phrase: count for phrase, count in counts.items() if count >= least}
    parts = {part for phrase, count in frequent.items() for part in _parts_of(phrase)
             if count >= COMPLETED * frequent.get(part, count)}  # fmt: skip
    kept = [phrase for phrase in frequent if " " not in phrase or phrase not in parts]
    return {phrase: frequent[phrase] for phrase in sorted(kept, key=lambda p: (p.count(" "), -frequent[p], p))}


def _phrases(title: str) -> Iterator[str]:
    """Every phrase of a title, within its punctuation."""
    for part in _PARTS.split(title):
        words = part.split()
        for start in range(len(words)):
            if start and len(words[start]) <= UNIT_LETTERS and not words[start - 1].isalpha():
                continue  # the unit of a number
            for end in range(start + 1, min(start + MAX_WORDS, len(words)) + 1):
                if not _WORD.fullmatch(words[end - 1]):
                    break
                if _can_stand(words[start:end]):
                    yield " ".join(words[start:end])


def _can_stand(words: list[str]) -> bool:
    """Whether a phrase can be shown: no stop word at an end, no word twice, three letters at least."""
    is_whole = len(words[0]) > 1 and STOP_WORDS.isdisjoint((words[0], words[-1])) and len("".join(words)) > 2
    return is_whole and len(set(words)) == len(words)


def _parts_of(phrase: str) -> Iterator[str]:
    """A phrase without its first and without its last word."""
    if " " in phrase:
        yield phrase.split(" ", 1)[1]
        yield phrase.rsplit(" ", 1)[0]
