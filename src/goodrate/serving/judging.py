"""The judge as serving sees it: verdicts for one query's items, kept once given, and reasons on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ServedVerdict:
    """What is shown of a verdict. A failed one has a status other than "ok" and no label: unknown is not irrelevant.

    probabilities: one per label of the scale, worst first, empty when the judge failed. expected_gain: 0..1.
    reason_status: "ok" or what makes the reason unreadable; None until a reason was asked for. context: the retrieved
    text that the judge read.
    """

    label: str | None
    tier: str | None
    probabilities: tuple[float, ...]
    expected_gain: float | None
    status: str = "ok"
    reason: str | None = None
    reason_status: str | None = None
    inconsistent: bool | None = None
    cached: bool = False
    context: str | None = None


class Judging(Protocol):
    """What the pipeline needs of a judge."""

    name: str

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        ...

    def item_texts(self, frame: pl.DataFrame) -> list[str]:
        """Items (rows with the item columns) as this judge reads them."""
        ...

    def verdicts(self, query: str, item_texts: Sequence[str]) -> list[ServedVerdict]:
        """One verdict per item text, without reasons."""
        ...

    def explain(self, query: str, item_text: str) -> ServedVerdict:
        """One verdict with its reason."""
        ...


def served(verdict: Any, scale: RelevanceScale, cached: bool = False, context: str | None = None) -> ServedVerdict:
    """A `relevance.judge.Verdict` in the shape that is shown."""
    probabilities = () if verdict.probabilities is None else tuple(float(p) for p in verdict.probabilities)
    known = verdict.label is not None and len(probabilities) == len(scale)
    return ServedVerdict(
        label=scale.labels[verdict.label] if known else None,
        tier=str(verdict.tier) if known else None,
        probabilities=probabilities,
        expected_gain=float(scale.expected_gain(np.asarray(probabilities))) if known else None,
        status=verdict.status,
        reason=verdict.reason,
        reason_status=verdict.reason_status,
        inconsistent=verdict.inconsistent,
        cached=cached,
        context=context,
    )
