"""Knowledge: one chunk per query of known kind (helpful, irrelevant, misleading), and a corpus to retrieve from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goodrate.shop.queries import BRAND, PRICE, Query, Standard
from goodrate.shop.world import World

Meaning = tuple[int, int]  # attribute and value of the taxonomy

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
    demanded_value = t.values[standard.attribute][standard.value if value is None else value]
    return f"{standard.term} demands {t.attributes[standard.attribute]} {demanded_value}"


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


# ---- the corpus

TEXT_SHARES = (0.5, 0.2)  # right and wrong ones, of the standards and words; nothing is written about the others
HEARSAY = "they say "  # how a wrong text on a standard begins: nothing else could tell a judge that it is wrong


@dataclass(frozen=True)
class KnowledgeText:
    """One text of the corpus. subject: the word that it explains, "" for an advertisement. meaning: of that word.

    right: whether the text says so. A wrong text on a word contradicts the language; one on a standard is hearsay.
    """

    id: str
    text: str
    subject: str = ""
    meaning: Meaning | None = None
    right: bool = True


def make_corpus(
    world: World, standards: Sequence[Standard], shares: tuple[float, float] = TEXT_SHARES
) -> tuple[KnowledgeText, ...]:
    """At most one text for each standard and each word for a value, and an advertisement for each kind of product.

    shares: of the standards and words that a right text explains, and that a wrong one does.
    Words for kinds of product have no text: it would be found before that on the standard of a knowledge query.
    """
    right_share, wrong_share = shares
    rng = np.random.default_rng([world.seed, 29])
    t = world.taxonomy
    meanings: dict[str, Meaning] = {phrase: (a, v) for phrase, a, v in t.usages}
    for a, values in enumerate(t.value_surfaces):
        meanings |= {surface: (a, v) for v, surfaces in enumerate(values) for surface in surfaces}
    entries = [
        *((s.term, (s.attribute, s.value), True) for s in standards),
        *((w, m, False) for w, m in meanings.items()),
    ]
    texts = []
    for subject, meaning, is_standard in entries:
        draw, other = rng.random(), _elsewhere(world, meaning, rng) if is_standard else _misread(world, meaning, rng)
        if draw < right_share + wrong_share:
            right = draw < right_share
            statement = (
                f"{subject} {'demands' if is_standard else 'means'} {_named(world, meaning if right else other)}"
            )
            texts.append((HEARSAY + statement if is_standard and not right else statement, subject, meaning, right))
    ads = [(_advertisement(world, surface, rng), "", None, True) for s in t.category_surfaces for surface in s]
    return tuple(KnowledgeText(f"k{n:04d}", *text) for n, text in enumerate([*texts, *ads]))


def _named(world: World, meaning: Meaning) -> str:
    attribute, value = meaning
    return f"{world.taxonomy.attributes[attribute]} {world.taxonomy.values[attribute][value]}"


def _misread(world: World, meaning: Meaning, rng: np.random.Generator) -> Meaning:
    """Another value of the attribute."""
    attribute, value = meaning
    return attribute, _other_value(rng, len(world.taxonomy.values[attribute]), value)


def _elsewhere(world: World, meaning: Meaning, rng: np.random.Generator) -> Meaning:
    """A value of another attribute: the right one alone would tell which items say nothing of it (docs/shop.md)."""
    attribute = _other_value(rng, len(world.taxonomy.attributes), meaning[0])
    return attribute, int(rng.integers(0, len(world.taxonomy.values[attribute])))


def _advertisement(world: World, surface: str, rng: np.random.Generator) -> str:
    a = int(rng.integers(0, len(world.taxonomy.attributes)))
    value = _named(world, (a, int(rng.integers(0, len(world.taxonomy.values[a])))))
    return f"best deal only today : {surface} {value} shop now , new in , top rated , free returns"


def kind_of(query: Query, text: KnowledgeText) -> str:
    """What a text of the corpus is worth for a query, from the truth.

    helpful: it rightly explains a word that the query types and wants. misleading: it explains such a word wrongly.
    irrelevant: anything else.
    """
    typed = bool(text.subject) and f" {text.subject} " in f" {query.text} "
    if not typed or text.meaning not in {(c.attribute, c.value) for c in query.constraints}:
        return "irrelevant"
    return "helpful" if text.right else "misleading"


def use_of(query: Query, kind: str) -> str:
    """What a judge should say of its text (rationale.USES): partly when it explains one of several constraints."""
    if kind != "helpful":
        return "ignore"
    return "partly" if len(query.constraints) > 1 else "use"
