"""Taggers judge phrases that they did not see; what they say is set right for how few phrases are labelled."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.recipes.phrase_folds import corrected, cross_fitted, phrase_folds, undrawn, unseen
from goodrate.understanding.candidates import find_spans, phrases_of
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.words import split_words

WORDS = split_words([f"{color}, {thing}" for color in ("red", "blue", "teal") for thing in ("lamp", "desk")])
SPANS = find_spans(WORDS)
PHRASES = phrases_of(WORDS, SPANS, ["red", "blue", "teal", "lamp", "desk"])


def labels(*phrases: str) -> np.ndarray:
    return np.where(np.isin(SPANS.phrase, [PHRASES[p] for p in phrases]), 0, NOTHING)


def test_no_phrase_is_judged_by_a_tagger_that_was_trained_on_it() -> None:
    label = labels("red", "blue")
    trained_on: dict[int, np.ndarray] = {}

    def judge(shown: np.ndarray, usable: np.ndarray, fold: int) -> tuple[np.ndarray, float]:
        trained_on[fold] = SPANS.phrase[usable]
        assert ((shown != NOTHING) <= usable).all() and (shown[usable] == label[usable]).all()
        said = np.full((len(SPANS), 2), float(fold))  # so that one sees which tagger judged
        return said / 3 + [[0.25, 0.25]], 1.0

    cross_fitted(SPANS, label, 1, 2, np.random.default_rng(0), judge)
    fold = phrase_folds(SPANS, label, 1, 2, np.random.default_rng(0))
    assert sorted(fold[[PHRASES["red"], PHRASES["blue"]]]) == [0, 1]  # the labelled ones are spread
    for number, phrases in trained_on.items():
        assert (fold[phrases] != number).all() and len(phrases)


def test_what_overlaps_a_hidden_label_is_hidden() -> None:
    words = split_words(["red lamp", "blue lamp"])
    spans = find_spans(words)
    known = phrases_of(words, spans, ["red", "blue", "lamp", "red lamp", "blue lamp"])
    label = np.where(spans.phrase == known["red"], 0, NOTHING)
    fold = np.ones(len(spans.count), dtype=int)
    fold[known["red"]] = 0
    hidden = unseen(spans, label, fold, 0)
    assert set(spans.phrase[hidden].tolist()) == {known["red"], known["red lamp"]}  # it teaches that "red" is nothing


def test_few_labels_are_made_up_for() -> None:
    # labelled phrases (of equal weight, however often they are there) are called so with 0.2 and 0.4: c = 0.3
    said = np.array([0.2, 0.2, 0.2, 0.4, 0.15, 0.003, 0.0])
    label = np.array([0, 0, 0, 0, -1, -1, -1])
    phrase = np.array([0, 0, 0, 1, 2, 3, 4])
    p = corrected(np.stack([said, 1 - said], axis=1), label, phrase)
    assert p[:, 0] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1.0, 0.5, 0.01, 0.0])
    assert p.sum(axis=1) == pytest.approx(np.ones(7))


def test_a_type_that_was_not_learned_is_nowhere() -> None:
    said = np.array([0.1, 0.1, 0.1, 0.1])  # of a labelled phrase and of all others alike
    p = corrected(np.stack([said, 1 - said], axis=1), np.array([0, -1, -1, -1]), np.arange(4))
    assert (p[:, 0] == 0).all() and (p[:, 1] == 1).all()


def test_negatives_that_were_not_drawn_count() -> None:
    # half of the negatives were trained on: odds of 1 to 1 are 1 to 2 among all
    assert undrawn(np.array([[0.5, 0.5]]), 0.5)[0] == pytest.approx([1 / 3, 2 / 3])
