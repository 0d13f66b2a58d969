"""Query-entity labels from judgements alone: what the best items of a query share and the catalogue does not.

Ours: EBRM (arXiv 2307.00370) says that its query-entity model is pre-trained on data generated from user logs, not how.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goodrate.relevance.entities import WANTS, Entity, EntityRules
from goodrate.relevance.entity_model import CONFLICT, NEUTRAL, SUPPORT
from goodrate.relevance.pairs import JudgedPair

EVIDENCE = 5  # judged items of the query that have the entity, at least
LIFT = 3.0  # how many times as frequent among the best items as in the catalogue, at least, to support
SHARE = 0.3  # of the best items, at least, to support


@dataclass(frozen=True)
class StatedPair:
    """A query, an entity, and the state that the judgements speak for. evidence: items that it rests on."""

    query: str
    entity: Entity
    state: int
    evidence: int


def stated_pairs(
    pairs: Sequence[JudgedPair], rules: EntityRules, catalog: Mapping[Entity, float], best: int
) -> list[StatedPair]:
    """Query-entity labels of judged pairs. catalog: the share of items that have an entity. best: the highest label.

    Support: lift P(e | best items of q) / P(e | catalogue) of LIFT and a share of SHARE. Conflict: no best item has the
    entity, another of its type supports, and most of its items have less than the label below the best. Else neutral.
    Pairs with less than EVIDENCE items are left out, and so are queries without a best item. A type that has a
    supporting entity is one that the query wants.
    """
    by_query: dict[str, list[JudgedPair]] = defaultdict(list)
    for pair in pairs:
        by_query[pair.query].append(pair)
    found = []
    for query, own in by_query.items():
        found += _of_query(query, own, rules, catalog, best)
    return found


def _of_query(
    query: str, pairs: Sequence[JudgedPair], rules: EntityRules, catalog: Mapping[Entity, float], best: int
) -> list[StatedPair]:
    count, top, low = Counter[Entity](), Counter[Entity](), Counter[Entity]()
    best_items = sum(pair.label == best for pair in pairs)
    if not best_items:
        return []
    for pair in pairs:
        entities = rules.of(pair.item)
        count.update(entities)
        top.update(entities if pair.label == best else ())
        low.update(entities if pair.label < best - (best > 1) else ())
    seen = {entity: n for entity, n in count.items() if n >= EVIDENCE}
    supporting = {entity for entity in seen if _supports(top[entity] / best_items, catalog.get(entity, 0.0))}
    types = {entity.type for entity in supporting}

    def state(entity: Entity) -> int:
        if entity in supporting:
            return SUPPORT
        against = not top[entity] and 2 * low[entity] > count[entity]
        return CONFLICT if against and entity.type in types else NEUTRAL

    told = [StatedPair(query, entity, state(entity), n) for entity, n in seen.items()]
    asked = [name for name in rules.types if any(entity.type == name for entity in seen)]
    wants = [
        StatedPair(query, Entity(WANTS, name), SUPPORT if name in types else NEUTRAL, best_items) for name in asked
    ]
    return [*told, *wants]


def _supports(share: float, in_catalog: float) -> bool:
    return share >= SHARE and share >= LIFT * in_catalog


def entity_shares(found: Sequence[Sequence[Entity]]) -> dict[Entity, float]:
    """Of the entities of a catalogue's items: the share of items that have each, an item more for each (add one)."""
    counts = Counter(entity for entities in found for entity in entities)
    return {entity: (count + 1) / (len(found) + 1) for entity, count in counts.items()}
