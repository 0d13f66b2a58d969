"""Calibration: a known temperature is found again, and the reliability table adds up."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.relevance.calibration import fit_temperature, negative_log_likelihood, reliability, softmax


def test_softmax_by_hand() -> None:
    # exp(0) : exp(ln 3) = 1 : 3; at temperature 2 the ratio is sqrt(3).
    np.testing.assert_allclose(softmax(np.asarray([[0.0, np.log(3)]])), [[0.25, 0.75]])
    np.testing.assert_allclose(
        softmax(np.asarray([[0.0, np.log(3)]]), 2.0), [[1 / (1 + 3**0.5), 3**0.5 / (1 + 3**0.5)]]
    )
    np.testing.assert_allclose(softmax(np.asarray([1000.0, 0.0])), [1.0, 0.0])
    assert np.isnan(softmax(np.asarray([np.nan, np.nan]))).all()
    with pytest.raises(ValueError, match="temperature 0"):
        softmax(np.zeros(2), 0)


def test_the_temperature_of_the_closed_form_is_found() -> None:
    # Logits (0, 2), right in 3 of 4 rows: the best p is 3/4, so 2 / T = ln 3 and T = 2 / ln 3.
    logits = np.asarray([[0.0, 2.0]] * 4 + [[np.nan, np.nan]])
    assert fit_temperature(logits, [1, 1, 1, 0, 0]) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_fitting_never_hurts_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 4)) * 5
    labels = np.asarray([rng.choice(4, p=softmax(row, 3.0)) for row in logits])
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3.0, rel=0.25)
    assert negative_log_likelihood(logits, labels, temperature) <= negative_log_likelihood(logits, labels)
    before, after = reliability(softmax(logits), labels), reliability(softmax(logits, temperature), labels)
    assert after.ece < before.ece
    assert (softmax(logits).argmax(1) == softmax(logits, temperature).argmax(1)).all()


def test_a_bound_is_a_failure_and_no_temperature() -> None:
    with pytest.raises(ValueError, match=r"no temperature from 0\.05 to 20 fits 1 pairs best: .* never wrong"):
        fit_temperature(np.asarray([[0.0, 1.0]]), [1])
    # a judge that is sure, and right as often as chance: only a flat softmax would do
    logits = np.asarray([[0.0, 9.0], [9.0, 0.0]] * 30)
    with pytest.raises(ValueError, match="its probabilities say nothing of these labels"):
        fit_temperature(logits, [1, 1] * 30)
    with pytest.raises(ValueError, match="no row"):
        fit_temperature(np.full((1, 2), np.nan), [0])


def test_reliability_by_hand() -> None:
    # Confidences 0.6 (right), 0.6 (wrong), 0.9 (right): bins (0.5, 0.6] and (0.8, 0.9].
    # ECE = 2/3 * |0.5 - 0.6| + 1/3 * |1 - 0.9| = 0.1
    table = reliability(np.asarray([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [np.nan, np.nan]]), [0, 1, 1, 1])
    assert [(b.count, b.confidence, b.accuracy) for b in table.bins if b.count] == [(2, 0.6, 0.5), (1, 0.9, 1.0)]
    assert table.ece == pytest.approx(0.1)
    assert table.bins[0].confidence is None and sum(b.count for b in table.bins) == 3
    assert reliability(np.asarray([[0.0, 1.0]]), [1]).bins[-1].count == 1  # certainty belongs to the last bin
