"""The order of one search's results: ranking rules, groups of variants, and which of them are on a page."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from goodrate.ranking.results import Result
from goodrate.ranking.rule_file import Boost, Bury, RankingRules
from goodrate.ranking.variants import GroupOf, grouped, one_result

Matching = Callable[[Sequence[str], str], set[str]]  # (ids, filter) -> those of the ids that the filter lets through


class Ordering:
    """Results in their final order, of which more can come: what comes later stands behind what is there.

    Rules act in this order, those of a kind in that of their file: what is buried "out" goes; boosts move the results
    of the first `add`, each from where it stands; what is buried to the "end" goes behind everything; pins take their
    places. A boost lifts nothing that the judge calls Bad or that has what the query excludes. Then results of a group
    become one, at the place of the first; a pinned item keeps its place and takes its group along.
    """

    def __init__(self, rules: RankingRules, matching: Matching, group: GroupOf | None = None) -> None:
        """rules: those that apply. group: None for no grouping."""
        self._rules, self._matching, self._group = rules, matching, group
        self._pins = _pins(rules)
        self._pinned: dict[str, Result] = {}
        self._kept: list[Result] = []
        self._last: list[Result] = []
        self._groups: dict[str, Hashable] = {}

    def missing_pins(self, results: Sequence[Result]) -> list[str]:
        """Ids that are pinned and not among the first results."""
        there = {result.item["id"] for result in results}
        return [item for item in self._pins if item not in there]

    def start(self, results: Sequence[Result], fetched: Sequence[Result] = ()) -> None:
        """The first results, in order of relevance. fetched: pinned items that are not among them."""
        named = self._named(results, self._rules.boost)
        self._pinned = {result.item["id"]: result for result in (*fetched, *named) if result.item["id"] in self._pins}
        for boost in self._rules.boost:
            named = _boosted(named, boost)
        self._take(named)

    def add(self, results: Sequence[Result]) -> None:
        """More results, in order of relevance; boosts do not reach so far."""
        self._take(self._named(results, ()))

    def page(self, offset: int, k: int, complete: bool) -> tuple[list[Result], bool]:
        """k results from `offset` on, and whether others follow. complete: there are no more results to add."""
        results = self._in_order(complete)
        numbered = [replace(result, rank=place) for place, result in enumerate(results[: offset + k], start=1)]
        return numbered[offset:], len(results) > offset + k

    def has(self, count: int) -> bool:
        """Whether so many results stand in their final places."""
        return len(self._in_order(complete=False)) >= count

    def _named(self, results: Sequence[Result], boosts: Sequence[Boost]) -> list[Result]:
        """The results with the names of the rules for them."""
        rules: list[Boost | Bury] = [*boosts, *self._rules.bury]
        ids = [result.item["id"] for result in results]
        items = [self._of_rule(rule, ids) for rule in rules]
        return [
            replace(
                result,
                rules=tuple(
                    rule.name
                    for rule, own in zip(rules, items, strict=True)
                    if result.item["id"] in own and not (isinstance(rule, Boost) and rule.lifts and _disliked(result))
                ),
            )
            for result in results
        ]

    def _of_rule(self, rule: Boost | Bury, ids: Sequence[str]) -> set[str]:
        """The items, of these, that a rule is for."""
        return set(rule.ids) if rule.ids is not None else self._matching(ids, str(rule.where))

    def _take(self, results: Sequence[Result]) -> None:
        """Put results behind those that are there."""
        out, end = ({rule.name for rule in self._rules.bury if rule.to == to} for to in ("out", "end"))
        for result in results:
            if out.isdisjoint(result.rules) and result.item["id"] not in self._pins:
                (self._kept if end.isdisjoint(result.rules) else self._last).append(result)

    def _in_order(self, complete: bool) -> list[Result]:
        """All results that stand in their final places."""
        rest = [*self._kept, *(self._last if complete else ())]
        pinned = [
            replace(self._pinned[item], rules=(*names, *self._pinned[item].rules))
            for item, (_, names) in self._pins.items()
            if item in self._pinned
        ]
        if self._group is None:
            return _placed([(self._place(result), result) for result in pinned], rest, complete)
        groups = grouped([*pinned, *rest], self._group_of)
        heads = [(self._place(g[0]), one_result(g)) for g in groups if g[0].item["id"] in self._pinned]
        others = [one_result(g) for g in groups if g[0].item["id"] not in self._pinned]
        return _placed(heads, others, complete)

    def _place(self, result: Result) -> int:
        return self._pins[result.item["id"]][0]

    def _group_of(self, item: Mapping[str, Any]) -> Hashable:
        """The group of an item, found once."""
        assert self._group is not None
        if item["id"] not in self._groups:
            self._groups[item["id"]] = self._group(item)
        return self._groups[item["id"]]


def _pins(rules: RankingRules) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Item -> its place and the rules that name it, by place. The first rule decides; a taken place is the next."""
    places: dict[str, int] = {}
    for rule in rules.pin:
        for place, item in rule.at():
            if item not in places:
                taken = set(places.values())
                places[item] = next(free for free in itertools.count(place) if free not in taken)
    names = {item: tuple(rule.name for rule in rules.pin if item in rule.ids) for item in places}
    return {item: (place, names[item]) for item, place in sorted(places.items(), key=lambda pair: pair[1])}


def _boosted(results: list[Result], boost: Boost) -> list[Result]:
    """The results after a boost."""
    places = [
        boost.moved(place) if boost.name in result.rules else float(place)
        for place, result in enumerate(results, start=1)
    ]
    return [results[position] for position in sorted(range(len(results)), key=places.__getitem__)]


def _disliked(result: Result) -> bool:
    """Whether the judge calls it Bad, or it has what the query excludes."""
    return result.excluded or (result.verdict is not None and result.verdict.tier == "Bad")


def _placed(pinned: Sequence[tuple[int, Result]], others: Sequence[Result], complete: bool) -> list[Result]:
    """Pinned results at their places among the others, as far as places are known; complete: pins that are left follow.

    pinned: (place, result), by place.
    """
    results: list[Result] = []
    waiting, rest = deque(pinned), deque(others)
    while waiting or rest:
        if waiting and waiting[0][0] == len(results) + 1:
            results.append(waiting.popleft()[1])
        elif rest:
            results.append(rest.popleft())
        elif complete:
            results.extend(result for _, result in waiting)
            waiting.clear()
        else:
            break
    return results
