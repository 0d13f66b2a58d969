"""Pairs that nobody labelled, for a cross-encoder: items of the catalogue taken for wrong, and a cosine's own grades.

Unjudged items near a query are often right: that is why they weigh little, and why the nearest are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.learning.item_matrix import top_k
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.pairs import Item, Pair

POOL = 8  # silver items that a query has to draw from, for each that an update shows
WORDS = 4  # of a title that stand for a query, at most
NEAR = 10  # ranks of an encoder's neighbours that stand for good


class SilverSettings(BaseModel):
    """Items of the catalogue that nobody judged, as examples of the lowest label."""

    model_config = ConfigDict(extra="forbid")
    random: int = Field(default=1, ge=0, description="drawn from all items, for each query of an update")
    hard: int = Field(default=1, ge=0, description="drawn from those near the query by the encoder")
    weight: float = Field(default=0.3, gt=0, le=1, description="of such a pair against one that people labelled")
    skip: int = Field(default=20, ge=0, description="nearest items passed over: unjudged ones there are often right")
    depth: int = Field(default=100, gt=0, description="nearest items that hard ones are drawn from, behind those")

    @model_validator(mode="after")
    def _some(self) -> SilverSettings:
        if not self.random + self.hard:
            raise ValueError("silver: random and hard are both 0; give one, or leave silver out")
        return self


class PretrainSettings(BaseModel):
    """Queries whose items an encoder's cosine grades, learned before the labels."""

    model_config = ConfigDict(extra="forbid")
    queries: int = Field(default=400, gt=0, description="words out of titles, beside the training queries")
    near: int = Field(default=3, ge=0, description=f"items of a query, of its {NEAR} nearest")
    far: int = Field(default=3, ge=0, description="of its nearest behind those")
    random: int = Field(default=2, ge=0, description="of all items")
    depth: int = Field(default=200, gt=NEAR, description="nearest items that far ones are drawn from")
    epochs: int = Field(default=1, gt=0, description="passes over these queries")


@dataclass(frozen=True)
class Neighbourhood:
    """Items that silver pairs are made of, and the cosine that tells which are near a query."""

    items: Sequence[Item]
    cosine: EncoderJudge

    @classmethod
    def drawn(cls, items: Sequence[Item], cosine: EncoderJudge, most: int, seed: int) -> Neighbourhood:
        """Of so many of the items at most."""
        if len(items) > most:
            places = np.sort(np.random.default_rng(seed).permutation(len(items))[:most])
            items = [items[place] for place in places.tolist()]
        return cls(items, cosine)

    def nearest(self, queries: Sequence[str], depth: int) -> np.ndarray:
        """Places (Q, depth) of the items nearest to each query, best first; fewer where there are fewer items."""
        return top_k(self.cosine.query_vectors(queries), self.cosine.item_vectors(self.items), depth)


def silver_items(
    judged: Mapping[str, Collection[str]], hood: Neighbourhood, settings: SilverSettings, seed: int
) -> dict[str, list[Item]]:
    """Of each query items that nobody judged for it, hard and random ones in the shares of the settings.

    judged: item ids by query.
    """
    near = hood.nearest(list(judged), settings.skip + settings.depth)[:, settings.skip :] if settings.hard else None
    ids = np.asarray([str(item["id"]) for item in hood.items])
    found = {}
    for row, (query, known) in enumerate(judged.items()):
        rng = np.random.default_rng([seed, row])
        open_ = ~np.isin(ids, list(known))
        hard = near[row][open_[near[row]]] if near is not None else np.zeros(0, dtype=np.int64)
        wanted = ((hard, settings.hard), (np.flatnonzero(open_), settings.random))
        places = [place for some, count in wanted for place in rng.permutation(some)[: POOL * count].tolist()]
        found[query] = [hood.items[place] for place in dict.fromkeys(places)]
    return found


def title_words(items: Sequence[Item], count: int, seed: int) -> list[str]:
    """Queries out of titles: 1 to WORDS words in a row, of items drawn at random; distinct, at most so many."""
    rng = np.random.default_rng(seed)
    queries: dict[str, None] = {}
    for place in rng.permutation(len(items)).tolist():
        words = str(items[place]["title"]).split()
        if len(queries) == count or not words:
            continue
        length = min(len(words), int(rng.integers(1, WORDS + 1)))
        start = int(rng.integers(0, len(words) - length + 1))
        queries[" ".join(words[start : start + length])] = None
    return list(queries)


@dataclass(frozen=True)
class CosineGrades:
    """Pairs by query, and what the cosine says of each over the labels: (N, L)."""

    pairs: list[Pair]
    targets: np.ndarray


def cosine_grades(queries: Sequence[str], hood: Neighbourhood, settings: PretrainSettings, seed: int) -> CosineGrades:
    """Each query with items near, less near and random ones, graded by the odds of the encoder's card."""
    near = hood.nearest(queries, settings.depth)
    pairs = []
    for row, query in enumerate(queries):
        rng = np.random.default_rng([seed, row])
        wanted = (
            (near[row][:NEAR], settings.near), (near[row][NEAR:], settings.far),
            (np.arange(len(hood.items)), settings.random),
        )  # fmt: skip
        places = [place for some, count in wanted for place in rng.permutation(some)[:count].tolist()]
        pairs += [Pair(query, hood.items[place]) for place in dict.fromkeys(places)]
    card = hood.cosine.card
    return CosineGrades(pairs, label_probabilities(hood.cosine.cosines(pairs), card.slope, card.cuts))
