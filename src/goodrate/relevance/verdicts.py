"""A verdict: the one record of what a judge says of a pair, from its row of probabilities to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.tiers import TIERS, cumpt
from goodrate.scale import RelevanceScale

OK, TOO_LONG, NO_PROBABILITIES = "ok", "prompt_too_long", "no_probabilities"


@dataclass(frozen=True)
class ReasonStep:
    """One step of a reason: its name, a heading, the line as the judge wrote it, and that line in words."""

    name: str
    title: str
    line: str
    text: str


@dataclass(frozen=True)
class Explanation:
    """Why a judge says so. text: as it was written. status: "ok" or what makes it unreadable.

    steps: the text read once, in words. inconsistent: whether the steps name a rule that gives another label than the
    one that was given (None: cannot be told).
    """

    text: str
    steps: tuple[ReasonStep, ...] = ()
    status: str = OK
    inconsistent: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a pair. status other than "ok" is a failure: unknown, never a low grade.

    label: name on the scale, the most probable one. probabilities: one per label, worst first, calibrated; empty for a
    failure. expected_gain: 0..1, what orders results. tier: Good, Mid or Bad by cumulative mass, so it can differ from
    the label's own. item_cut: the item's text was too long and lost its end. explanation: None until asked for.
    cached: it came from a verdict store. context: the retrieved text that the judge read. overrule: who said so in the
    judge's place and what the judge says (relevance.overrules), None for the judge's own.
    """

    label: str | None = None
    probabilities: tuple[float, ...] = ()
    expected_gain: float | None = None
    tier: str | None = None
    status: str = OK
    item_cut: bool = False
    explanation: Explanation | None = None
    cached: bool = False
    context: str | None = None
    overrule: Mapping[str, Any] | None = None

    @property
    def reason(self) -> str | None:
        """The explanation's text, None without one."""
        return self.explanation.text if self.explanation else None

    def as_dict(self, scale: RelevanceScale) -> dict[str, Any]:
        """For JSON and tables: probabilities by label name, the explanation's text and status beside the rest.

        overrule is there only where a person's verdict stands in the judge's place.
        """
        why = self.explanation
        return {
            "label": self.label,
            "tier": self.tier,
            "probabilities": dict(zip(scale.labels, self.probabilities, strict=True)) if self.probabilities else {},
            "expected_gain": self.expected_gain,
            "status": self.status,
            "item_cut": self.item_cut,
            "reason": why.text if why else None,
            "reason_status": why.status if why else None,
            "inconsistent": why.inconsistent if why else None,
            "cached": self.cached,
            "context": self.context,
            **({"overrule": dict(self.overrule)} if self.overrule else {}),
        }

    def steps_as_dicts(self) -> list[dict[str, str]]:
        """The steps of the explanation for JSON; none without one."""
        return [asdict(step) for step in self.explanation.steps] if self.explanation else []


def verdicts_of(
    probabilities: np.ndarray, status: Sequence[str], scale: RelevanceScale, beta_cum: float,
    labels: np.ndarray | None = None,
) -> list[Verdict]:  # fmt: skip
    """The verdict of each row (N, L) of calibrated probabilities, worst label first; a failure for NaN or a status.

    labels: (N,) positions of those chosen (relevance.label_choice); None = the most probable ones.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    failed = np.isnan(rows.sum(axis=1)).tolist()
    names = [NO_PROBABILITIES if bad and name == OK else name for bad, name in zip(failed, status, strict=True)]
    usable = np.nan_to_num(rows)
    chosen = chosen_labels(rows.reshape(-1, len(scale))) if labels is None else labels
    gains = scale.expected_gain(usable).tolist()
    tiers = cumpt(rows, scale, beta_cum).tolist() if len(rows) else []
    return [
        Verdict(scale.labels[label], tuple(row), gain, TIERS[tier]) if name == OK else Verdict(status=name)
        for label, row, gain, tier, name in zip(chosen.tolist(), usable.tolist(), gains, tiers, names, strict=True)
    ]


def with_tiers(verdicts: Sequence[Verdict], scale: RelevanceScale, beta_cum: float) -> list[Verdict]:
    """The verdicts with the tiers of that threshold; failed ones have none."""
    unknown = (math.nan,) * len(scale)
    rows = np.asarray([verdict.probabilities or unknown for verdict in verdicts])
    tiers = cumpt(rows, scale, beta_cum).tolist() if len(verdicts) else []
    each = zip(verdicts, tiers, strict=True)
    return [replace(verdict, tier=TIERS[tier] if verdict.probabilities else None) for verdict, tier in each]


def explanation_from_json(content: Mapping[str, Any]) -> Explanation:
    """What dataclasses.asdict made of an explanation, as an explanation again."""
    steps = tuple(ReasonStep(**step) for step in content["steps"])
    return Explanation(content["text"], steps, content["status"], content["inconsistent"])
