"""What a retriever's candidates are worth: relevance by a judge, item quality, exclusivity against lexical search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from goodrate.learning.records import Reward
from goodrate.learning.rewards import Gate, retrieval_reward

if TYPE_CHECKING:
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pairs import Item

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # query rows (N,), item positions (N,) -> (N,) in 0..1, NaN


class JudgedRelevance:
    """Expected worth (0..1) of query-item pairs by a judge; a pair is judged once.

    judged, distinct, asked: pairs that reached the model, different ones, and all that were asked for.
    """

    def __init__(
        self, judge: CalibratedJudge, queries: Sequence[str], items: Sequence[Item],
        worth: Sequence[float] | np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """judge: with the notes that it is told of queries, and with a store where verdicts outlive the run.

        worth: what a label is worth (L,), worst first; None = its gain over the largest.
        """
        self._judge, self._queries, self._items = judge, queries, items
        gains = judge.scale.gain_array
        self._worth = gains / gains[-1] if worth is None else np.asarray(worth, dtype=np.float64)
        self._scores: dict[tuple[int, int], float] = {}
        self.judged = self.asked = 0

    @property
    def distinct(self) -> int:
        """How many different pairs were asked for: what the judge reads where nothing is stored from before."""
        return len(self._scores)

    def __call__(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(N,) worths, NaN where the judge failed."""
        keys = list(zip(rows.tolist(), items.tolist(), strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._scores]
        self.asked += len(keys)
        if new:
            self._scores.update(zip(new, self._judged(new).tolist(), strict=True))
        return np.asarray([self._scores[key] for key in keys])

    def _judged(self, keys: Sequence[tuple[int, int]]) -> np.ndarray:
        pairs = [self._judge.pairs(self._queries[row], [self._items[item]])[0] for row, item in keys]
        verdicts = self._judge.pair_verdicts(pairs)
        self.judged += sum(not verdict.cached for verdict in verdicts)
        unknown = (float("nan"),) * len(self._judge.scale)
        return np.asarray([verdict.probabilities or unknown for verdict in verdicts]) @ self._worth


class LexicalOverlap:
    """Exclusivity 1 - (idf of the query's words that the item has) / (idf of all its words); 0 without words.

    Words the inverted index would find the item by (arXiv 2511.13885 has the idea, the formula is ours).
    """

    def __init__(self, queries: Sequence[str], item_texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(binary=True, token_pattern=r"\w+", dtype=np.float32)
        self._items = counter.fit_transform(item_texts)
        frequency = np.asarray(self._items.sum(axis=0)).ravel()
        rarest = np.log(1 + len(item_texts))
        self._unknown = float(rarest)  # a word that no item has
        self._idf = np.log((1 + len(item_texts)) / (1 + frequency)).astype(np.float32)
        self._queries = counter.transform(queries)
        words = [set(counter.build_analyzer()(query)) for query in queries]
        unknown = np.asarray([len(w - counter.vocabulary_.keys()) for w in words])
        self._total = np.asarray(self._queries @ self._idf).ravel() + unknown * self._unknown

    def __call__(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(N,) in 0..1."""
        shared = np.asarray(self._queries[rows].multiply(self._items[items]) @ self._idf).ravel()
        total = self._total[rows]
        return np.where(total > 0, 1 - shared / np.maximum(total, 1e-9), 0.0)


class RetrievalGrades:
    """The fused reward of candidates: relevance + scale * gate * (quality + exclusivity); parts can be left out.

    gate "none" is the paper's plain sum; "threshold" and "relevance" are ours (papers/taosearchemb.md 5).
    """

    def __init__(
        self, relevance: Score, quality: np.ndarray | None = None, exclusive: Score | None = None, *,
        gate: Gate = "threshold", scale: float = 0.2, threshold: float = 0.5,
    ) -> None:  # fmt: skip
        """quality: level of each item, (items,) in 0..1."""
        self._relevance, self._quality, self._exclusive = relevance, quality, exclusive
        self._how: dict[str, Any] = {"gate": gate, "scale": scale, "threshold": threshold}

    def __call__(self, rows: Sequence[int], candidates: Tensor) -> Reward:
        """The Reward of the P * K pairs, query by query."""
        items = candidates.numpy().ravel()
        queries = np.repeat(np.asarray(rows), candidates.shape[1])
        nothing = np.zeros(len(items))
        quality = nothing if self._quality is None else self._quality[items]
        exclusive = nothing if self._exclusive is None else self._exclusive(queries, items)
        parts = (self._relevance(queries, items), quality, exclusive)
        return retrieval_reward(*(torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in parts), **self._how)
