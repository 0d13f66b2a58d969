"""Which sum of scores to judge by, chosen and measured over folds of query groups: arithmetic and choices, no models.

A probe's head is fitted on all folds but one and scores that one. Its alpha and its weight beside the cosines are
chosen on the queries of the other folds, so that a query's number never hangs on that query's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from goodrate.catalog.splits import query_folds
from goodrate.evaluation.metrics import evaluate_run
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair, gold_labels
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.scale import RelevanceScale

ALPHAS = (1e3, 1e4)
WEIGHTS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the probe beside cosines whose weights sum to 1
USUAL = (1e4, 0.75)  # alpha and weight where there are too few queries to choose: those of Chorus, notes/real_judges.md
QUERIES_TO_CHOOSE = 30
FOLDS = 5
NDCG = "ndcg@10"


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs with labels in folds of query groups.

    pairs: N. scale: of their labels. folds: how many; seed: of their draw.
    """

    pairs: Sequence[JudgedPair]
    scale: RelevanceScale
    folds: int = FOLDS
    seed: int = 0

    @cached_property
    def labels(self) -> np.ndarray:
        """Label positions (N,)."""
        return gold_labels(self.pairs)

    @cached_property
    def fold(self) -> np.ndarray:
        """The fold (N,) of each pair's query."""
        of = query_folds([pair.query for pair in self.pairs], self.folds, self.seed)
        return np.asarray([of[pair.query] for pair in self.pairs])

    @cached_property
    def _qrels(self) -> dict[str, dict[str, int]]:
        qrels: dict[str, dict[str, int]] = {}
        for row, pair in enumerate(self.pairs):
            qrels.setdefault(pair.query, {})[str(row)] = int(self.labels[row])
        return {query: items for query, items in qrels.items() if len(set(items.values())) > 1}

    @cached_property
    def queries(self) -> list[str]:
        """The queries that an order can be better or worse on: those with labels that differ. Q of them."""
        return list(self._qrels)

    @cached_property
    def query_fold(self) -> np.ndarray:
        """The fold (Q,) of each of them."""
        of = {pair.query: int(fold) for pair, fold in zip(self.pairs, self.fold, strict=True)}
        return np.asarray([of[query] for query in self.queries])

    def ndcg(self, scores: np.ndarray, metric: str = NDCG) -> np.ndarray:
        """The metric (Q,) of ordering each query's judged items by scores (N,); NaN where it is undefined."""
        run = {query: [(row, float(scores[int(row)])) for row in items] for query, items in self._qrels.items()}
        table = evaluate_run(run, self._qrels, self.scale, [metric])
        return table[metric].cast(float).fill_null(float("nan")).to_numpy()


@dataclass(frozen=True)
class Standardised:
    """Scores (N,) with the mean and spread that they are standardised by in a sum."""

    scores: np.ndarray
    mean: float
    spread: float

    @classmethod
    def of(cls, scores: np.ndarray) -> Standardised:
        """With their own mean and standard deviation."""
        return cls(scores, float(scores.mean()), max(float(scores.std()), 1e-9))


@dataclass(frozen=True)
class Choice:
    """alpha: of the probe's ridge. weight: of the probe; 0 = the cosines alone."""

    alpha: float
    weight: float


@dataclass(frozen=True)
class ScoreSums:
    """All sums of given scores. cosines: by name, standardised. probes: the probe's scores out of fold, by alpha."""

    data: LabelledPairs
    cosines: Mapping[str, Standardised]
    probes: Mapping[float, Standardised]
    _known: dict[Choice, np.ndarray] = field(default_factory=dict)

    def parts(self, choice: Choice) -> tuple[list[Standardised], list[float]]:
        """The scores that are added and their weights: equal ones for the cosines, which sum to 1, then the probe's."""
        weights = [1.0 / len(self.cosines)] * len(self.cosines)
        if not choice.weight:
            return list(self.cosines.values()), weights
        return [*self.cosines.values(), self.probes[choice.alpha]], [*weights, choice.weight]

    def total(self, choice: Choice) -> np.ndarray:
        """The sum (N,)."""
        parts, weights = self.parts(choice)
        return weighted_sum([p.scores for p in parts], weights, [p.mean for p in parts], [p.spread for p in parts])

    def by_query(self, choice: Choice) -> np.ndarray:
        """nDCG@10 (Q,) of a sum."""
        if choice not in self._known:
            self._known[choice] = self.data.ndcg(self.total(choice))
        return self._known[choice]

    def choices(self) -> list[Choice]:
        """Those that are compared, the cosines alone first."""
        return [Choice(USUAL[0], 0.0), *(Choice(a, w) for a in self.probes for w in WEIGHTS if w)]

    def best(self, queries: np.ndarray) -> Choice:
        """The choice that is surest to be better than the usual one on some of the queries (Q,) bool.

        Surest: the mean difference less its standard error is largest, and above 0; else, and where there are fewer
        than QUERIES_TO_CHOOSE queries, the usual one stays. A plain maximum over a dozen choices would pick noise.
        """
        if not self.probes:
            return Choice(USUAL[0], 0.0)
        usual = Choice(*USUAL)
        if int(queries.sum()) < QUERIES_TO_CHOOSE:
            return usual
        sure = {one: _lower(self.by_query(one)[queries] - self.by_query(usual)[queries]) for one in self.choices()}
        best = max(sure, key=lambda one: round(sure[one], 9))
        return best if sure[best] > 0 else usual

    def out_of_fold(self) -> np.ndarray:
        """The sum (N,) in which each fold's pairs are added as the queries of the other folds choose."""
        total = np.empty(len(self.data.pairs))
        for fold in range(self.data.folds):
            choice = self.best(self.data.query_fold != fold)
            inside = self.data.fold == fold
            total[inside] = self.total(choice)[inside]
        return total


def _lower(differences: np.ndarray) -> float:
    """The mean of the known differences less its standard error."""
    known = differences[~np.isnan(differences)]
    return float(known.mean() - known.std(ddof=1) / np.sqrt(len(known)))


def probe_scores(
    features: np.ndarray, data: LabelledPairs, alphas: Sequence[float] = ALPHAS, train: np.ndarray | None = None
) -> dict[float, Standardised]:
    """alpha -> the probe's score of each pair, from a head that was fitted without that pair's fold.

    features: (N, D). train: (N,) bool, the pairs that heads may be fitted on; None for all.
    """
    targets = gain_targets(data.labels, data.scale)
    scores = {alpha: np.empty(len(targets)) for alpha in alphas}
    allowed = np.ones(len(targets), dtype=bool) if train is None else train
    for fold in range(data.folds):
        inside = data.fold == fold
        heads = ridge_heads(features[~inside & allowed], targets[~inside & allowed], alphas)
        for alpha, head in zip(alphas, heads, strict=True):
            scores[alpha][inside] = head.scores(features[inside])
    return {alpha: Standardised.of(one) for alpha, one in scores.items()}


def probabilities_out_of_fold(scores: np.ndarray, data: LabelledPairs) -> np.ndarray:
    """Label probabilities (N, L) by odds that were fitted without each pair's fold.

    Raises ValueError when all other labels are one.
    """
    rows = np.empty((len(scores), len(data.scale)))
    for fold in range(data.folds):
        inside = data.fold == fold
        slope, cuts = fit_odds(scores[~inside], data.labels[~inside], len(data.scale))
        rows[inside] = label_probabilities(scores[inside], slope, cuts)
    return rows
