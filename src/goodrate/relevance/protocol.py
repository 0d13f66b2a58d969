"""The protocol that everything above a judge knows: retrieval, tiers, the verdict store, rewards, evaluation, pages.

A kind of judge says how probable each label is; temperature, tiers, expected gain, storing and showing verdicts are
written once, in relevance.judge.CalibratedJudge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.verdicts import NO_PROBABILITIES, OK, Explanation
from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class Assessment:
    """What a judge says of N pairs before calibration.

    probabilities: (N, L) float64, worst label first, rows that sum to 1; NaN where the judge failed. status: N of "ok"
    or the name of a failure. item_cut: N, whether the item's text lost its end. explanations: N; what a judge wrote
    before it gave the label, None where it wrote nothing.
    """

    probabilities: np.ndarray
    status: tuple[str, ...]
    item_cut: tuple[bool, ...]
    explanations: tuple[Explanation | None, ...]

    @classmethod
    def of(cls, probabilities: np.ndarray, status: Sequence[str] | None = None) -> Assessment:
        """Of probabilities alone; rows of NaN are failures unless `status` names them."""
        rows = np.asarray(probabilities, dtype=np.float64)
        failed = np.isnan(rows.sum(axis=1)).tolist()
        named = tuple(status) if status is not None else tuple(NO_PROBABILITIES if bad else OK for bad in failed)
        return cls(rows, named, (False,) * len(rows), (None,) * len(rows))


class Judge(Protocol):
    """A judge of any kind: an LM that reasons, a calibrated cosine, people's stored labels, or one of your own."""

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides a verdict besides the pair, as JSON: stored verdicts are keyed by it."""
        ...

    def reads(self, items: Sequence[Item]) -> list[str]:
        """What it reads of each item, as text: a stored verdict holds as long as that text does."""
        ...

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Label probabilities of the pairs, in order. A pair that cannot be judged is a failure, never an error."""
        ...

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """Why each pair has its label; labels: positions on the scale, 0 = worst."""
        ...
