"""Vectors of phrases from states of words that a frozen encoder gave: what the gate compares where there is one."""

from __future__ import annotations

import numpy as np

from goodrate.understanding.candidates import Spans

MENTIONS = 20  # of a phrase that are averaged


def phrase_means(spans: Spans, phrases: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(P, D) float32: the mean state of the words of each phrase over its first mentions, less that of all words.

    states: (T, D). Without the mean that all share, cosines of unlike phrases are near 0.
    """
    order = np.argsort(spans.phrase, kind="stable")
    start = np.searchsorted(spans.phrase[order], phrases)
    size = np.minimum(spans.count[phrases], MENTIONS)
    owner = np.repeat(np.arange(len(phrases)), size)
    rows = order[np.repeat(start, size) + _counted(size)]
    width = spans.width[rows]
    words = np.repeat(spans.first[rows], width) + _counted(width)
    weight = 1 / np.repeat(width * size[owner], width)
    total = np.zeros((len(phrases), states.shape[1]), dtype=np.float32)
    np.add.at(total, np.repeat(owner, width), states[words].astype(np.float32) * weight[:, None].astype(np.float32))
    return total - states.mean(axis=0, dtype=np.float32)


def _counted(sizes: np.ndarray) -> np.ndarray:
    """0, 1, ... sizes[0] - 1, 0, 1, ... of all sizes."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
