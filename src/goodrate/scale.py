"""Relevance scales: the only place where a label becomes a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class RelevanceScale:
    """Ordered relevance labels, worst first, with a gain each and the set that counts as good.

    labels: L names, worst first. gains: L non-negative gains for nDCG, non-decreasing. positive: the labels that people
    call good (Goodrate counts them). aliases: other spellings that readers accept, such as the grade "3" or "E".
    """

    name: str
    labels: tuple[str, ...]
    gains: tuple[float, ...]
    positive: frozenset[str]
    aliases: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.gains) >= 2
        assert list(self.gains) == sorted(self.gains) and self.positive < set(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: object) -> int:
        """The position of a label, 0 = worst. Accepts aliases, any case, and whole floats such as 3.0.

        Raises ValueError with the accepted labels. Example:
        >>> FOUR_LEVEL.index("Excellent"), FOUR_LEVEL.index(1), ESCI.index("E"), GRADED_0_3.index("3.0")
        (3, 0, 3, 3)
        """
        text = str(label).strip().lower()
        text = text[:-2] if text.endswith(".0") else text
        text = self.aliases.get(text, text)
        if text in self.labels:
            return self.labels.index(text)
        accepted = ", ".join([*self.labels, *self.aliases])
        raise ValueError(f"label {label!r} is not on scale {self.name}; accepted: {accepted}")

    def indices(self, labels: Iterable[object]) -> np.ndarray:
        """Label positions as int64 (N,). Each distinct label is looked up once."""
        values = list(labels)
        known = {value: self.index(value) for value in set(values)}
        return np.fromiter((known[value] for value in values), dtype=np.int64, count=len(values))

    @property
    def gain_array(self) -> np.ndarray:
        """Gains by label position, float64 (L,)."""
        return np.asarray(self.gains, dtype=np.float64)

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each label position counts as good, bool (L,)."""
        return np.asarray([label in self.positive for label in self.labels])

    def expected_gain(self, probabilities: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """sum_l p_l * gain_l / max gain, in 0..1: the one scalar that orders results.

        probabilities: (..., L), calibrated, summing to 1. Returns (...).
        >>> FOUR_LEVEL.expected_gain([[0.0, 0.0, 0.5, 0.5]]).round(3).tolist()
        [0.714]
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape[-1] != len(self):
            raise ValueError(f"probabilities have {p.shape[-1]} columns; scale {self.name} has {len(self)} labels")
        return p @ self.gain_array / self.gains[-1]


FOUR_LEVEL = RelevanceScale(
    name="four_level",
    labels=("irrelevant", "mismatch", "related", "excellent"),
    gains=(0.0, 1.0, 3.0, 7.0),
    positive=frozenset({"related", "excellent"}),
    aliases={"1": "irrelevant", "2": "mismatch", "3": "related", "4": "excellent"},
)

# The gains of the ESCI paper (arXiv 2206.06588). The published evaluation script swaps S and C: see ESCI_SWAPPED.
ESCI = RelevanceScale(
    name="esci",
    labels=("irrelevant", "complement", "substitute", "exact"),
    gains=(0.0, 0.01, 0.1, 1.0),
    positive=frozenset({"exact", "substitute"}),
    aliases={"i": "irrelevant", "c": "complement", "s": "substitute", "e": "exact"},
)
# What the published script computes: complement worth 0.1 and substitute worth 0.01. For comparison only.
ESCI_SWAPPED = RelevanceScale(
    name="esci_swapped",
    labels=("irrelevant", "substitute", "complement", "exact"),
    gains=(0.0, 0.01, 0.1, 1.0),
    positive=frozenset({"exact", "substitute"}),
    aliases=ESCI.aliases,
)
WANDS = RelevanceScale(
    name="wands",
    labels=("irrelevant", "partial", "exact"),
    gains=(0.0, 0.5, 1.0),
    positive=frozenset({"exact"}),
    aliases={"i": "irrelevant", "p": "partial", "e": "exact"},
)
GRADED_0_3 = RelevanceScale(
    name="graded_0_3",
    labels=("0", "1", "2", "3"),
    gains=(0.0, 1.0, 3.0, 7.0),
    positive=frozenset({"2", "3"}),
)

SCALES = {scale.name: scale for scale in (FOUR_LEVEL, ESCI, ESCI_SWAPPED, WANDS, GRADED_0_3)}


def get_scale(name: str) -> RelevanceScale:
    """The scale of that name. Raises ValueError with the known names."""
    if name not in SCALES:
        raise ValueError(f"unknown scale {name!r}; known: {', '.join(SCALES)}")
    return SCALES[name]
