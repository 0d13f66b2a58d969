"""An entity judge's verdict in words. It is exact: the degrees and factors are those that the label was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from goodrate.relevance.overrides import Override
from goodrate.relevance.soft_logic import KIND
from goodrate.relevance.verdicts import Explanation, ReasonStep

if TYPE_CHECKING:
    from goodrate.relevance.entity_judge import EntityJudge, Reading

SHOWN = 0.1  # degrees from which on an entity is named


def explanation(judge: EntityJudge, query: str, reading: Reading, row: int, label: int) -> Explanation:
    """The reason of one pair: what it is, what supports, what conflicts, what is wanted, and how that makes a label."""
    numbers = reading.numbers[row]
    entities = [judge.table.entities[number] for number in numbers[numbers >= 0].tolist()]
    overruled = judge.overrides.of(query, entities)
    support, conflict, group = (
        getattr(reading.evidence, name)[row, : len(entities)] for name in ("support", "conflict", "group")
    )
    texts = [entity.named + _said(overruled.get(at)) for at, entity in enumerate(entities)]
    steps = [
        _named("kind", "What it is", texts, np.where(group == KIND, support, 0.0)),
        _named("supports", "Supports the query", texts, np.where(group == KIND, 0.0, support)),
        _named("conflicts", "Conflicts with the query", texts, conflict),
        _wants(judge, reading, row),
        _factors(judge, reading, row, label),
    ]
    told = tuple(step for step in steps if step is not None)
    return Explanation("\n".join(step.line for step in told), told)


def _said(override: Override | None) -> str:
    return "" if override is None else f" (overruled{': ' + override.note if override.note else ''})"


def _named(name: str, title: str, texts: list[str], degrees: np.ndarray) -> ReasonStep | None:
    """The entities of which something holds to a degree worth naming, the strongest first; None without one."""
    order = np.argsort(-degrees, kind="stable")
    shown = [f"{texts[at]} {degrees[at]:.2f}" for at in order.tolist() if degrees[at] >= SHOWN]
    return ReasonStep(name, title, f"{name} {' ; '.join(shown)}", ", ".join(shown)) if shown else None


def _wants(judge: EntityJudge, reading: Reading, row: int) -> ReasonStep | None:
    """Which types the query constrains, and how far the item meets each."""
    demand, met = reading.evidence.demand[row], reading.parts.met[row]
    said = set(reading.evidence.group[row].tolist())
    shown = [
        f"{name} {demand[at]:.2f}, {'met to' if at + 1 in said else 'not stated, counts as'} {met[at]:.2f}"
        for at, name in enumerate(judge.rules.types)
        if demand[at] >= SHOWN
    ]
    return ReasonStep("wants", "Wanted", f"wants {' ; '.join(shown)}", "; ".join(shown)) if shown else None


def _factors(judge: EntityJudge, reading: Reading, row: int, label: int) -> ReasonStep:
    """The three degrees that the label follows from."""
    parts = reading.parts
    kind, clean, wanted = (float(one[row]) for one in (parts.kind, parts.clean, parts.wanted))
    line = f"factors kind {kind:.3f} ; no conflict {clean:.3f} ; all wanted {wanted:.3f}"
    text = (
        f"of the kind asked for {kind:.2f}, without conflict {clean:.2f}, all that is wanted {wanted:.2f}: "
        f"{judge.scale.labels[label]} by the {judge.card.tnorm} logic"
    )
    return ReasonStep("factors", "How they join", line, text)
