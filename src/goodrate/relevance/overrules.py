"""Overrules: a person's verdict of one query and item, which stands in the judge's place; the judge's own stays.

relevance.overrides are another thing: what an editor says of classes of entities, which changes a judge of entities.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from goodrate.relevance.verdicts import OK, Explanation, ReasonStep, Verdict, verdicts_of
from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class Overrule:
    """A person's verdict of a pair. label: on a judge's scale. until: the last day on which it holds, None for ever.

    made: when it was set, with its time zone.
    """

    id: int
    query: str
    item_id: str
    label: str
    by: str
    reason: str
    made: datetime.datetime
    until: datetime.date | None = None

    @property
    def said(self) -> str:
        """Who set it and for how long."""
        return f"set by {self.by}" + (f" until {self.until}" if self.until else "")

    def as_dict(self, judged: Verdict | None = None) -> dict[str, Any]:
        """For JSON. judged: the judge's own verdict, where it is known."""
        own = {"label": judged.label, "tier": judged.tier, "status": judged.status} if judged else None
        until = self.until.isoformat() if self.until else None
        return {
            "id": self.id, "query": self.query, "item_id": self.item_id, "label": self.label, "by": self.by,
            "reason": self.reason, "made": self.made.isoformat(timespec="seconds"), "until": until, "judge": own,
        }  # fmt: skip


Known = Mapping[str, Overrule]  # the overrules of one query by item id
Overruling = Callable[[str], Known]  # what people say of the items of a query


def overruled(
    verdicts: Sequence[Verdict | None], items: Sequence[str], known: Known, scale: RelevanceScale, beta_cum: float
) -> list[Verdict | None]:
    """The verdicts (N), a person's in place of the judge's where there is one on this scale.

    items: N ids, "" for an item without one. A person's verdict has all mass on its label. One on another scale, left
    from another judge, is no verdict here.
    """
    found = list(verdicts)
    for place, item in enumerate(items):
        one = known.get(item) if item else None
        if one is not None and one.label in scale:
            found[place] = _verdict(one, found[place], scale, beta_cum)
    return found


def overruled_rows(
    probabilities: np.ndarray, items: Sequence[str], known: Known, scale: RelevanceScale
) -> tuple[np.ndarray, int]:
    """Probabilities (N, L) of N items with people's verdicts, as `overruled`; and how many of these there are."""
    rows, count = probabilities, 0
    for place, item in enumerate(items):
        one = known.get(item)
        if one is not None and one.label in scale:
            rows = rows.copy() if rows is probabilities else rows
            rows[place], count = np.eye(len(scale))[scale.index(one.label)], count + 1
    return rows, count


def _verdict(one: Overrule, judged: Verdict | None, scale: RelevanceScale, beta_cum: float) -> Verdict:
    """The person's verdict. It counts as judged now where the judge was asked now."""
    row = np.eye(len(scale))[[scale.index(one.label)]]
    verdict = verdicts_of(row, [OK], scale, beta_cum)[0]
    said = one.said[0].upper() + one.said[1:]
    step = ReasonStep("overrule", said, one.reason, one.reason or "no reason was given")
    return replace(
        verdict, explanation=Explanation(f"{said}: {step.text}", (step,)), cached=judged.cached if judged else True,
        item_cut=judged.item_cut if judged else False, context=judged.context if judged else None,
        overrule=one.as_dict(judged),
    )  # fmt: skip
