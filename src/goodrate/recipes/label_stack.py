"""A label head fitted and measured over folds of query groups: arithmetic, no models.

What the stack learns from is out of fold, and where a fold is measured nothing that its labels touched is used: the
heads whose scores teach that fold's stack were fitted without it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from goodrate.recipes.score_sum import ALPHA, PROBE, LabelledPairs, ScoreSums, kept
from goodrate.relevance.label_head import LabelHead, fit_multinomial, tilted
from goodrate.relevance.probe_head import ProbeHead, ridge_heads

TINY = 1e-12  # probability below which a loss grows no more


@dataclass(frozen=True)
class LabelStack:
    """features: (N, D) of the probe, of the pairs that the sums add up. L labels."""

    sums: ScoreSums
    features: np.ndarray
    _heads: dict[frozenset[int], ProbeHead] = field(default_factory=dict, repr=False)

    def fitted(self, weights: Mapping[str, float], without: int | None = None) -> LabelHead:
        """A head for the sum with those weights, from all pairs or from those outside one fold.

        The probe's score is left out of the stack: heads on its features, one for each label, hold it.
        """
        data = self.sums.data
        outside = frozenset() if without is None else frozenset({without})
        rows, own = ~np.isin(data.fold, list(outside)), self._scores(outside)
        mean, spread = own[rows].mean(axis=0), own[rows].std(axis=0)
        spread = np.where(spread > TINY, spread, 1.0)
        scores = self._standardised(weights)
        free = [place for place, name in enumerate(weights) if name != PROBE]
        inputs = np.hstack([scores[:, free], (own - mean) / spread])[rows]
        fit, bias = fit_multinomial(inputs, data.labels[rows], len(data.scale))
        ridge, members = self._ridge(outside), np.zeros((len(weights), len(data.scale)))
        members[free] = fit[: len(free)]
        mixed = fit[len(free) :] / spread[:, None]
        return LabelHead(
            ridge.mean, ridge.spread, ridge.weight @ mixed, members, bias + (np.asarray(ridge.bias) - mean) @ mixed
        )

    def out_of_fold(self, probabilities: np.ndarray) -> np.ndarray:
        """Label probabilities (N, L), each fold's from the others, with the expected gains of those that are given."""
        scale = self.sums.data.scale
        logits = np.empty(probabilities.shape)
        for fold, weights in enumerate(self.sums.fold_weights):
            inside, used = self.sums.data.fold == fold, kept(weights)
            scores = self._standardised(used)[inside]
            logits[inside] = self.fitted(used, fold).logits(self.features[inside], scores)
        return tilted(logits, scale.expected_gain(probabilities), scale.expected_gain(np.eye(len(scale))))

    def _standardised(self, weights: Mapping[str, float]) -> np.ndarray:
        """The scores (N, M) of the members that have a weight."""
        used = [self.sums.members[name] for name in weights]
        return np.stack([(one.scores - one.mean) / one.spread for one in used], axis=1)

    def _scores(self, outside: frozenset[int]) -> np.ndarray:
        """What ridge heads for the labels say, (N, L): of each pair those fitted without its fold and those outside."""
        data = self.sums.data
        rows = np.empty((len(data.labels), len(data.scale)))
        for fold in range(data.folds):
            inside = data.fold == fold
            rows[inside] = self._ridge(outside | {fold}).scores(self.features[inside])
        return rows

    def _ridge(self, outside: frozenset[int]) -> ProbeHead:
        """The heads fitted without some folds."""
        if outside not in self._heads:
            data = self.sums.data
            rows = ~np.isin(data.fold, list(outside))
            wished = np.eye(len(data.scale))[data.labels[rows]]
            (self._heads[outside],) = ridge_heads(self.features[rows], wished, [ALPHA])
        return self._heads[outside]


def log_losses(probabilities: np.ndarray, data: LabelledPairs) -> np.ndarray:
    """Mean of -log p(gold) over each query's pairs, nats: one number for each query."""
    losses = -np.log(np.maximum(probabilities[np.arange(len(data.labels)), data.labels], TINY))
    return np.bincount(data.query_number, losses) / np.bincount(data.query_number)
