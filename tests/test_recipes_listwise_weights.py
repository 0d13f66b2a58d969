"""Weights of a sum: the loss by hand, what is learned, what few queries leave as it was."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.recipes.listwise_weights import Lists, listwise_weights


def test_loss_and_gradient_by_hand() -> None:
    # query 0: scores 0 and ln 3 at weight 1, gains 1 and 3: softmax (1/4, 3/4) = shares. Query 1 teaches nothing.
    lists = Lists.of(np.asarray([[0.0], [9.0], [np.log(3.0)]]), np.asarray([1.0, 5.0, 3.0]), np.asarray([0, 1, 0]))
    loss, slope = lists.loss(np.ones(1))
    assert loss == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert slope == pytest.approx([0.0]) and lists.starts.tolist() == [0]


def test_the_gradient_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    lists = Lists.of(rng.normal(size=(40, 3)), rng.integers(0, 3, 40).astype(float), rng.integers(0, 6, 40))
    at, step = np.asarray([0.3, 1.0, 0.2]), 1e-6
    numeric = [(lists.loss(at + step * e)[0] - lists.loss(at - step * e)[0]) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(lists.loss(at)[1], numeric, rtol=1e-5)


def made(queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A member that knows, one that is noise, one that is wrong."""
    rng = np.random.default_rng(1)
    gains = rng.integers(0, 2, (queries, 12)).astype(float).ravel()
    good, noise = gains + rng.normal(scale=0.6, size=len(gains)), rng.normal(size=len(gains))
    return np.stack([good, noise, -good + rng.normal(size=len(gains))], axis=1), gains, np.repeat(range(queries), 12)


def test_many_queries_say_which_member_knows_and_few_hardly_move_the_usual_weights() -> None:
    usual = np.asarray([1.0, 1.0, 0.5])
    good, noise, wrong = listwise_weights(*made(200), usual, 1.0)
    assert good > 1.4 and noise < 0.3 and wrong < 0.1, (good, noise, wrong)
    few = listwise_weights(*made(2), usual, 10.0)
    assert np.abs(few - usual).max() < 0.25
    scores, _, groups = made(3)
    assert listwise_weights(scores, np.ones(len(scores)), groups, usual, 10.0).tolist() == usual.tolist()
