"""Which sum of scores to judge by, weighed and measured over folds of query groups: arithmetic, no models.

Members that nobody trained (cosines, words, constraints) and a probe, whose head is fitted on all folds but one and
scores that one. The weights of a fold's sum are fitted on the other folds, so that a query's number never hangs on that
query's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from goodrate.catalog.splits import query_folds
from goodrate.evaluation.metrics import evaluate_run
from goodrate.recipes.listwise_weights import listwise_weights
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.label_choice import balanced_weights, chosen_labels
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair, gold_labels
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.scale import RelevanceScale

PROBE = "probe"
ALPHA = 3e3  # of the probe's ridge
STRENGTH = 5.0  # of the pull towards the usual weights, in queries
SURE = 2.0  # standard errors
SMALLEST = 0.02  # weight that a member is kept for
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
    def query_number(self) -> np.ndarray:
        """A number (N,) of each pair's query."""
        numbers = {query: n for n, query in enumerate(dict.fromkeys(pair.query for pair in self.pairs))}
        return np.asarray([numbers[pair.query] for pair in self.pairs])

    @cached_property
    def numbers(self) -> np.ndarray:
        """The number (Q,) of each of `queries`."""
        of = {pair.query: number for pair, number in zip(self.pairs, self.query_number.tolist(), strict=True)}
        return np.asarray([of[query] for query in self.queries])

    @cached_property
    def query_fold(self) -> np.ndarray:
        """The fold (Q,) of each of them."""
        of = {pair.query: int(fold) for pair, fold in zip(self.pairs, self.fold, strict=True)}
        return np.asarray([of[query] for query in self.queries])

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

    def chosen(self, probabilities: np.ndarray) -> np.ndarray:
        """Labels (N,) of probabilities (N, L), weighed by how frequent labels are in the other folds."""
        chosen = np.empty(len(self.labels), dtype=np.int64)
        for fold in range(self.folds):
            inside = self.fold == fold
            chosen[inside] = chosen_labels(
                probabilities[inside], balanced_weights(self.labels[~inside], len(self.scale))
            )
        return chosen

    def ndcg(self, scores: np.ndarray, metric: str = NDCG) -> np.ndarray:
        """The metric (Q,) of ordering each query's judged items by scores (N,); NaN where it is undefined."""
        run = {query: [(row, float(scores[int(row)])) for row in items] for query, items in self._qrels.items()}
        table = evaluate_run(run, self._qrels, self.scale, [metric])
        return table[metric].cast(float).fill_null(float("nan")).to_numpy()


@dataclass(frozen=True)
class Member:
    """Scores (N,) with the mean and spread that they are standardised by in a sum, and their usual weight there."""

    scores: np.ndarray
    mean: float
    spread: float
    usual: float = 1.0

    @classmethod
    def of(cls, scores: np.ndarray, usual: float = 1.0) -> Member:
        """With their own mean and standard deviation; 1 for scores that are all one."""
        spread = float(scores.std())
        return cls(scores, float(scores.mean()), spread if spread > 1e-6 else 1.0, usual)


def added(members: Mapping[str, Member], weights: Mapping[str, float]) -> np.ndarray:
    """The sum (N,) of the members that have a weight."""
    used = [members[name] for name in weights]
    means, spreads = [one.mean for one in used], [one.spread for one in used]
    return weighted_sum([one.scores for one in used], list(weights.values()), means, spreads)


def surely(differences: np.ndarray) -> float:
    """The mean of the known differences less SURE standard errors; minus infinity for fewer than two."""
    known = differences[~np.isnan(differences)]
    if len(known) < 2:
        return -np.inf
    return float(known.mean() - SURE * known.std(ddof=1) / np.sqrt(len(known)))


