"""What clicks say of the weights of a sum of channels: a convex loss that does not believe positions.

A score is <weights, features>. For each click on item i of a page of K shown items, at position r_i from 1,

    a_i * mean over the other shown j of log(1 + exp(-sharpness * (score_i - score_j)))

with a_i = min(1 / p(r_i), most) / most, where p(r) = r ^ -exponent is the chance that somebody looks at position r. In
expectation over who looks where, 1 / p(r_i) makes the sum that over all items that somebody would click if seen
(Joachims, Swaminathan and Schnabel 2017, with the logistic loss for the hinge). Items that were not clicked need no
weight: every shown item stands on the other side. Divided by `most`, which caps the variance, so that a click is worth
at most 1; the loss of a round is the mean over its sessions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClickLoss:
    """exponent: of the chance that a position is looked at, 0 = all positions alike. most: cap of 1 / chance, >= 1.

    sharpness: 1 / the difference in score that counts as one.
    """

    exponent: float = 1.0
    most: float = 10.0
    sharpness: float = 10.0

    def importance(self, positions: np.ndarray) -> np.ndarray:
        """a of each position, from 1; same shape, in (0, 1].

        >>> ClickLoss(1.0, 4.0).importance(np.array([1, 2, 4, 9])).tolist()
        [0.25, 0.5, 1.0, 1.0]
        """
        return np.minimum(positions**self.exponent, self.most) / self.most

    def measured(
        self, features: np.ndarray, positions: np.ndarray, clicked: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loss (B,) and gradient in the weights (B, C) of B sessions of K >= 2 shown items.

        features (B, K, C), positions (B, K) from 1, clicked (B, K) bool, weights (B, C) or (C,). Sessions without a
        click have neither.
        """
        scores = np.einsum("bkc,bc->bk", features, np.broadcast_to(weights, features.shape[::2]))
        session, place = np.nonzero(clicked)
        own = scores[session, place]
        behind = self.sharpness * (scores[session] - own[:, None])  # (clicks, K): how far others are above
        others = np.arange(features.shape[1]) != place[:, None]
        each = self.importance(positions[session, place]) / (features.shape[1] - 1)
        pull = self.sharpness * each[:, None] * _sigmoid(behind) * others
        of_click = np.einsum("nk,nkc->nc", pull, features[session])
        of_click -= pull.sum(axis=1, keepdims=True) * features[session, place]
        loss, gradient = np.zeros(len(features)), np.zeros(features.shape[::2])
        np.add.at(loss, session, each * (np.logaddexp(0.0, behind) * others).sum(axis=1))
        np.add.at(gradient, session, of_click)
        return loss, gradient


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
