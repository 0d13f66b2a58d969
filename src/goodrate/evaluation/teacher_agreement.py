"""How far a teacher's labels agree with people's on the same pairs, with intervals over queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from goodrate.evaluation.agreement import RESAMPLES, Weights, kappa_of
from goodrate.evaluation.significance import Interval, bootstrap_over_groups
from goodrate.scale import RelevanceScale

# Under 0.41 agreement is "fair" at best in the words of Landis and Koch (Biometrics 33, 1977), which are a convention.
LOW_KAPPA = 0.41
FEW_PAIRS = 50


@dataclass(frozen=True)
class TeacherAgreement:
    """pairs: labelled by both, of so many queries. unlabelled: pairs of people that the teacher gave no label.

    accuracy, kappa (by weights): with intervals over queries. constant: the accuracy of people's most frequent label.
    confusion: (L, L) counts, rows people's label, columns the teacher's, worst first.
    """

    scale: RelevanceScale
    pairs: int
    queries: int
    unlabelled: int
    accuracy: Interval
    constant: float
    kappa: dict[Weights, Interval]
    confusion: np.ndarray

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known before the labels are used."""
        linear = self.kappa["linear"]
        told = []
        if self.pairs < FEW_PAIRS or self.queries < 2:
            told.append(f"only {self.pairs:,} pairs of {self.queries:,} queries are labelled by both: too few to tell")
        if not linear.low >= LOW_KAPPA:
            shown = f"{linear.low:.2f}" if linear.low == linear.low else "unknown"
            told.append(
                f"weighted kappa may be as low as {shown}; below {LOW_KAPPA} agreement is fair at best: look at the "
                "confusion, write guidelines for what is confused, and do not train on these labels unseen"
            )
        return tuple(told)

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        return {
            "scale": self.scale.name,
            "labels": list(self.scale.labels),
            "pairs": self.pairs,
            "queries": self.queries,
            "unlabelled": self.unlabelled,
            "accuracy": self.accuracy.as_dict(),
            "constant_accuracy": self.constant,
            "cohen_kappa": {weights: interval.as_dict() for weights, interval in self.kappa.items()},
            "confusion": self.confusion.tolist(),
            "warnings": list(self.warnings),
        }


def teacher_agreement(
    people: Sequence[int | None], teacher: Sequence[int | None], queries: Sequence[str], scale: RelevanceScale,
    seed: int = 0,
) -> TeacherAgreement:  # fmt: skip
    """Of label positions (N each), None where one gave none. queries: (N,) of each pair, the unit of resampling.

    Kappa: Cohen 1960 and 1968, by scikit-learn; NaN where there is one label only. Raises ValueError when no pair has
    both labels.
    """
    rows = [row for row, label in enumerate(people) if label is not None]
    both = [row for row in rows if teacher[row] is not None]
    if not both:
        raise ValueError("none of the pairs that people labelled got a label of the model: nothing to compare")
    left = np.asarray([people[row] for row in both])
    right = np.asarray([teacher[row] for row in both])
    groups = [queries[row] for row in both]

    def interval(statistic: Callable[[np.ndarray], float]) -> Interval:
        return bootstrap_over_groups(statistic, groups, seed, resamples=RESAMPLES)

    def kappa(weights: Weights) -> Interval:
        return interval(lambda at: kappa_of(left[at], right[at], len(scale), weights))

    confusion = np.zeros((len(scale), len(scale)), dtype=np.int64)
    np.add.at(confusion, (left, right), 1)
    weightings: tuple[Weights, ...] = ("none", "linear", "quadratic")
    return TeacherAgreement(
        scale, len(both), len(set(groups)), len(rows) - len(both),
        interval(lambda at: float((left[at] == right[at]).mean())), float(np.bincount(left).max() / len(left)),
        {weights: kappa(weights) for weights in weightings}, confusion,
    )  # fmt: skip
