"""The embedded shop: a seeded world, its queries, judgements, behaviour and knowledge, with the truth of every pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from goodrate.relevance.rationale import Rationale
from goodrate.relevance.rulebook import RuleBook, load_rulebook
from goodrate.shop.behaviour import session_times, simulate_sessions, utility
from goodrate.shop.judged import choose_judged
from goodrate.shop.knowledge import TEXT_SHARES, Chunk, KnowledgeText, draw_chunk, make_corpus
from goodrate.shop.queries import FAMILIES, FAMILY_SHARES, Query, QueryWriter, Standard, make_standards
from goodrate.shop.truth import PairTruth, judge_truth, true_rationale
from goodrate.shop.world import World, item_records, make_world

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements

SPLITS = ("train", "dev", "test")
MANY_STANDARDS = 240
NO_SESSIONS = {
    **{name: np.zeros(0, dtype=np.int64) for name in ("query", "session", "item", "position", "time")},
    **{name: np.zeros(0, dtype=bool) for name in ("clicked", "bought")},
}


class ShopSettings(BaseModel):
    """Size and seed of a shop."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(default=0, ge=0, lt=1_000_000)
    """Evaluation seeds lie below a million; the base model learns from seeds above."""
    items: int = Field(default=5000, ge=200)
    queries: int = Field(default=2000, ge=30)
    judged: int = Field(default=40, ge=8)
    """Judged items per query."""
    sessions: int = Field(default=12, ge=0)
    """Sessions per training query."""
    appeal: float | None = Field(default=None, ge=0, le=2)
    """Spread of what makes shoppers click an item and stands nowhere in the catalogue; null or 0: nothing does."""
    dev_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.2, gt=0, lt=0.5)
    knowledge_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of knowledge queries, whose label hangs on a text outside of query, item and rules; the other families keep
    their proportions. Then there are 240 standards, and dev and test name those that no training query names. None: a
    tenth of the queries, 60 standards, named everywhere."""
    text_shares: tuple[float, float] | None = None
    """Shares of the standards and words that a right text of the corpus explains, and that a wrong one does; None: 0.5
    and 0.2. Nothing is written about the others."""

    @field_validator("text_shares")
    @classmethod
    def _is_shares(cls, shares: tuple[float, float] | None) -> tuple[float, float] | None:
        if shares is not None and not (min(shares) >= 0 and sum(shares) <= 1):
            raise ValueError(f"text_shares are two shares of a whole, right and wrong, not {shares}")
        return shares


@dataclass(frozen=True)
class Shop:
    """A world with Q queries. split (Q,) is an index into SPLITS; judged_items (Q, J) holds item positions."""

    settings: ShopSettings
    world: World
    book: RuleBook
    queries: tuple[Query, ...]
    split: np.ndarray
    judged_items: np.ndarray
    chunks: tuple[Chunk, ...]

    @cached_property
    def labels(self) -> np.ndarray:
        """The full truth: label position of every (query, item), int8 (Q, N)."""
        return np.stack([self.truth(q).label for q in range(len(self.queries))]).astype(np.int8)

    def truth(self, query: int, items: np.ndarray | None = None) -> PairTruth:
        """Step verdicts, rule and label of one query against some items, or all."""
        return judge_truth(self.world, self.book, self.queries[query], items)

    def utility(self, query: int) -> np.ndarray:
        """The latent utility (N,) of every item for a query: the chance of a click once it is looked at."""
        return utility(self.world, self.truth(query), self.settings.appeal or 0.0)

    def rationale(self, query: int, item: int) -> Rationale:
        """The true steps of one pair."""
        return true_rationale(self.world, self.book, self.queries[query], item)

    @cached_property
    def corpus(self) -> tuple[KnowledgeText, ...]:
        """The texts that a judge's context is retrieved from."""
        shares = self.settings.text_shares or TEXT_SHARES
        return make_corpus(self.world, standards_of(self.settings, self.world), shares)

    def queries_of(self, split: str) -> np.ndarray:
        """Positions of the queries of one split."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The catalogue rows, in item order."""
        return item_records(self.world)

    @cached_property
    def catalog(self) -> Catalog:
        """The catalogue as every other stage takes it."""
        import polars as pl

        from goodrate.catalog.items import Catalog

        return Catalog(pl.DataFrame(self.records))

    def query_id(self, query: int) -> str:
        """q0000 and so on; the same in every file."""
        return f"q{query:04d}"

    def query_frame(self) -> pl.DataFrame:
        """One row per query: query_id, query, family, split, tail, facts, context, context_kind."""
        import polars as pl

        return pl.DataFrame(
            {
                "query_id": [self.query_id(q) for q in range(len(self.queries))],
                "query": [q.text for q in self.queries],
                "family": [q.family for q in self.queries],
                "split": [SPLITS[s] for s in self.split],
                "tail": [q.tail for q in self.queries],
                "facts": [q.facts for q in self.queries],
                "context": [c.text for c in self.chunks],
                "context_kind": [c.kind for c in self.chunks],
            }
        )

    def judgement_frame(self) -> pl.DataFrame:
        """One row per judged pair: query_id, query, item_id, label (a name of the scale)."""
        import polars as pl

        count = self.judged_items.shape[1]
        rows = np.repeat(np.arange(len(self.queries)), count)
        items = self.judged_items.reshape(-1)
        names = np.asarray(self.book.scale.labels)
        return pl.DataFrame(
            {
                "query_id": [self.query_id(int(q)) for q in rows],
                "query": [self.queries[int(q)].text for q in rows],
                "item_id": [self.records[int(i)]["id"] for i in items],
                "label": names[self.labels[rows, items]],
            }
        )

    def judgements(self) -> Judgements:
        """The judged pairs as every other stage takes them."""
        from goodrate.catalog.judgements import Judgements

        return Judgements(self.judgement_frame(), self.book.scale)

    @cached_property
    def sessions(self) -> dict[str, np.ndarray]:
        """Behaviour on the training queries as flat columns: query, session, item, position, clicked, bought, time."""
        per_query = [dict(NO_SESSIONS)]
        for q in self.queries_of("train") if self.settings.sessions else ():
            rng = np.random.default_rng([self.settings.seed, 19, int(q)])
            count, appeal = self.settings.sessions, self.settings.appeal or 0.0
            part = simulate_sessions(self.world, self.truth(int(q)), rng, count, appeal)
            times = session_times(self.settings.seed, int(q), count)[part["session"]]
            per_query.append({"query": np.full(len(part["item"]), q), **part, "time": times})
        return {name: np.concatenate([p[name] for p in per_query]) for name in per_query[0]}

    def clicks(self) -> list[tuple[str, str, float]]:
        """(query text, item id, number of clicks) of every pair that was clicked; training queries alone have any."""
        clicked = self.sessions["clicked"]
        pairs = np.stack([self.sessions["query"][clicked], self.sessions["item"][clicked]], axis=1)
        unique, counts = np.unique(pairs, axis=0, return_counts=True)
        return [
            (self.queries[q].text, self.catalog.ids[i], float(count))
            for (q, i), count in zip(unique.tolist(), counts.tolist(), strict=True)
        ]


