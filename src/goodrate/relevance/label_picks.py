"""Which pairs to label next: those on which a judge is unsure, unlike each other, spread over queries.

Arithmetic on what a judge says. Uncertainty alone picks many pairs that teach the same; the draw of k-means++ (Arthur
and Vassilvitskii 2007), weighed by uncertainty, keeps them apart, as BADGE does with gradients (arXiv 1906.03671).
benchmarks/next_labels.py measures what each way is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from goodrate.catalog.normal_form import normal_text
from goodrate.catalog.splits import query_groups
from goodrate.relevance.pairs import Pair
from goodrate.relevance.protocol import Judge
from goodrate.scale import RelevanceScale

WAYS = ("random", "unsure", "diverse", "unsure_diverse")
WORD_DIMENSIONS = 64


def unsureness(probabilities: np.ndarray, scale: RelevanceScale) -> np.ndarray:
    """The standard deviation (N,) of the gain under label probabilities (N, L), in parts of the largest gain.

    It grows with what the order of results can gain by knowing the label: a doubt between neighbouring labels of nearly
    the same gain weighs little. 0 for rows of NaN.

    >>> from goodrate.scale import BINARY
    >>> unsureness(np.array([[0.5, 0.5], [1.0, 0.0]]), BINARY).tolist()
    [0.5, 0.0]
    """
    gains = scale.gain_array / scale.gain_array[-1]
    mean = probabilities @ gains
    variance = np.maximum(probabilities @ gains**2 - mean**2, 0.0)
    return np.nan_to_num(np.sqrt(variance))


def distinct_pairs(queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """The rows (n,) to choose from: the first of those whose queries are of one group and whose item texts are alike.

    Groups as in catalog.splits ("iphone 7", "iphone 8"), texts in the normal form.
    """
    names = list(dict.fromkeys(queries))
    group = dict(zip(names, query_groups(names), strict=True))
    first: dict[tuple[int, str], int] = {}
    for row, (query, text) in enumerate(zip(queries, texts, strict=True)):
        first.setdefault((group[query], normal_text(text)), row)
    return np.asarray(sorted(first.values()), dtype=np.int64)


def pick(
    way: str, unsure: np.ndarray, vectors: np.ndarray | None, queries: Sequence[str], count: int, per_query: int,
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """The rows (n,) to label, the most telling first: the first m of them are those that a smaller count gives.

    way: one of WAYS. unsure: (N,), 0 or more. vectors: (N, D) of pairs, for a way that is diverse. queries: N.
    per_query: pairs of one query at most, so n may be less than count. The same for the same seed. Raises ValueError
    for another way.
    """
    if way not in WAYS:
        raise ValueError(f"no way {way!r} to pick pairs; expected one of {', '.join(WAYS)}")
    rng = np.random.default_rng(seed)
    _, of = np.unique(np.asarray(queries, dtype=object).astype(str), return_inverse=True)
    left = np.full(of.max(initial=-1) + 1, per_query)
    weight = unsure.astype(np.float64) if way in ("unsure", "unsure_diverse") else np.ones(len(unsure))
    near = np.ones(len(unsure)) if "diverse" not in way else np.full(len(unsure), np.inf)
    free = np.ones(len(unsure), dtype=bool)
    picks: list[int] = []
    while len(picks) < count and free.any():
        chances = np.where(free, weight * np.where(np.isinf(near), 1.0, near), -1.0)
        row = int(chances.argmax()) if way == "unsure" else _drawn(chances, free, rng)
        picks.append(row)
        free[row] = False
        left[of[row]] -= 1
        if not left[of[row]]:
            free &= of != of[row]
        if "diverse" in way:
            assert vectors is not None
            near = np.minimum(near, ((vectors - vectors[row]) ** 2).sum(axis=1))
    return np.asarray(picks, dtype=np.int64)


def _drawn(chances: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> int:
    """A free row, drawn in proportion to its chance; any of them where all chances are 0."""
    weights = np.where(free, np.maximum(chances, 0.0), 0.0)
    weights = weights if weights.sum() > 0 else free.astype(np.float64)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def pair_vectors(judge: Judge, pairs: Sequence[Pair]) -> np.ndarray:
    """Vectors (N, D) float32 of pairs, query beside item: of the text encoder that the judge has, or is a sum with.

    Without one they are made of words: tf-idf (n-grams of letters would tell typing errors apart, words tell things
    apart), reduced to WORD_DIMENSIONS.
    """
    items, queries = [pair.item for pair in pairs], [pair.query for pair in pairs]
    encoder = _encoder_of(judge)
    names = list(dict.fromkeys(queries))
    if encoder is not None:
        of_queries, of_items = encoder.query_vectors(names), encoder.item_vectors(items)
    else:
        of_queries, of_items = word_vectors(names, judge.reads(items))
    place = {query: row for row, query in enumerate(names)}
    return np.hstack([of_queries[[place[query] for query in queries]], of_items]).astype(np.float32)


def _encoder_of(judge: Any) -> Any:
    """The judge, or the first of its members, that has vectors of queries and items; None without one."""
    if hasattr(judge, "query_vectors") and hasattr(judge, "item_vectors"):
        return judge
    members = getattr(judge, "members", {})
    return next((found for one in members.values() if (found := _encoder_of(one)) is not None), None)


def word_vectors(queries: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (Q, D) of queries and (N, D) of item texts by their words, of length 1 before they are reduced."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    every = [normal_text(text) for text in (*queries, *texts)]
    words = TfidfVectorizer(token_pattern=r"\S+").fit_transform(every)
    size = min(WORD_DIMENSIONS, min(words.shape) - 1)
    rows = words.toarray() if size < 2 else TruncatedSVD(size, random_state=0).fit_transform(words)
    return rows[: len(queries)], rows[len(queries) :]
