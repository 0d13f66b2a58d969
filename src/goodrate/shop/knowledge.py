"""Knowledge chunks: one retrieved text per query, of known kind (helpful, irrelevant, misleading)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goodrate.shop.queries import BRAND, PRICE, Query, Standard
from goodrate.shop.world import World

KINDS = ("helpful", "irrelevant", "misleading")
KIND_SHARES = (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Chunk:
    """One text and what it is worth for its query."""

    text: str
    kind: str


def standard_text(world: World, standard: Standard, value: int | None = None) -> str:
    """What a standard demands; another value makes the text misleading."""
    t = world.taxonomy
    wanted = t.values[standard.attribute][standard.value if value is None else value]
    return f"{standard.term} demands {t.attributes[standard.attribute]} {wanted}"


def _other_value(rng: np.random.Generator, count: int, value: int) -> int:
    return int((value + rng.integers(1, count)) % count)


def _typed(query: Query, phrases: tuple[str, ...]) -> str | None:
    """The longest of the phrases that the query's text holds as whole words."""
    held = [phrase for phrase in phrases if f" {phrase} " in f" {query.text} "]
    return max(held, key=len, default=None)


def _glossary_text(world: World, query: Query, rng: np.random.Generator, wrong: bool) -> str:
    """What a word of the query means: of its first typed constraint or, where none is typed, of its kind of product.

    Only words that the query holds are explained: another word would help nobody, and rare words stay out of training.
    An alternative query types no word of its constraints, and a typing error hides one; then the canonical name stands.
    """
    t = world.taxonomy
    for c in query.constraints:
        if c.attribute in (PRICE, BRAND):
            continue
        needs = tuple(phrase for phrase, a, v in t.usages if (a, v) == (c.attribute, c.value))
        word = _typed(query, (*t.value_surfaces[c.attribute][c.value], *needs))
        if word:
            count = len(t.values[c.attribute])
            value = _other_value(rng, count, c.value) if wrong else c.value
            return f"{word} means {t.attributes[c.attribute]} {t.values[c.attribute][value]}"
    surfaces = t.category_surfaces[query.category]
    category = _other_value(rng, len(t.categories), query.category) if wrong else query.category
    return f"{_typed(query, surfaces) or surfaces[0]} means {t.categories[category]}"


def draw_chunk(world: World, query: Query, standards: list[Standard], rng: np.random.Generator) -> Chunk:
    """One chunk for a query, its kind drawn by KIND_SHARES.

    helpful: tells what the query's invented standard demands or what its word means. misleading: the same with a wrong
    value. irrelevant: a standard that the query does not name.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=KIND_SHARES))]
    if kind == "irrelevant":
        others = [s for s in standards if s.term != query.term]
        return Chunk(standard_text(world, others[int(rng.integers(0, len(others)))]), kind)
    by_term = {s.term: s for s in standards}
    if query.term:
        standard = by_term[query.term]
        count = len(world.taxonomy.values[standard.attribute])
        value = _other_value(rng, count, standard.value) if kind == "misleading" else None
        return Chunk(standard_text(world, standard, value), kind)
    return Chunk(_glossary_text(world, query, rng, wrong=kind == "misleading"), kind)
