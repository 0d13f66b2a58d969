"""Which label a row of probabilities stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FAILED = -1  # a prediction that a judge failed to give: wrong everywhere, and counted
BALANCE = 0.5  # how far labels are chosen as if all were equally frequent; ours, see docs/probe_judge.md


def chosen_labels(probabilities: np.ndarray, label_weights: Sequence[float] = ()) -> np.ndarray:
    """The label (N,) with the largest weighted probability, FAILED for a row with a NaN.

    probabilities (N, L); label_weights: (L,) above 0, none = all 1, which gives the most probable label.
    >>> chosen_labels(np.array([[0.6, 0.4], [np.nan, np.nan]])).tolist()
    [0, -1]
    >>> chosen_labels(np.array([[0.6, 0.4]]), (1.0, 2.0)).tolist()
    [1]
    """
    failed = np.isnan(probabilities).any(axis=1)
    usable = np.nan_to_num(probabilities) * np.asarray(label_weights or 1.0)
    return np.where(failed, FAILED, usable.argmax(axis=1))


def balanced_weights(labels: np.ndarray, num_labels: int, balance: float = BALANCE) -> tuple[float, ...]:
    """Weights (L,) that raise rare labels: ((n_l + 1) / (N + L))^-balance, the most frequent label's being 1.

    labels: (N,) gold positions. balance: 0 = the most probable label, which is right most often; 1 = as if all labels
    were equally frequent. Between them rare labels are found without much loss of accuracy.
    >>> balanced_weights(np.array([0] * 15 + [1] * 3), 2)
    (1.0, 2.0)
    """
    counts = np.bincount(labels, minlength=num_labels) + 1.0
    return tuple(float(one) for one in (counts.max() / counts) ** balance)
