"""Documents that teach the base model the shop's language. Never a judgement: no label and no deciding rule in them.

Kinds: pair documents (a query, a listing, and the steps wants, found, category and checks in any order, so that each
is also learned without the help of the others), status documents (the worst verdict of every kind of want, at once),
cards (look-ups in a listing), glossaries, comparisons and category relations. They come from world seeds that no
evaluation uses (BASE_SEEDS).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from goodrate.relevance.listing import listing
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import step_lines
from goodrate.relevance.rulebook import RuleBook, load_rulebook
from goodrate.shop.knowledge import standard_text
from goodrate.shop.queries import FAMILIES, FAMILY_SHARES, Query, QueryWriter
from goodrate.shop.taxonomy import RELATIONS, SAME
from goodrate.shop.truth import check_constraint, judge_truth, rule_columns, true_rationale
from goodrate.shop.world import World, item_record, make_world

BASE_SEEDS = range(1_000_000, 1_001_000)  # disjoint from every evaluation seed; a test keeps it so
GATE_SEEDS = range(1_001_000, 1_001_010)  # held-out names for the gates
SKILL_STEPS = ("wants", "found", "category", "checks")  # the verdict step would be a judgement
KIND_SHARES = {"pair": 0.3, "status": 0.47, "card": 0.07, "glossary": 0.05, "comparison": 0.06, "relation": 0.05}


@dataclass(frozen=True)
class Document:
    """Texts that are tokenised apart and joined: what is read, and what is to be said (skill: what the gates test)."""

    read: tuple[str, ...]
    say: str
    skill: str


def sample_item(world: World, query: Query, rng: np.random.Generator) -> int:
    """An item that teaches: half of the time of the wanted kind, and in a random state of agreement with the wants."""
    relation = int(rng.choice(4, p=(0.5, 0.2, 0.1, 0.2)))
    row = world.taxonomy.relation[query.category]
    kinds = np.flatnonzero(row == relation) if (row == relation).any() else np.flatnonzero(row == SAME)
    pool = np.flatnonzero(np.isin(world.category, kinds))
    pool = rng.choice(pool, min(48, len(pool)), replace=False)
    if not query.constraints:
        return int(pool[0])
    checks = np.stack([check_constraint(world, c, pool) for c in query.constraints], axis=1)
    wished = rng.choice(3, size=checks.shape[1], p=(0.5, 0.2, 0.3))
    return int(pool[np.argmax((checks == wished).sum(axis=1))])


class Curriculum:
    """Draws documents of one world. Same seed, same documents."""

    def __init__(self, seed: int, num_items: int = 1200, book: RuleBook | None = None) -> None:
        self.world = make_world(seed, num_items, num_brands=24)
        self.rng = np.random.default_rng([seed, 13])
        self.writer = QueryWriter(self.world, self.rng, rare=True)
        self.book = book or load_rulebook()

    def draw(self) -> Document:
        """One document of a kind drawn by KIND_SHARES."""
        kind = str(self.rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
        return getattr(self, kind)()

    def pair(self, first: str | None = None, without: str = "") -> Document:
        """Query and listing, then the steps in random order.

        first: one step only, directly after the prompt. without: a family to leave out; another stands in for it.
        """
        query, item, read = self._pair(without)
        lines = step_lines(true_rationale(self.world, self.book, query, item))
        steps = [first] if first else [str(s) for s in self.rng.permutation(SKILL_STEPS)]
        return Document(read, "".join(lines[s] + "\n" for s in steps), steps[0])

    def status(self) -> Document:
        """Query and listing, then the worst verdict of every kind of want, at once and in random order.

        The columns of the rule book, not its decision: what a label-first judge must see before it has written a step.
        """
        query, item, read = self._pair()
        truth = judge_truth(self.world, self.book, query, np.asarray([item]))
        codes = rule_columns(query, truth.relation, truth.checks)
        names = [str(name) for name in self.rng.permutation(list(self.book.columns))]
        words = [f"{name} {self.book.columns[name][int(codes[name][0])]}" for name in names]
        return Document(read, f"status {' ; '.join(words)}\n", "status")

    def _pair(self, without: str = "") -> tuple[Query, int, tuple[str, str]]:
        """A query, an item that teaches, and the prompt; the meaning of an invented standard stands in its context."""
        family = FAMILIES[int(self.rng.choice(len(FAMILIES), p=FAMILY_SHARES))]
        query = self.writer.draw("attribute" if family == without else family)
        item = sample_item(self.world, query, self.rng)
        context = ""
        if query.term:
            context = standard_text(self.world, next(s for s in self.writer.standards if s.term == query.term))
        text = listing(item_record(self.world, item))
        return query, item, judge_prompt(query.text, text, query.facts, context, template="nano")

    def card(self) -> Document:
        """A listing, then the values of some attributes, told or not, in a random order."""
        w, t = self.world, self.world.taxonomy
        item = int(self.rng.integers(0, len(w)))
        asked = self.rng.permutation(len(t.attributes))[: int(self.rng.integers(3, 9))]
        values = [f"{t.attributes[a]} {t.values[a][w.values[item, a]] if w.stated[item, a] else 'none'}" for a in asked]
        names = " , ".join(t.attributes[a] for a in asked)
        text = f"item: {listing(item_record(w, item))}\nlook: {names}\n"
        return Document((text,), f"found {t.categories[w.category[item]]} ; {' ; '.join(values)}\n", "found")

    def glossary(self) -> Document:
        """Words and what they mean."""
        return Document(("glossary\n",), "".join(self._meaning() for _ in range(8)), "glossary")

    def _meaning(self) -> str:
        t, rng = self.world.taxonomy, self.rng
        choice = rng.random()
        if choice < 0.2:
            phrase, a, v = t.usages[int(rng.integers(0, len(t.usages)))]
            return f"{phrase} : {t.attributes[a]} {t.values[a][v]}\n"
        if choice < 0.4:
            c = int(rng.integers(0, len(t.categories)))
            return f"{_any(rng, t.category_surfaces[c])} : {t.categories[c]}\n"
        a = int(rng.integers(0, len(t.attributes)))
        v = int(rng.integers(0, len(t.values[a])))
        return f"{_any(rng, t.value_surfaces[a][v])} : {t.attributes[a]} {t.values[a][v]}\n"

    def comparison(self) -> Document:
        """Same or different values of one attribute, and prices under or over a limit."""
        return Document(("compare\n",), "".join(self._compared() for _ in range(8)), "comparison")

    def _compared(self) -> str:
        t, rng = self.world.taxonomy, self.rng
        if rng.random() < 0.35:
            limit, price = (int(x) for x in rng.integers(10, 100, 2))
            return f"price {limit} below {price} {'match' if price < limit else 'conflict'}\n"
        a = int(rng.integers(0, len(t.attributes)))
        v, u = (int(x) for x in rng.integers(0, len(t.values[a]), 2))
        u = v if rng.random() < 0.4 else u
        left, right = _any(rng, t.value_surfaces[a][v]), _any(rng, t.value_surfaces[a][u])
        return f"{t.attributes[a]} {left} must {right} {'match' if u == v else 'conflict'}\n"

    def relation(self) -> Document:
        """How categories relate, by any of their names."""
        t, rng = self.world.taxonomy, self.rng
        lines = []
        for _ in range(8):
            category = int(rng.integers(0, len(t.categories)))
            kinds = np.flatnonzero(t.relation[category] == rng.integers(0, 4))
            other = int(rng.choice(kinds)) if len(kinds) else category
            left, right = _any(rng, t.category_surfaces[category]), _any(rng, t.category_surfaces[other])
            lines.append(f"category {left} : {right} {RELATIONS[t.relation[category, other]]}\n")
        return Document(("relate\n",), "".join(lines), "category")


def _any(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(0, len(options)))]


def stream(seeds: range = BASE_SEEDS, per_world: int = 400, start: int = 0) -> Iterator[Document]:
    """Endless documents, `per_world` from each seed in turn. start: worlds to skip, to resume a stream."""
    position = start
    while True:
        curriculum = Curriculum(seeds[position % len(seeds)])
        for _ in range(per_world):
            yield curriculum.draw()
        position += 1
