"""A label head fitted and measured over folds of query groups: arithmetic, no models.

What the stack learns from is out of fold, and where a fold is measured nothing that its labels touched is used: the
heads whose scores teach that fold's stack were fitted without it too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from goodrate.recipes.score_sum import ALPHA, PROBE, LabelledPairs, ScoreSums
from goodrate.relevance.label_head import LabelHead, fit_multinomial
from goodrate.relevance.probe_head import ProbeHead, ridge_heads

TINY = 1e-12  # probability below which a loss grows no more


@dataclass(frozen=True)
class LabelStack:
    """features: (N, D) of the probe, of the pairs that the sums add up. L labels."""

    sums: ScoreSums
    features: np.ndarray
    _heads: dict[frozenset[int], ProbeHead] = field(default_factory=dict, repr=False)

    def fitted(self, without: int | None = None) -> LabelHead:
        """A head from all pairs or from those outside one fold, for the standardised scores of all members.

        The probe's score is left out of the stack: heads on its features, one for each label, hold it.
        """
        data, names = self.sums.data, list(self.sums.members)
        outside = frozenset() if without is None else frozenset({without})
        rows, own = ~np.isin(data.fold, list(outside)), self._scores(outside)
        mean, spread = own[rows].mean(axis=0), own[rows].std(axis=0)
        spread = np.where(spread > TINY, spread, 1.0)
        free = [place for place, name in enumerate(names) if name != PROBE]
        inputs = np.hstack([self.sums.standardised[:, free], (own - mean) / spread])[rows]
        fit, bias = fit_multinomial(inputs, data.labels[rows], len(data.scale))
        ridge, members = self._ridge(outside), np.zeros((len(names), len(data.scale)))
        members[free] = fit[: len(free)]
        mixed = fit[len(free) :] / spread[:, None]
        return LabelHead(
            ridge.mean, ridge.spread, ridge.weight @ mixed, members, bias + (np.asarray(ridge.bias) - mean) @ mixed
        )

    def out_of_fold(self) -> np.ndarray:
        """Label probabilities (N, L), each fold's from the others."""
        data = self.sums.data
        rows = np.empty((len(data.labels), len(data.scale)))
        for fold in range(data.folds):
            inside = data.fold == fold
            rows[inside] = self.fitted(fold).probabilities(self.features[inside], self.sums.standardised[inside])
        return rows

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