def _split_sizes(settings: ShopSettings) -> tuple[int, int, int]:
    dev, test = round(settings.queries * settings.dev_share), round(settings.queries * settings.test_share)
    return settings.queries - dev - test, dev, test


def standards_of(settings: ShopSettings, world: World) -> list[Standard]:
    """Every standard of a shop; with a knowledge_share the last quarter is for dev and test alone."""
    return make_standards(world) if settings.knowledge_share is None else make_standards(world, MANY_STANDARDS)


def _standards_by_split(settings: ShopSettings, world: World) -> list[list[Standard]]:
    """Those that the queries of each split may name."""
    every = standards_of(settings, world)
    if settings.knowledge_share is None:
        return [every] * len(SPLITS)
    held_out = len(every) * 3 // 4
    return [every[:held_out], every[held_out:], every[held_out:]]


def _family_shares(settings: ShopSettings) -> np.ndarray:
    shares = np.asarray(FAMILY_SHARES)
    if settings.knowledge_share is None:
        return shares
    knowledge = np.asarray([family == "knowledge" for family in FAMILIES])
    others = shares * (1 - settings.knowledge_share) / shares[~knowledge].sum()
    return np.where(knowledge, settings.knowledge_share, others)


def _meaning(query: Query) -> tuple[Any, ...]:
    """Queries that want the same form one group; a group lies in one split."""
    return (query.category, tuple(sorted((c.attribute, c.value, c.strength) for c in query.constraints)))


def _draw_queries(settings: ShopSettings, world: World) -> tuple[list[Query], np.ndarray]:
    """Training queries avoid the tail; dev and test queries may use it. No text and no meaning is in two splits.

    A small language runs out of head queries: after 40 refusals a family gives way to the next.
    """
    rng = np.random.default_rng([settings.seed, 17])
    home: dict[tuple[Any, ...], int] = {}
    texts: set[str] = set()
    queries, split = [], []
    standards, shares = _standards_by_split(settings, world), _family_shares(settings)
    for s, size in sorted(enumerate(_split_sizes(settings)), key=lambda pair: -pair[0]):
        writer = QueryWriter(world, rng, rare=s > 0, standards=standards[s])
        counts = np.ceil(shares * size).astype(int)
        families = rng.permutation(np.repeat(np.arange(len(FAMILIES)), counts))
        for family in families[:size]:
            query = _fresh(writer, int(family), texts, home, s)
            texts.add(query.text)
            home[_meaning(query)] = s
            queries.append(query)
            split.append(s)
    order = rng.permutation(len(queries))
    return [queries[i] for i in order], np.asarray(split)[order]


def _fresh(writer: QueryWriter, family: int, texts: set[str], home: dict[tuple[Any, ...], int], split: int) -> Query:
    for attempt in range(40 * len(FAMILIES)):
        query = writer.draw(FAMILIES[(family + attempt // 40) % len(FAMILIES)])
        if query.text not in texts and home.get(_meaning(query), split) == split:
            return query
    raise ValueError("the shop's language is too small for so many queries; ask for fewer queries")


def generate(settings: ShopSettings | None = None, book: RuleBook | None = None) -> Shop:
    """The shop of these settings. Same settings, same shop.

    >>> shop = generate(ShopSettings(items=400, queries=40))
    >>> shop.labels.shape, shop.judged_items.shape
    ((40, 400), (40, 40))
    """
    settings = settings or ShopSettings()
    book = book or load_rulebook()
    world = make_world(settings.seed, settings.items)
    queries, split = _draw_queries(settings, world)
    rng = np.random.default_rng([settings.seed, 23])
    judged_items = np.stack([choose_judged(judge_truth(world, book, q), rng, settings.judged) for q in queries])
    standards = standards_of(settings, world)
    chunks = tuple(draw_chunk(world, q, standards, rng) for q in queries)
    return Shop(settings, world, book, tuple(queries), split, judged_items, chunks)
