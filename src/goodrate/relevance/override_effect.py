"""What an editor's overrides do to judged pairs: how many come nearer to their label, and how many go away from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from goodrate.catalog.normal_form import normal_text
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.overrides import VERDICTS, Override, Overrides
from goodrate.relevance.pairs import JudgedPair, gold_labels

LEAST = 1e-6  # difference of expected gains from which on a pair has changed
Assess = Callable[[EntityJudge, Sequence[JudgedPair]], np.ndarray]


@dataclass(frozen=True)
class Effect:
    """What overrides do to judged pairs, against the judge as it is saved.

    pairs: that were judged. changed: with another expected gain; better, worse: whose gain is nearer to or further from
    that of the gold label. fixed, broken: whose label was wrong and is right, or the reverse. overrides: how many.
    """

    pairs: int
    changed: int
    better: int
    worse: int
    fixed: int
    broken: int
    overrides: int

    def lines(self) -> list[str]:
        """In words."""
        return [
            f"{self.changed:,} of {self.pairs:,} judged pairs change",
            f"nearer to their label: {self.better:,}; further from it: {self.worse:,}",
            f"labels that become right: {self.fixed:,}; that become wrong: {self.broken:,}",
        ]


def assessed(judge: EntityJudge, pairs: Sequence[JudgedPair]) -> np.ndarray:
    """Probabilities (N, L) of pairs, all at once."""
    return judge.assess(pairs).probabilities


def effect(before: EntityJudge, after: EntityJudge, pairs: Sequence[JudgedPair], assess: Assess = assessed) -> Effect:
    """What changes between two judges that differ in their overrides; pairs that either fails on are left out.

    The model is asked about those pairs alone of which the overrides say another thing. assess: how it is asked.
    """
    meant = touched(before, after, pairs)
    own = [pairs[at] for at in meant]
    rows = [assess(one, own) if own else np.zeros((0, len(before.scale))) for one in (before, after)]
    known = ~np.isnan(rows[0]).any(axis=1) & ~np.isnan(rows[1]).any(axis=1)
    gold = gold_labels(own)[known] if own else np.zeros(0, np.int64)
    gains = [before.scale.expected_gain(row[known]) for row in rows]
    right = [chosen_labels(row[known]) == gold for row in rows]
    target = before.scale.gain_array[gold] / before.scale.gains[-1]
    errors = [np.abs(gain - target) for gain in gains]
    changed = np.abs(gains[0] - gains[1]) > LEAST
    return Effect(
        pairs=len(pairs) - int((~known).sum()), changed=int(changed.sum()),
        better=int((changed & (errors[1] < errors[0])).sum()), worse=int((changed & (errors[1] > errors[0])).sum()),
        fixed=int((~right[0] & right[1]).sum()), broken=int((right[0] & ~right[1]).sum()),
        overrides=len(after.overrides.override),
    )  # fmt: skip


def meant_by(query: str, *overrides: Overrides) -> bool:
    """Whether any of the overrides speaks of a query (in any form)."""
    normal = normal_text(query)
    return any(one.targets(normal) for each in overrides for one in each.override)


def touched(before: EntityJudge, after: EntityJudge, pairs: Sequence[JudgedPair]) -> list[int]:
    """The places of those pairs that have an entity of which both say another thing, or one of them nothing."""
    places: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        places.setdefault(pair.query, []).append(at)
    found: list[int] = []
    for query, own in places.items():
        if meant_by(query, before.overrides, after.overrides):
            changed = _changed(before, after, query, np.unique(_entities(before, pairs, own)))
            found += [at for at in own if not changed.isdisjoint(before.table.row(pairs[at].item).tolist())]
    return sorted(found)


def _entities(judge: EntityJudge, pairs: Sequence[JudgedPair], places: Sequence[int]) -> np.ndarray:
    """Numbers of the entities of the items at these places, and of what a query can want."""
    return np.concatenate([judge.table.demand, *(judge.table.row(pairs[at].item) for at in places)])


def _changed(before: EntityJudge, after: EntityJudge, query: str, numbers: np.ndarray) -> set[int]:
    """The numbers of entities of which the two say another thing under a query; all where that is what is wanted."""
    entities = [before.table.entities[number] for number in numbers.tolist()]
    told = [_verdicts(judge.overrides.of(query, entities)) for judge in (before, after)]
    differ = {int(numbers[at]) for at in range(len(entities)) if told[0].get(at) != told[1].get(at)}
    return set(numbers.tolist()) if differ & set(before.table.demand.tolist()) else differ


def _verdicts(found: dict[int, Override]) -> dict[int, tuple[float, float]]:
    return {at: VERDICTS[one.verdict] for at, one in found.items()}
