"""What a sum of scores is worth, over folds of query groups, beside everything that nobody trained."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.evaluation.classification import classify
from goodrate.evaluation.significance import Interval, bootstrap_interval, paired_bootstrap_difference
from goodrate.recipes.label_stack import LabelStack, log_losses
from goodrate.recipes.score_sum import (
    PROBE,
    LabelledPairs,
    Member,
    ScoreSums,
    kept,
    probabilities_out_of_fold,
    probe_scores,
    surely,
)
from goodrate.relevance.calibration import reliability
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.label_head import LabelHead
from goodrate.relevance.pairs import JudgedPair

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog

ORDERS = 20  # random orders whose mean stands for chance
CURVE = (5, 10, 20, 40, 80, 160, 320, 640)  # labelled queries
DRAWS = 3  # of so many queries
IDS = 50  # in one filter, which has a longest length
ENSEMBLE, SUM, BM25 = "ensemble", "untrained sum", "bm25"


@dataclass(frozen=True)
class System:
    """One way to order and to label. ndcg10, ndcg: by query (Q,). probabilities: (N, L), None for an order alone."""

    name: str
    ndcg10: np.ndarray
    ndcg: np.ndarray
    scores: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Report:
    """All systems on the same pairs. weights: of the members that the judge adds up. adds: nDCG@10 less that of the sum
    without a member, by name, out of fold.

    rival: the best system that nobody trained. gain: nDCG@10 of the ensemble less that of the rival, over_cosine: less
    that of the first cosine. curve: labelled queries -> mean gain over the untrained sum. head: the label head that
    labels and orders, None for the sum's odds; label_gain: log loss of the odds less that of a label head over queries,
    None where none was tried.
    """

    data: LabelledPairs
    systems: tuple[System, ...]
    weights: dict[str, float]
    adds: dict[str, Interval]
    rival: str
    gain: Interval
    over_cosine: Interval
    probabilities: np.ndarray
    curve: dict[int, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    head: LabelHead | None = None
    label_gain: Interval | None = None

    @property
    def label_head(self) -> bool:
        """Whether labels and order come of a label head."""
        return self.head is not None

    def rows(self) -> dict[str, dict[str, float]]:
        """A row for each system."""
        return {system.name: _row(system, self.data) for system in self.systems}

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with an interval beside each nDCG@10."""
        rival = self.system(self.rival).ndcg10
        systems = {
            one.name: {
                **_row(one, self.data), "ndcg@10 interval": bootstrap_interval(one.ndcg10).as_dict(),
                "minus rival": paired_bootstrap_difference(one.ndcg10, rival).as_dict(),
            }
            for one in self.systems
        }  # fmt: skip
        return {
            "queries": len(self.data.queries), "pairs": len(self.data.pairs), "weights": self.weights,
            "adds": {name: one.as_dict() for name, one in self.adds.items()}, "rival": self.rival,
            "gain": self.gain.as_dict(), "over_cosine": self.over_cosine.as_dict(), "systems": systems,
            "curve": {str(count): value for count, value in self.curve.items()}, "warnings": list(self.warnings),
            "label_head": self.label_head, "label_gain": self.label_gain.as_dict() if self.label_gain else None,
        }  # fmt: skip

    def system(self, name: str) -> System:
        """The system of that name."""
        return next(one for one in self.systems if one.name == name)


def measured_report(
    sums: ScoreSums, rivals: Mapping[str, np.ndarray], features: np.ndarray | None, with_curve: bool = True
) -> Report:
    """Measure everything; the ensemble's numbers are out of fold, its weights are those of all queries.

    A probe that adds nothing out of fold is left out: it is what costs. rivals: scores (N,) of other systems that
    nobody trained; they need not be comparable between queries. features: (N, D) of the probe, for labels and curve.
    """
    data, bare = sums.data, sums.without(PROBE)
    untrained = _untrained(sums, rivals)
    trained = [_scored(PROBE, sums.members[PROBE].scores, data)] if PROBE in sums.members else []
    ensemble = _scored(ENSEMBLE, sums.out_of_fold(), data)
    adds, chosen, notes = _adds(sums, ensemble), sums, []
    if PROBE in adds and not (adds[PROBE].value or 0.0) > 0:
        notes.append("the probe adds nothing out of fold; the judge does without it")
        chosen = bare
    weights = kept(chosen.fitted())
    head, gained = None, None
    if features is not None and PROBE in weights:
        ensemble, head, gained = _better_labels(ensemble, LabelStack(sums, features))
        notes.append(_label_note(head is not None, gained))
    if head:
        weights = {name: weights.get(name, 0.0) for name in sums.members}  # the head reads them all
    rival = max(untrained, key=lambda one: float(np.nanmean(one.ndcg10)))
    gain = paired_bootstrap_difference(ensemble.ndcg10, rival.ndcg10)
    first = next(one for one in untrained if one.name == next(iter(sums.members)))
    assert ensemble.probabilities is not None
    curve = learning_curve(sums, features) if features is not None and with_curve else {}
    return Report(
        data, (_constant(data), *untrained, *trained, ensemble), weights, adds, rival.name, gain,
        paired_bootstrap_difference(ensemble.ndcg10, first.ndcg10), ensemble.probabilities, curve,
        (*notes, *_notes(data, curve)), _warnings(gain, rival.name), head, gained,
    )  # fmt: skip


