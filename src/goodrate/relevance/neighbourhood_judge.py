"""How near an item is to what a query finds, as a judge: the cosine to the mean of the query's nearest items.

A query of two words says little; the items nearest to it say what such products are called in this shop. That is
pseudo-relevance feedback (Rocchio 1971) on vectors: the query's own vector is left out, since a cosine holds it. Items
of the catalogue stand for all: a seeded sample of at most SAMPLE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.relevance import encoder_judge
from goodrate.relevance.encoder_judge import EncoderJudge, open_vectors
from goodrate.relevance.judge_card import JudgeCard, require_count, write_judge_card
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.text_vectors import TextVectors
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale

ITEMS_FILE = "items.safetensors"
NEAREST = 20
SAMPLE = 20_000
QUERIES = 256  # compared with all items at once
REMEMBERED = 10_000  # queries whose nearest items are kept


@dataclass(frozen=True, kw_only=True)
class Card(encoder_judge.Card):
    """As an encoder's card; slope and cuts are of this judge's cosine. nearest: items that a query's mean is of."""

    kind: ClassVar[str] = "neighbourhood"
    nearest: int = NEAREST

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("nearest", self.nearest, least=1)


def sampled_vectors(vectors: TextVectors, items: Sequence[Item], card: Card, seed: int = 0) -> np.ndarray:
    """Vectors (K, D) float16 of at most SAMPLE items of a catalogue, as the card reads them."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(items))[:SAMPLE])
    reader = EncoderJudge(vectors, card)
    return reader.item_vectors([items[place] for place in chosen.tolist()]).astype(np.float16)


def open_kind(folder: Path, card: JudgeCard) -> NeighbourhoodJudge:
    """The judge of a folder. Raises FileNotFoundError or ValueError for its encoder and its item vectors."""
    assert isinstance(card, Card)
    vectors = open_vectors(folder, card.encoder, card.fingerprint)
    return NeighbourhoodJudge(vectors, _load(folder / ITEMS_FILE, vectors.encoder.dimension), card)


def write_neighbourhood_judge(folder: Path, card: Card, items: np.ndarray) -> None:
    """Make a judge folder. items: (K, D) vectors of the catalogue."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / ITEMS_FILE, save({"items": items.astype(np.float16)}))
    write_judge_card(folder, card)


def _load(path: Path, dimension: int) -> np.ndarray:
    """Vectors (K, D) float16. Raises FileNotFoundError, ValueError naming the file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the vectors of the judge's items are missing")
    try:
        items = load_file(path)["items"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(f"{path} holds no item vectors: {error!r}") from error
    if items.ndim != 2 or not len(items) or items.shape[1] != dimension:
        raise ValueError(f"{path} holds vectors {items.shape}, expected (items, {dimension})")
    return items


class NeighbourhoodJudge:
    """Vectors of texts and of a catalogue's items (K, D) with a card. Means of queries are kept while it is loaded."""

    def __init__(self, vectors: TextVectors, items: np.ndarray, card: Card) -> None:
        self.vectors, self.items, self.card = vectors, items.astype(np.float16), card
        self._cosine = EncoderJudge(vectors, card)
        self._means: dict[str, np.ndarray] = {}

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder, the items, and how the cosine becomes labels."""
        card = self.card
        read = {"encoder": card.fingerprint, "precision": self.vectors.encoder.precision, "items": self._hash}
        return {**read, "nearest": card.nearest, "odds": [card.slope, list(card.cuts)]}

    @cached_property
    def _hash(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.items).tobytes()).hexdigest()[:16]

    @cached_property
    def _compared(self) -> np.ndarray:
        return self.items.astype(np.float32)

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item, cut where the card says so."""
        return self._cosine.reads(items)

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Cosine (N,) of each pair's item and the mean of the items nearest to its query."""
        if not pairs:
            return np.zeros(0)
        queries = list(dict.fromkeys(pair.query for pair in pairs))
        place = {query: row for row, query in enumerate(queries)}
        means = self.query_means(queries)[[place[pair.query] for pair in pairs]]
        return np.einsum("nd,nd->n", means, self._cosine.item_vectors([pair.item for pair in pairs]))

    def query_means(self, queries: Sequence[str]) -> np.ndarray:
        """(Q, D): of each query the mean of its nearest items, of length 1."""
        new = [query for query in dict.fromkeys(queries) if query not in self._means]
        if len(self._means) + len(new) > REMEMBERED:
            self._means, new = {}, list(dict.fromkeys(queries))
        means = dict(self._means)
        for start in range(0, len(new), QUERIES):
            block = new[start : start + QUERIES]
            means.update(zip(block, nearest_means(self._cosine.query_vectors(block), self._compared, self.card.nearest),
                             strict=True))  # fmt: skip
        self._means = means
        return np.stack([means[query] for query in queries])

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the cosine."""
        return Assessment.of(label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The cosine, and the query's words that the item has and lacks."""
        rows = zip(pairs, self.reads([pair.item for pair in pairs]), self.scores(pairs).tolist(), strict=True)
        return [_explanation(pair.query, text, score) for pair, text, score in rows]


def nearest_means(queries: np.ndarray, items: np.ndarray, nearest: int) -> np.ndarray:
    """Of each query (Q, D) the mean of its nearest items (K, D) by inner product, of length 1: (Q, D).

    >>> items = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    >>> nearest_means(np.array([[0.0, 1.0]], dtype=np.float32), items, 1).tolist()
    [[0.0, 1.0]]
    """
    count = min(nearest, len(items))
    places = np.argpartition(-(queries @ items.T), count - 1, axis=1)[:, :count]
    means = items[np.sort(places, axis=1)].mean(axis=1)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _explanation(query: str, text: str, score: float) -> Explanation:
    step = ReasonStep("neighbours", "Like what the query finds", f"neighbours {score:.3f}", f"{score:.2f} of 1")
    return explained([step], query, text)
