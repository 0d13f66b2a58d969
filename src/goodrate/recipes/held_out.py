"""Training queries that a recipe does not train on: they say when to stop, and whether the training helped at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goodrate.catalog.splits import split_by_group
from goodrate.learning.best_state import BestState
from goodrate.relevance.pairs import JudgedPair

SHARE = 0.25
LEAST = 8  # held-out queries, without which nobody can tell
FLOOR = 1e-6  # of a probability whose logarithm is taken


def held_out(pairs: Sequence[JudgedPair], share: float, seed: int) -> tuple[list[JudgedPair], list[JudgedPair]]:
    """The pairs to train on, and those of the held-out query groups, none of them where these have too few queries.

    >>> pairs = [JudgedPair(f"{chr(97 + n)}{chr(98 + n)}x", {"id": "i"}, label=0) for n in range(20)]
    >>> [len(part) for part in held_out(pairs, 0.5, seed=0)], [len(part) for part in held_out(pairs, 0.2, seed=0)]
    ([10, 10], [20, 0])
    """
    queries = [pair.query for pair in pairs]
    if share <= 0:
        return list(pairs), []
    chosen = split_by_group(queries, {"held out": share}, seed)["held out"]
    if len(chosen) < LEAST:
        return list(pairs), []
    return [pair for pair in pairs if pair.query not in chosen], [pair for pair in pairs if pair.query in chosen]


def query_losses(probabilities: np.ndarray, pairs: Sequence[JudgedPair]) -> np.ndarray:
    """Mean negative log-likelihood (Q,) of each query's labels; pairs without a verdict are left out."""
    gold = np.asarray([pair.label for pair in pairs])
    losses = -np.log(np.maximum(probabilities[np.arange(len(gold)), gold], FLOOR))
    numbers = np.unique([pair.query for pair in pairs], return_inverse=True)[1]
    known = ~np.isnan(losses)
    sums, counts = (np.bincount(numbers[known], weights) for weights in (losses[known], None))
    return sums[counts > 0] / counts[counts > 0]


def told(best: BestState | None, what: str) -> str:
    """What is to be said of a training: what was kept, and why. what: the start, in words."""
    if best is None:
        return (
            f"fewer than {LEAST} training queries could be held out, so nobody can tell whether training would help: "
            f"the judge is {what}; label more queries, or set check_share = 0 to train without a check"
        )
    mean, error = best.gain
    compared = f"log-loss on {len(best.before)} held-out training queries {best.before.mean():.4f} before"
    if best.helped:
        return f"{compared}, {best.best.mean():.4f} after {best.update} updates, which are kept"
    tried = f"at best {best.best.mean():.4f} (gain {mean:.4f}, standard error {error:.4f})"
    return f"training added nothing: {compared}, {tried}; the judge is {what}"
