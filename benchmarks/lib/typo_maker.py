"""Typing errors made up from a seed: swaps, missing, extra and wrong letters, neighbouring keys."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from goodrate.retrieval.rewriting.typos import NEIGHBOURS

KINDS = ("swap", "drop", "insert", "replace", "keyboard")


def misspelt(word: str, kind: str, rng: random.Random) -> str:
    """The word with one error of a kind, never equal to it. The word has two different letters of a-z in a row.

    >>> misspelt("laptop", "swap", random.Random(1))
    'lpatop'
    """
    while True:
        typed = _EDITS[kind](word, rng.randrange(len(word)), rng)
        if typed != word:
            return typed


def misspelt_twice(word: str, rng: random.Random) -> str:
    """The word with two errors of kinds at random, not equal to it."""
    while True:
        typed = misspelt(misspelt(word, rng.choice(KINDS), rng), rng.choice(KINDS), rng)
        if typed != word:
            return typed


def _swap(word: str, at: int, rng: random.Random) -> str:
    return word[:at] + word[at : at + 2][::-1] + word[at + 2 :]


def _drop(word: str, at: int, rng: random.Random) -> str:
    return word[:at] + word[at + 1 :]


def _insert(word: str, at: int, rng: random.Random) -> str:
    return word[:at] + rng.choice(string.ascii_lowercase) + word[at:]


def _replace(word: str, at: int, rng: random.Random) -> str:
    return word[:at] + rng.choice(string.ascii_lowercase) + word[at + 1 :]


def _keyboard(word: str, at: int, rng: random.Random) -> str:
    near = sorted(other for key, other in NEIGHBOURS if key == word[at])
    return word[:at] + (rng.choice(near) if near else word[at]) + word[at + 1 :]


_EDITS: dict[str, Callable[[str, int, random.Random], str]] = {
    "swap": _swap, "drop": _drop, "insert": _insert, "replace": _replace, "keyboard": _keyboard,
}  # fmt: skip