def _untrained(sums: ScoreSums, rivals: Mapping[str, np.ndarray]) -> list[System]:
    """Chance, the rivals, the members that nobody trained and their sum."""
    data, bare = sums.data, sums.without(PROBE)
    systems = [_random(data), *(_ordering(name, scores, data) for name, scores in rivals.items())]
    systems += [_scored(name, one.scores, data) for name, one in bare.members.items() if one.scores.std() > 0]
    return [*systems, _scored(SUM, bare.total(bare.usual), data)] if len(bare.members) > 1 else systems


def _better_labels(ensemble: System, stack: LabelStack) -> tuple[System, LabelHead | None, Interval]:
    """The system with the probabilities of a label head where these surely have the smaller log loss and do not surely
    order worse, the head of all pairs then, and by how much: the odds' loss less the head's, over queries, out of fold.
    """
    assert ensemble.probabilities is not None
    data = stack.sums.data
    probabilities = stack.out_of_fold()
    less = log_losses(ensemble.probabilities, data) - log_losses(probabilities, data)
    scores = data.scale.expected_gain(probabilities)
    headed = replace(_ordering(ensemble.name, scores, data), scores=scores, probabilities=probabilities)
    better = surely(less) > 0 and not surely(ensemble.ndcg10 - headed.ndcg10) > 0
    return headed if better else ensemble, stack.fitted() if better else None, bootstrap_interval(less)


def _label_note(headed: bool, less: Interval) -> str:
    """Whence labels and order are, and why."""
    told = f"log loss out of fold by {less.value:+.3f} nats less (95 % {less.low:+.3f} to {less.high:+.3f}) than odds"
    if headed:
        return f"labels, and by them the order, come of a label head: {told}"
    return f"labels come of the sum's odds: a label head is not surely better ({told})"


def _adds(sums: ScoreSums, ensemble: System) -> dict[str, Interval]:
    """What each member adds: the ensemble less the sum without it, weighed anew, both out of fold."""
    if len(sums.members) < 2:
        return {}
    without = {name: sums.data.ndcg(sums.without(name).out_of_fold()) for name in sums.members}
    return {name: paired_bootstrap_difference(ensemble.ndcg10, one) for name, one in without.items()}


def _notes(data: LabelledPairs, curve: dict[int, float]) -> list[str]:
    notes = [f"nDCG over {len(data.queries):,} queries whose labels differ; out of {data.folds} folds of query groups"]
    steps = sorted(curve)
    if len(steps) > 1:
        last, before = steps[-1], steps[-2]
        slope = (curve[last] - curve[before]) / math.log(last / before)
        more = slope * math.log((last + 20) / last)
        told = f"about {more:+.3f}" if more > 0.0005 else "nothing that shows"
        notes.append(f"with 20 more labelled queries nDCG@10 would gain {told} (from {before} to {last}: "
                     f"{curve[before]:+.3f} to {curve[last]:+.3f} over the untrained sum)")  # fmt: skip
    return notes


def _warnings(gain: Interval, rival: str) -> tuple[str, ...]:
    """What has to be said when the ensemble does not beat the best untrained system by more than chance."""
    if gain.low > 0:
        return ()
    return (
        f"not shown to order better than {rival}, which nobody trained: nDCG@10 {gain.value:+.3f} "
        f"(95 % {gain.low:+.3f} to {gain.high:+.3f}, {gain.units} queries)",
    )


def _scored(name: str, scores: np.ndarray, data: LabelledPairs) -> System:
    """A system that has a score for every pair; labels by odds out of fold."""
    order = _ordering(name, scores, data)
    return replace(order, scores=scores, probabilities=probabilities_out_of_fold(scores, data))


