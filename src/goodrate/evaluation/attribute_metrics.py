"""How well attribute values are told, where "unknown" is an answer: precision, recall and F1 of exact values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from goodrate.catalog.normal_form import normal_text

UNKNOWN = "unknown"
Values = Mapping[str, str | None]  # attribute -> value; None, "", "unknown" and no entry are one: not known


@dataclass(frozen=True)
class AttributeScores:
    """Counts over pairs of an item and an attribute.

    right: a known value is said exactly (in the normal form). said: values that are said. known: values that are true.
    silent: neither said nor known. pairs: all. A value that is not known costs precision, a known one that is not said
    costs recall, a wrong one costs both.
    """

    right: int
    said: int
    known: int
    silent: int
    pairs: int

    @property
    def precision(self) -> float:
        """Of what was said; 1 where nothing was."""
        return self.right / self.said if self.said else 1.0

    @property
    def recall(self) -> float:
        """Of what is known; 1 where nothing is."""
        return self.right / self.known if self.known else 1.0

    @property
    def f1(self) -> float:
        """2 right / (said + known); 1 where nothing is said and nothing known."""
        return 2 * self.right / (self.said + self.known) if self.said + self.known else 1.0

    @property
    def accuracy(self) -> float:
        """Of all pairs, "unknown" being a value like others."""
        return (self.right + self.silent) / self.pairs if self.pairs else 1.0

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {**vars(self), **{name: getattr(self, name) for name in ("precision", "recall", "f1", "accuracy")}}


@dataclass(frozen=True)
class AttributeReport:
    """micro: over all pairs. by_attribute: of each; macro_f1: the mean of their F1."""

    micro: AttributeScores
    by_attribute: dict[str, AttributeScores]

    @property
    def macro_f1(self) -> float:
        """Every attribute counts alike."""
        every = [scores.f1 for scores in self.by_attribute.values()]
        return sum(every) / len(every) if every else 1.0


def attribute_scores(
    truth: Sequence[Values], told: Sequence[Values], attributes: Collection[str] | None = None
) -> AttributeReport:
    """Compare what N items are with what was told of them.

    attributes: which count; None = all that either names. Names and values are compared in their normal form.
    Raises ValueError for unequal lengths.
    >>> found = attribute_scores([{"color": "Red"}, {"color": None}], [{"color": "red"}, {"color": "blue"}])
    >>> found.micro.precision, found.micro.recall, round(found.micro.f1, 3)
    (0.5, 1.0, 0.667)
    """
    if len(truth) != len(told):
        raise ValueError(f"{len(truth)} items and {len(told)} answers; expected as many")
    known, said = [_plain(one) for one in truth], [_plain(one) for one in told]
    if attributes is None:
        names = sorted({name for one in (*known, *said) for name in one})
    else:
        names = sorted({normal_text(name) for name in attributes})
    by_attribute = {name: _scores([one.get(name) for one in known], [one.get(name) for one in said]) for name in names}
    parts = [vars(scores) for scores in by_attribute.values()]
    micro = AttributeScores(**{k: sum(one[k] for one in parts) for k in ("right", "said", "known", "silent", "pairs")})
    return AttributeReport(micro, by_attribute)


def _scores(known: Sequence[str | None], said: Sequence[str | None]) -> AttributeScores:
    both = list(zip(known, said, strict=True))
    return AttributeScores(
        right=sum(a is not None and a == b for a, b in both), said=sum(b is not None for _, b in both),
        known=sum(a is not None for a, _ in both), silent=sum(a is None and b is None for a, b in both),
        pairs=len(both),
    )  # fmt: skip


def _plain(values: Values) -> dict[str, str]:
    """Known values alone, names and values in their normal form."""
    formed = {normal_text(name): normal_text(value) for name, value in values.items() if value}
    return {name: value for name, value in formed.items() if value not in ("", UNKNOWN)}
