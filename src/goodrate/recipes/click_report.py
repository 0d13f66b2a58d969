"""How well a click ranker tells what is clicked from what is not, on queries that it has not learned from."""

from __future__ import annotations

import numpy as np

from goodrate.ranking.ranker import Ranker
from goodrate.recipes.click_features import LogFeatures
from goodrate.recipes.registry import Rows


def dev_rows(ranker: Ranker, log: LogFeatures, rows: np.ndarray) -> Rows:
    """system -> auc among the impressions (R,) and how many there are; none where one kind is missing.

    auc: the chance that what was clicked stands above what was not, among impressions at the same place, so that
    the place itself tells nothing. "constant" is the trivial predictor, "gain" the judge's order.
    """
    clicked = log.log.clicked[rows]
    if not len(rows) or clicked.all() or not clicked.any():
        return {}
    pairs = log.of_pairs(rows)
    scores = {"ranker": ranker.of_features(log.query[log.log.query[rows]], log.catalog, log.log.item[rows], pairs)}
    if "gain" in log.features.of_pairs:
        scores["gain"] = np.nan_to_num(pairs[:, log.features.of_pairs.index("gain")])
    scores["constant"] = np.zeros(len(rows))
    position = log.log.position[rows]
    return {name: {"auc": within_places(score, clicked, position), "pairs": float(len(rows))}
            for name, score in scores.items()}  # fmt: skip


def within_places(score: np.ndarray, clicked: np.ndarray, position: np.ndarray) -> float:
    """AUC over pairs of a clicked and another impression of the same place; NaN without such a pair.

    >>> within_places(np.array([2.0, 1.0, 9.0]), np.array([True, False, False]), np.array([1, 1, 2]))
    1.0
    """
    better = total = 0.0
    for place in np.unique(position):
        here = position == place
        won, lost = score[here & clicked], np.sort(score[here & ~clicked])
        below = np.searchsorted(lost, won, side="left").sum()
        equal = np.searchsorted(lost, won, side="right").sum() - below
        better += below + 0.5 * equal
        total += len(won) * len(lost)
    return float(better / total) if total else float("nan")