def _ordering(name: str, scores: np.ndarray, data: LabelledPairs) -> System:
    """A system whose scores cannot be compared between queries."""
    return System(name, data.ndcg(scores), data.ndcg(scores, "ndcg"))


def _random(data: LabelledPairs) -> System:
    """Chance: the mean of random orders."""
    rng = np.random.default_rng(data.seed)
    orders = [rng.random(len(data.pairs)) for _ in range(ORDERS)]
    return System(
        "random order", *(np.mean([data.ndcg(one, m) for one in orders], axis=0) for m in ("ndcg@10", "ndcg"))
    )


def _constant(data: LabelledPairs) -> System:
    """The shares of all labels in the other folds, whatever the pair; it orders nothing."""
    rows = np.empty((len(data.pairs), len(data.scale)))
    for fold in range(data.folds):
        counts = np.bincount(data.labels[data.fold != fold], minlength=len(data.scale)) + 1.0
        rows[data.fold == fold] = counts / counts.sum()
    nothing = np.full(len(data.queries), math.nan)
    return System("constant", nothing, nothing, None, rows)


def _row(system: System, data: LabelledPairs) -> dict[str, float]:
    """nDCG by order, and how well labels are predicted."""
    row = {"ndcg@10": _mean(system.ndcg10), "ndcg": _mean(system.ndcg)}
    if system.probabilities is None:
        return row
    scores = system.scores if system.scores is not None else data.scale.expected_gain(system.probabilities)
    chosen = data.chosen(system.probabilities) if system.scores is not None else chosen_labels(system.probabilities)
    labels = classify(data.labels, chosen, data.scale, scores)
    error = reliability(system.probabilities, data.labels).ece
    auc = labels.auc if system.scores is not None else math.nan
    return {**row, "auc_good": auc, "accuracy": labels.accuracy, "macro_f1": labels.macro_f1,
            "good_f1": labels.good_f1, "ece": error}  # fmt: skip


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def lexical_scores(catalog: Catalog, pairs: Sequence[JudgedPair]) -> np.ndarray:
    """BM25 (N,) of each pair in a full text of the whole catalogue; 0 for an item without a word of the query."""
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    scores = np.zeros(len(pairs))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "index", None, None)
        index_catalog(store, catalog, None)
        rows: dict[str, dict[str, int]] = {}
        for row, pair in enumerate(pairs):
            rows.setdefault(pair.query, {})[pair.item_id] = row
        for query, items in rows.items():
            ids = list(items)
            for start in range(0, len(ids), IDS):
                for hit in store.search_text(query, IDS, _among(ids[start : start + IDS])):
                    scores[items[hit.item_id]] = hit.score
    return scores


def _among(ids: Sequence[str]) -> str:
    """A filter for these ids."""
    return "id IN (" + ", ".join("'" + one.replace("'", "''") + "'" for one in ids) + ")"


def learning_curve(sums: ScoreSums, features: np.ndarray) -> dict[int, float]:
    """Labelled queries -> what the ensemble gains in nDCG@10 over the untrained sum, a mean over DRAWS draws.

    Each fold is scored by a head and weights from so many of the other folds' queries.
    """
    data, bare = sums.data, sums.without(PROBE)
    alone = data.ndcg(bare.total(bare.usual))
    queries = sorted({pair.query for pair in data.pairs})
    most = len(queries) - math.ceil(len(queries) / data.folds)
    counts = [count for count in CURVE if count < most] + [most]
    curve = {}
    for count in counts:
        gains = [_drawn_gain(sums, features, alone, count, draw) for draw in range(1 if count == most else DRAWS)]
        curve[count] = float(np.mean(gains))
    return curve


def _drawn_gain(sums: ScoreSums, features: np.ndarray, alone: np.ndarray, count: int, draw: int) -> float:
    """The gain with `count` random labelled queries, drawn for each fold from the others."""
    data = sums.data
    rng = np.random.default_rng([data.seed, draw])
    of_pair = np.asarray([pair.query for pair in data.pairs])
    order = rng.permutation(sorted(set(of_pair.tolist())))
    train = np.isin(of_pair, order[: math.ceil(count * data.folds / (data.folds - 1))])
    probe = Member.of(probe_scores(features, data, train=train), sums.members[PROBE].usual)
    drawn = ScoreSums(data, {**sums.without(PROBE).members, PROBE: probe})
    return float(np.nanmean(data.ndcg(drawn.out_of_fold(train)) - alone))
