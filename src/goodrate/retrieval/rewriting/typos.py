"""How likely one word is a slip of the finger for another: weighted edits, and a filter that finds near words fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
VOWELS = frozenset("aeiouy")
FIRST_LETTER = 0.4  # added when the first letter is another: people mostly get that one right
SWAP, DOUBLE, NEAR, OTHER = 0.7, 0.7, 0.8, 1.0


def _neighbours() -> frozenset[tuple[str, str]]:
    """Pairs of keys that touch on a QWERTY keyboard."""
    place = {key: (row, column + row / 2) for row, keys in enumerate(ROWS) for column, key in enumerate(keys)}
    return frozenset(
        (a, b) for a, (ra, ca) in place.items() for b, (rb, cb) in place.items()
        if a != b and abs(ra - rb) <= 1 and abs(ca - cb) <= 1
    )  # fmt: skip


NEIGHBOURS = _neighbours()


def edit_cost(typed: str, meant: str) -> float:
    """The cheapest way from one word to the other by single edits that do not overlap (optimal string alignment).

    Swapping neighbours and doubling or undoubling a letter cost 0.7, a neighbouring key or another vowel 0.8, any other
    insertion, deletion or replacement 1; another first letter costs 0.4 more, unless it is swapped with the second.
    >>> edit_cost("lapotp", "laptop"), edit_cost("labtop", "laptop"), edit_cost("cofee", "coffee")
    (0.7, 1.0, 0.7)
    """
    before: list[float] = []
    row = [0.0]
    for j, letter in enumerate(meant):
        row.append(row[-1] + _extra(meant, j, letter))
    for i, a in enumerate(typed):
        two_before, before = before, row
        row = [before[0] + _extra(typed, i, a)]
        for j, b in enumerate(meant):
            cost = before[j] + (0.0 if a == b else _replaced(a, b))
            cost = min(cost, before[j + 1] + _extra(typed, i, a), row[j] + _extra(meant, j, b))
            if i and j and a == meant[j - 1] and b == typed[i - 1] and a != b:
                cost = min(cost, two_before[j - 1] + SWAP)
            row.append(cost)
    is_other_start = typed[:1] != meant[:1] and typed[:2] != meant[1::-1]
    return round(row[-1] + (FIRST_LETTER if is_other_start else 0.0), 6)


def _extra(word: str, place: int, letter: str) -> float:
    """A letter that the other word lacks."""
    return DOUBLE if place and word[place - 1] == letter else OTHER


def _replaced(a: str, b: str) -> float:
    return NEAR if (a, b) in NEIGHBOURS or (a in VOWELS and b in VOWELS) else OTHER


def signature(word: str) -> int:
    """64 bits of which letters a word has: one edit changes at most two of them.

    Bits 0-25: a letter a-z occurs; bits 26-51: it occurs twice or more; the others: any other character, by remainder.
    """
    bits = 0
    for letter in word:
        place = ord(letter) - 97
        if 0 <= place < 26:
            bits |= 1 << (place + 26 if bits >> place & 1 else place)
        else:
            bits |= 1 << (52 + ord(letter) % 12)
    return bits


class NearWords:
    """Words by their signatures and lengths, to be searched for those within an edit distance of 1 or 2.

    signatures (V,) uint64 and lengths (V,) int16 belong to words (V,).
    """

    def __init__(self, words: Sequence[str], signatures: np.ndarray, lengths: np.ndarray) -> None:
        self._words, self._signatures, self._lengths = words, signatures, lengths

    def within(self, word: str, distance: int) -> list[int]:
        """Rows of the words at that edit distance or nearer; a swap of neighbours is one edit."""
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        changed = np.bitwise_count(self._signatures ^ np.uint64(signature(word)))
        close = (changed <= 2 * distance) & (np.abs(self._lengths - len(word)) <= distance)
        rows = np.flatnonzero(close).tolist()
        found = process.extract(
            word, [self._words[row] for row in rows], scorer=OSA.distance, score_cutoff=distance, limit=None
        )
        return [rows[place] for _, _, place in found]
