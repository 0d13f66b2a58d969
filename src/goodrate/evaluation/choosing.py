"""Choose one of several settings on judged queries, and say honestly whether it is better than the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goodrate.catalog.splits import query_folds, query_groups
from goodrate.evaluation.significance import Interval, paired_bootstrap_difference

FOLDS = 5
FEWEST_GROUPS = 10  # of alike queries; from fewer, a choice is luck


@dataclass(frozen=True)
class Choice:
    """best: the candidate with the highest mean over all queries. picks: the one that each fold's other queries chose.

    held_out (Q,): what each query got from the candidate that was chosen without it. difference: held_out minus the
    default, paired over queries. is_better: that interval lies above 0.
    """

    best: int
    picks: tuple[int, ...]
    held_out: np.ndarray
    difference: Interval

    @property
    def is_better(self) -> bool:
        """Whether choosing pays beyond its interval."""
        return bool(self.difference.low > 0)


def dealt(queries: Sequence[str], folds: int = FOLDS, seed: int = 0) -> list[int]:
    """The fold (Q,) of each query, alike ones in one (catalog.splits.query_folds); a fold has a group at least.

    Raises ValueError with fewer than FEWEST_GROUPS groups.
    """
    count = len(set(query_groups(queries)))
    if count < FEWEST_GROUPS:
        raise ValueError(f"{count} groups of queries: it takes {FEWEST_GROUPS} at least to choose settings on")
    fold = query_folds(queries, min(folds, count), seed)
    return [fold[query] for query in queries]


def choose(values: np.ndarray, folds: Sequence[int], default: int = 0, seed: int = 0) -> Choice:
    """The best of C candidates by cross-validation.

    values (C, Q): a metric of each candidate on each query, NaN = undefined (for all candidates). folds (Q,): from 0,
    see dealt. default: the candidate that needs no choosing, which wins ties. seed: of the interval.
    >>> values = np.array([[0.5] * 20, [0.6] * 20])
    >>> choice = choose(values, [0, 1] * 10)
    >>> choice.best, round(choice.difference.low, 6), choice.is_better
    (1, 0.1, True)
    """
    fold = np.asarray(folds)
    held_out, picks = np.empty(values.shape[1]), []
    for number in range(int(fold.max()) + 1):
        picks.append(_best(values[:, fold != number], default))
        held_out[fold == number] = values[picks[-1], fold == number]
    difference = paired_bootstrap_difference(held_out, values[default], seed)
    return Choice(_best(values, default), tuple(picks), held_out, difference)


def _best(values: np.ndarray, default: int) -> int:
    """The candidate with the highest mean; the default, then the first, of equal ones."""
    defined = values[:, ~np.isnan(values).all(axis=0)]
    means = np.nan_to_num(defined, nan=0.0).mean(axis=1) if defined.shape[1] else np.zeros(len(values))
    best = np.flatnonzero(means >= means.max() - 1e-12)
    return default if default in best else int(best[0])
