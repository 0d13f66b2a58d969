"""What taggers say of phrases that they were not trained on, set right for how few phrases are labelled.

Ours, in place of one tagger that judges what it was trained on. Where unlabelled phrases count as no entity, such a
tagger learns the labelled phrases by heart: it calls all others nothing, or, with few of them in training, anything.
The correction is Elkan's and Noto's (KDD 2008) for positive and unlabelled examples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from goodrate.understanding.candidates import Spans
from goodrate.understanding.labels import NOTHING, overlapping

MOST = 0.5  # of all unlabelled phrases that can be of one type; an estimate above says that the type was not learned
Judge = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, float]]


def phrase_folds(spans: Spans, label: np.ndarray, classes: int, folds: int, rng: np.random.Generator) -> np.ndarray:
    """(P,) the fold of each phrase, 0..folds - 1; the labelled phrases of each class are spread evenly."""
    fold = rng.integers(0, folds, len(spans.count))
    for c in range(classes):
        labelled = np.unique(spans.phrase[label == c])
        fold[labelled] = (rng.permutation(len(labelled)) + rng.integers(folds)) % folds
    return fold


def unseen(spans: Spans, label: np.ndarray, fold: np.ndarray, number: int) -> np.ndarray:
    """(S,) bool: spans that teach nothing to the tagger of a fold.

    Those whose phrase it is to judge, and all that share words with a labelled one of these.
    """
    mine = fold[spans.phrase] == number
    return mine | (overlapping(spans.first, spans.last, mine & (label != NOTHING)) > 0)


def cross_fitted(
    spans: Spans, label: np.ndarray, classes: int, folds: int, rng: np.random.Generator, judge: Judge
) -> np.ndarray:
    """(S, C + 1) probabilities of each span from a tagger that was not trained on its phrase.

    label (S,): class or NOTHING. judge: (labels to train on (S,), spans it may use (S,) bool, number of the fold) ->
    what that tagger says of all spans (S, C + 1), and the share of the unlabelled spans that it had as "no entity".
    """
    fold = phrase_folds(spans, label, classes, folds, rng)
    found = np.zeros((len(spans), classes + 1))
    for number in range(folds):
        hidden = unseen(spans, label, fold, number)
        said, share = judge(np.where(hidden, NOTHING, label), ~hidden, number)
        mine = fold[spans.phrase] == number
        found[mine] = undrawn(said[mine], share)
    return corrected(found, label, spans.phrase).astype(np.float32)


def undrawn(probabilities: np.ndarray, share: float) -> np.ndarray:
    """Probabilities (S, C + 1) as they were if all negatives had been trained on, of which only a share was."""
    weight = np.ones(probabilities.shape[1])
    weight[-1] = 1 / max(share, 1e-6)
    odds = probabilities.astype(np.float64) * weight
    return odds / odds.sum(axis=1, keepdims=True)


def corrected(probabilities: np.ndarray, label: np.ndarray, phrase: np.ndarray) -> np.ndarray:
    """Probabilities (S, C + 1) of classes, from those of being labelled so.

    p(c) = p(labelled c) / the mean of p(labelled c) over the labelled phrases of c, each of the same weight (Elkan and
    Noto). A class that would then hold more than half of what is unlabelled was not learned: nothing is of it.
    label (S,): class or NOTHING, phrase (S,).
    """
    classes = probabilities.shape[1] - 1
    found = np.zeros_like(probabilities)
    for c in range(classes):
        mine = label == c
        phrases, place = np.unique(phrase[mine], return_inverse=True)
        said = probabilities[:, c]
        if not len(phrases):
            continue
        own = float((np.bincount(place, weights=said[mine]) / np.bincount(place)).mean())
        free = said[label == NOTHING]
        if own > 0 and (not len(free) or free.mean() / own < MOST):
            found[:, c] = np.minimum(said / own, 1.0)
    found /= np.maximum(found.sum(axis=1, keepdims=True), 1.0)
    found[:, -1] = 1 - found[:, :-1].sum(axis=1)
    return found
