"""Which types and phrases a catalogue shares: the rules by which its items have entities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from goodrate.catalog.splits import evenly
from goodrate.relevance.entities import (
    BRAND,
    CATEGORY,
    DETAIL,
    KIND_TYPES,
    LONGEST,
    TITLE,
    EntityRules,
    attributes,
    runs,
    spelled,
)
from goodrate.relevance.pairs import TEXT, Item

ITEMS = 50_000  # that are looked at, evenly over the catalogue
SHARED = 5  # items that a value or a phrase must occur in
TYPES = 8  # of attributes, beside brand and detail
PHRASES = 50_000
TYPICAL = 1 / 3  # share of a type's values that is shared, at least; else it is free text
ASSOCIATION = 0.25  # normalised pointwise mutual information of a phrase's words, at least


def learned_rules(items: Sequence[Item], sources: str = "all", types: int = TYPES, shared: int = SHARED) -> EntityRules:
    """The rules of a catalogue: deterministic, from the items alone.

    A type counts with two or more values that `shared` items have in common, a third of all its values at least; the
    most shared come first. A phrase is two or three neighbouring words of titles with a document frequency of `shared`
    and an association of at least ASSOCIATION (npmi, Bouma 2009; of three words over both gaps).
    """
    sample = evenly(items, ITEMS)
    brand = (BRAND,) if any(item.get("brand") for item in sample) else ()
    named = shared_types(sample, shared)[:types] if sources != "spans" else []
    detail = (DETAIL,) if sources != "structured" else ()
    titles = (str(item.get(TEXT) or item.get("title") or "") for item in sample)
    phrases = shared_phrases(titles, shared) if sources != "structured" else frozenset()
    return EntityRules((*(brand if sources != "spans" else ()), *named, *detail), phrases, sources)


def shared_types(items: Iterable[Item], shared: int = SHARED) -> list[str]:
    """Types of attributes by how many items have a value that others have too, most first."""
    values: Counter[tuple[str, str]] = Counter()
    for item in items:
        values.update({(name, spelled(one)) for name, given in attributes(item).items() for one in given})
    common: dict[str, list[int]] = {}
    whole: Counter[str] = Counter()
    for (name, _), count in values.items():
        whole[name] += count
        if count >= shared and name not in (*KIND_TYPES, BRAND, CATEGORY, TITLE, DETAIL):
            common.setdefault(name, []).append(count)
    usable = {name: sum(counts) for name, counts in common.items() if len(counts) > 1}
    typed = [name for name, count in usable.items() if count >= TYPICAL * whole[name]]
    return sorted(typed, key=lambda name: (-usable[name], name))


def shared_phrases(texts: Iterable[str], shared: int = SHARED) -> frozenset[str]:
    """Neighbouring words that texts share; see learned_rules."""
    counts: Counter[str] = Counter()
    number = 0
    for text in texts:
        number += 1
        counts.update({gram for _, words in runs(text) for gram in _grams(words)})
    kept = [gram for gram, count in counts.items() if " " in gram and count >= shared]
    strong = [gram for gram in kept if _association(gram, counts, number) >= ASSOCIATION]
    return frozenset(sorted(strong, key=lambda gram: (-counts[gram], gram))[:PHRASES])


def _grams(words: Sequence[str]) -> Iterable[str]:
    return (" ".join(words[at : at + n]) for n in range(1, LONGEST + 1) for at in range(len(words) - n + 1))


def _association(gram: str, counts: Counter[str], number: int) -> float:
    words = gram.split()
    own = math.log(counts[gram] / number)
    if not own:
        return 1.0
    return (own - sum(math.log(counts[word] / number) for word in words)) / (-own * (len(words) - 1))


def sharing(found: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Of the entities of items: how many an item has, and distinct ones per item (low = a cache serves well)."""
    total = sum(len(one) for one in found)
    distinct = len({entity for one in found for entity in one})
    return {"entities per item": total / max(1, len(found)), "distinct per item": distinct / max(1, len(found))}
