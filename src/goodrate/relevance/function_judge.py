"""A judge made of a function: how a shop plugs in a model of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale, get_scale

Probabilities = Callable[[str, Sequence[Item]], Any]  # query, items -> (N, L), worst label first


class FunctionJudge:
    """Label probabilities by a function of a query and its items; NaN rows where it cannot say.

    version: part of the identity; change it when the function gives other numbers, or stored verdicts will stay.
    explain: text of one pair and the label that was given, None = no reasons.
    """

    def __init__(
        self,
        probabilities: Probabilities,
        scale: RelevanceScale | str,
        version: str,
        explain: Callable[[str, Item, str], str] | None = None,
    ) -> None:
        self.scale = get_scale(scale)
        self._probabilities, self._version, self._explain = probabilities, version, explain

    @property
    def identity(self) -> Mapping[str, Any]:
        """The version."""
        return {"function": self._version}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The whole row: whatever changes in it may change the verdict."""
        return [json.dumps(dict(item), sort_keys=True, ensure_ascii=False, default=str) for item in items]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """The function's probabilities, called once for each distinct query.

        Raises ValueError when they are not (N, L) or rows do not sum to 1.
        """
        rows = np.full((len(pairs), len(self.scale)), np.nan)
        places: dict[str, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(pair.query, []).append(place)
        for query, mine in places.items():
            rows[mine] = self._checked(query, [pairs[place].item for place in mine])
        return Assessment.of(rows)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """What the function for reasons says, as one step; an empty text without one."""
        if self._explain is None:
            return [Explanation("", status="no_reasons") for _ in pairs]
        named = [self.scale.labels[label] for label in labels]
        texts = [self._explain(p.query, p.item, name) for p, name in zip(pairs, named, strict=True)]
        return [Explanation(text, (ReasonStep("reason", "Reason", text, text),)) for text in texts]

    def _checked(self, query: str, items: Sequence[Item]) -> np.ndarray:
        rows = np.asarray(self._probabilities(query, items), dtype=np.float64)
        shape = (len(items), len(self.scale))
        if rows.shape != shape:
            raise ValueError(f"the judge's function gave shape {rows.shape} for {query!r}; expected {shape}")
        complete = rows[~np.isnan(rows).any(axis=1)]
        if len(complete) and (complete.min() < 0 or np.abs(complete.sum(axis=1) - 1).max() > 1e-3):
            raise ValueError(f"the judge's function gave rows for {query!r} that are no probabilities (sum to 1)")
        return rows
