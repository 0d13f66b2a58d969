"""Which labelled pairs are shown to a language model that labels, and which are then no test of it."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.catalog.splits import query_groups
from goodrate.relevance.pairs import JudgedPair, Pair


def chosen_examples(pairs: Sequence[Pair], people: Sequence[int | None], count: int, labels: int) -> list[JudgedPair]:
    """At most `count` pairs that people labelled, in turn of each label from the worst, of ever other queries first.

    people: (N,) label positions, None where nobody labelled.
    """
    waiting = {label: [row for row, own in enumerate(people) if own == label] for label in range(labels)}
    chosen: list[int] = []
    while len(chosen) < count and any(waiting.values()):
        for label in range(labels):
            if waiting[label] and len(chosen) < count:
                used = {pairs[row].query for row in chosen}
                row = next((row for row in waiting[label] if pairs[row].query not in used), waiting[label][0])
                waiting[label].remove(row)
                chosen.append(row)
    return [JudgedPair(pairs[r].query, pairs[r].item, pairs[r].facts, label=people[r] or 0) for r in chosen]


def unseen(pairs: Sequence[Pair], examples: Sequence[JudgedPair]) -> list[bool]:
    """Whether each pair's query is unlike those of all examples: an answer to it can be held against people's label."""
    shown = list(dict.fromkeys(pair.query for pair in examples))
    queries = list(dict.fromkeys([*shown, *(pair.query for pair in pairs)]))
    group = dict(zip(queries, query_groups(queries), strict=True))
    closed = {group[query] for query in shown}
    return [group[pair.query] not in closed for pair in pairs]
