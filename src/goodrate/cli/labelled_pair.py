"""One judged pair as a judge is trained on it, with what is retrieved for its query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.relevance.rationale import Rationale


@dataclass(frozen=True)
class Context:
    """text: None without one. kind: helpful, irrelevant or misleading, "" unknown. use: what a rationale says of it."""

    text: str | None = None
    kind: str = ""
    use: str | None = None


NO_CONTEXT = Context()


@dataclass(frozen=True)
class LabelledPair:
    """One judged pair. item_text: as the judge reads it. label: position on the scale, 0 = worst.

    rationale: the steps, where they are known. weight: how much the example counts, less where the steps are silver.
    """

    query: str
    item_id: str
    item_text: str
    label: int
    facts: str = ""
    rationale: Rationale | None = None
    weight: float = 1.0
    context: Context = NO_CONTEXT
