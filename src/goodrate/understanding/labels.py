"""From votes to labels: majorities, soft labels of overlapping spans, and the spans that are kept in the end."""

from __future__ import annotations

import numpy as np

NOTHING = -1  # no class: nothing is said


def majority(votes: np.ndarray) -> np.ndarray:
    """(S,) the class with the most votes (S, C); NOTHING without votes and for ties.

    >>> majority(np.array([[2, 1], [1, 1], [0, 0]])).tolist()
    [0, -1, -1]
    """
    if not votes.shape[1]:
        return np.full(len(votes), NOTHING)
    most = votes.max(axis=1)
    alone = (votes == most[:, None]).sum(axis=1) == 1
    return np.where((most > 0) & alone, votes.argmax(axis=1), NOTHING)


def at_parents(votes: np.ndarray, best: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes and best rules (S, C) given to the linked phrase that a span lies in; the span itself keeps none."""
    moved = np.zeros_like(votes)
    np.add.at(moved, parent, votes)
    rules = np.full_like(best, -1)
    np.maximum.at(rules, parent, best)
    own = parent == np.arange(len(parent))
    rules[own] = np.where(best[own] >= 0, best[own], rules[own])
    return moved, rules


def overlapping(first: np.ndarray, last: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(S,) with how many chosen (S,) bool spans each span shares a word, itself counted when it is chosen."""
    begins, ends = np.sort(first[chosen]), np.sort(last[chosen])
    return np.searchsorted(begins, last, side="right") - np.searchsorted(ends, first, side="left")


def soft_labels(first: np.ndarray, last: np.ndarray, label: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft labels (S, C + 1) and which spans have one (S,) bool.

    A labelled span's whole vector is divided by how many labelled spans share a word with it (TALLOR's code divides its
    first two entries alone). A span without a label that shares a word with a labelled one is "no entity", class C.
    """
    positive = label != NOTHING
    count = overlapping(first, last, positive)
    soft = np.zeros((len(label), classes + 1), dtype=np.float32)
    rows = np.flatnonzero(positive)
    soft[rows, label[rows]] = 1 / count[rows]
    negative = ~positive & (count > 0)
    soft[negative, classes] = 1.0
    return soft, positive | negative


def without_overlaps(first: np.ndarray, last: np.ndarray, score: np.ndarray, words: int) -> np.ndarray:
    """(S,) bool: the spans that remain when the best scored goes first and takes its words. score <= 0: never.

    Of equal scores the longer span is first, then the earlier. words: how many there are in all texts.
    """
    order = np.lexsort((first, -(last - first), -score))
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = np.arange(len(score))
    kept = np.zeros(len(score), dtype=bool)
    left = np.flatnonzero(score > 0)
    while len(left):
        best = np.full(words, len(score), dtype=np.int64)
        width = last[left] - first[left] + 1
        rows = np.repeat(left, width)
        place = first[rows] + np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width)
        np.minimum.at(best, place, rank[rows])
        beaten = np.zeros(len(score), dtype=bool)
        beaten[rows[best[place] < rank[rows]]] = True  # a better span holds one of its words
        winners = left[~beaten[left]]
        kept[winners] = True
        taken = overlapping(first[left], last[left], np.isin(left, winners)) > 0
        left = left[~taken]
    return kept


def strongest(probabilities: np.ndarray, share: float) -> np.ndarray:
    """(S,) the likeliest class, NOTHING where that is "no entity" (the last), and for the weaker ones of each class.

    share: of each class's predictions, the likeliest so many are kept (rounded up).
    """
    classes = probabilities.shape[1] - 1
    likeliest = probabilities.argmax(axis=1)
    kept = np.full(len(probabilities), NOTHING)
    for c in range(classes):
        rows = np.flatnonzero(likeliest == c)
        order = np.lexsort((rows, -probabilities[rows, c]))
        chosen = rows[order[: int(np.ceil(share * len(rows)))]]
        kept[chosen] = c
    return kept


def held_for(probabilities: np.ndarray, sure: float) -> np.ndarray:
    """(S,) the likeliest class of probabilities (S, C + 1); "no entity" (C) only when it is that likely, else NOTHING.

    >>> held_for(np.array([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9]]), 0.7).tolist()
    [0, -1, 1]
    """
    likeliest = probabilities.argmax(axis=1)
    nothing = probabilities.shape[1] - 1
    return np.where((likeliest < nothing) | (probabilities[:, nothing] >= sure), likeliest, NOTHING)