@dataclass(frozen=True)
class ScoreSums:
    """Sums of members by name; the probe's scores are out of fold."""

    data: LabelledPairs
    members: Mapping[str, Member]

    @property
    def usual(self) -> dict[str, float]:
        """The usual weight of each member."""
        return {name: member.usual for name, member in self.members.items()}

    def without(self, *names: str) -> ScoreSums:
        """The same without some members."""
        return replace(self, members={name: one for name, one in self.members.items() if name not in names})

    def total(self, weights: Mapping[str, float]) -> np.ndarray:
        """The sum (N,) of the members that have a weight."""
        return added(self.members, weights)

    def fitted(self, pairs: np.ndarray | None = None) -> dict[str, float]:
        """Weights by the labels of some pairs, bool (N,), or of all, without members that surely do harm.

        Surely: the queries of those pairs gain in nDCG by leaving the member out, more than SURE standard errors.
        """
        chosen = np.ones(len(self.data.pairs), dtype=bool) if pairs is None else pairs
        weights = self._weighed(chosen)
        if len(weights) < 2 or not chosen.any():
            return weights
        known = np.isin(self.data.numbers, self.data.query_number[chosen])
        before = self.data.ndcg(self.total(weights))[known]
        others = {name: self.without(name) for name in weights}
        harm = {
            name: surely(one.data.ndcg(one.total(one._weighed(chosen)))[known] - before) for name, one in others.items()
        }
        worst = max(harm, key=lambda name: harm[name])
        return others[worst].fitted(chosen) if harm[worst] > 0 else weights

    def _weighed(self, chosen: np.ndarray) -> dict[str, float]:
        """Weights of all members; see listwise_weights."""
        scores, targets = self.standardised[chosen], gain_targets(self.data.labels, self.data.scale)[chosen]
        usual = np.asarray(list(self.usual.values()))
        weights = listwise_weights(scores, targets, self.data.query_number[chosen], usual, STRENGTH)
        return dict(zip(self.members, weights.tolist(), strict=True))

    @cached_property
    def standardised(self) -> np.ndarray:
        """All members, (N, M)."""
        return np.stack([(one.scores - one.mean) / one.spread for one in self.members.values()], axis=1)

    @cached_property
    def fold_weights(self) -> list[dict[str, float]]:
        """For each fold the weights by the labels of the others."""
        return [self.fitted(self.data.fold != fold) for fold in range(self.data.folds)]

    def out_of_fold(self, train: np.ndarray | None = None) -> np.ndarray:
        """The sum (N,) in which each fold's pairs are added as the queries of the other folds say.

        train: (N,) bool, the pairs that weights may be fitted on; None for all.
        """
        folds = [self.data.fold == fold for fold in range(self.data.folds)]
        weights = self.fold_weights if train is None else [self.fitted(~inside & train) for inside in folds]
        total = np.empty(len(self.data.pairs))
        for inside, of_fold in zip(folds, weights, strict=True):
            total[inside] = self.total(of_fold)[inside]
        return total


def kept(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights without those that are next to nothing; the largest alone where all are.

    >>> kept({"cosine": 1.0, "words": 0.001})
    {'cosine': 1.0}
    """
    largest = max(weights, key=lambda name: weights[name])
    return {name: w for name, w in weights.items() if w >= SMALLEST or name == largest}


def probe_scores(
    features: np.ndarray, data: LabelledPairs, alpha: float = ALPHA, train: np.ndarray | None = None
) -> np.ndarray:
    """The probe's score (N,) of each pair, from a head that was fitted without that pair's fold.

    features: (N, D). train: (N,) bool, the pairs that heads may be fitted on; None for all.
    """
    targets = gain_targets(data.labels, data.scale)
    scores = np.empty(len(targets))
    allowed = np.ones(len(targets), dtype=bool) if train is None else train
    for fold in range(data.folds):
        inside = data.fold == fold
        (head,) = ridge_heads(features[~inside & allowed], targets[~inside & allowed], [alpha])
        scores[inside] = head.scores(features[inside])
    return scores


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
