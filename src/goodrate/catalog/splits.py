"""Splits that do not leak: near-identical queries stay on one side."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

# A query that many others contain ("lamp") says nothing about which of them are alike; one that few contain does.
MAX_CONTAINING = 3
Row = TypeVar("Row")


def evenly(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` of the rows, taken evenly over the whole list, its ends included.

    >>> evenly("abcde", 3)
    ['a', 'c', 'e']
    """
    if len(rows) <= limit:
        return list(rows)
    step = (len(rows) - 1) / max(limit - 1, 1)
    return [rows[round(place * step)] for place in range(limit)]


def query_groups(queries: Sequence[str]) -> list[int]:
    """A group number for each query, numbered by first appearance. Two queries share a group when

    they have the same stems, ignoring order, numbers and single letters ("iphone 7", "iphone 8", "iPhone X"),
    or the same letters without spaces ("smart watch", "smartwatch"),
    or one contains the words of the other and at most 3 distinct queries do ("aa", "aa battery").
    Groups are closed under these relations.
    >>> query_groups(["iphone 7", "aa battery", "iPhone 8", "aa", "smart watch", "smartwatches", "desk"])
    [0, 1, 0, 1, 2, 2, 3]
    """
    stems_of = [stems(query) for query in queries]
    parent = list(range(len(queries)))
    for members in _alike(stems_of):
        for member in members[1:]:
            parent[_root(parent, member)] = _root(parent, members[0])
    numbers: dict[int, int] = {}
    return [numbers.setdefault(_root(parent, index), len(numbers)) for index in range(len(queries))]


def split_by_group(queries: Sequence[str], fractions: dict[str, float], seed: int) -> dict[str, set[str]]:
    """The distinct queries dealt into named parts so that no group is cut.

    fractions: part -> share, positive, summing to at most 1 (the rest is left out). Large groups are dealt first, each
    to the part that lacks most, so shares are met as closely as the groups allow. The same for every order of
    `queries`. Raises ValueError for shares that cannot be.
    """
    total = sum(fractions.values())
    if not fractions or min(fractions.values()) <= 0 or total > 1 + 1e-9:
        raise ValueError(f"fractions must be positive and sum to at most 1; got {fractions}")
    distinct = sorted(set(queries))
    targets = {name: share * len(distinct) for name, share in fractions.items()}
    rest = len(distinct) * (1 - total)
    lacking = {**targets, **({"": rest} if rest >= 0.5 else {})}
    parts: dict[str, set[str]] = {name: set() for name in lacking}
    for group in sorted(_groups(distinct), key=lambda members: (-len(members), _order(members[0], seed))):
        name = max(lacking, key=lambda part: lacking[part])
        parts[name].update(group)
        lacking[name] -= len(group)
    return {name: parts[name] for name in fractions}


def query_folds(queries: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """The fold, from 0, of each distinct query; no group is cut, and the folds are as equal as the groups allow.

    Raises ValueError for fewer than two folds, and when there are fewer groups than folds.
    """
    distinct = sorted(set(queries))
    groups = len(set(query_groups(distinct)))
    if not 2 <= folds <= groups:
        raise ValueError(f"{folds} folds of {groups} groups of queries: expected 2 folds or more, and a group for each")
    parts = split_by_group(distinct, {str(fold): 1 / folds for fold in range(folds)}, seed)
    return {query: int(fold) for fold, members in parts.items() for query in members}


def _groups(distinct: Sequence[str]) -> list[list[str]]:
    """The members of each group."""
    members: dict[int, list[str]] = defaultdict(list)
    for query, number in zip(distinct, query_groups(distinct), strict=True):
        members[number].append(query)
    return list(members.values())


def _order(query: str, seed: int) -> str:
    """A shuffle that depends on the seed and the text only."""
    return hashlib.sha256(f"{seed}\x00{query}".encode()).hexdigest()


def stems(query: str) -> tuple[str, ...]:
    """Lower-case words without plural endings; numbers and single letters are left out unless nothing else is there."""
    words = [_stem(word) for word in re.findall(r"[^\W_]+", query.lower())]
    telling = [word for word in words if len(word) > 1 and not word.isdigit()]
    return tuple(telling or words)


def _stem(word: str) -> str:
    """The singular, roughly: batteries, watches, speakers."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _alike(stems: Sequence[tuple[str, ...]]) -> Iterable[list[int]]:
    """Lists of query positions that belong together."""
    by_words: dict[frozenset[str], list[int]] = defaultdict(list)
    by_letters: dict[str, list[int]] = defaultdict(list)
    for index, words in enumerate(stems):
        by_words[frozenset(words)].append(index)
        by_letters["".join(words)].append(index)
    yield from by_words.values()
    yield from by_letters.values()
    holding: dict[str, set[frozenset[str]]] = defaultdict(set)
    for key in by_words:
        for word in key:
            holding[word].add(key)
    for key, members in by_words.items():
        containing = set.intersection(*(holding[word] for word in key)) - {key} if key else set()
        if len(containing) <= MAX_CONTAINING:
            yield from ([members[0], by_words[other][0]] for other in containing)


def _root(parent: list[int], index: int) -> int:
    """The representative of a set, shortening the path on the way."""
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index
