"""The dynamic gate: a new label enters the pool only when its phrase is as near to the pool as the pool's own members.

After TALLOR's dynamic instance selection. Ours: vectors are of phrases, not of mentions, so that a phrase that is met
twice is no neighbour of itself; they are the expert's own input embeddings, or letter n-grams where there is no expert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Vectors = Callable[[np.ndarray], np.ndarray]
DRAWS, MEMBERS, SAMPLED, FACTOR = 50, 3, 100, 0.8


def letter_vectors(phrases: Sequence[str], dimensions: int = 512) -> np.ndarray:
    """(P, dimensions) float32 unit vectors of the hashed letter n-grams (3 and 4) of phrases."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=dimensions, dtype=np.float32)
    return hashed.transform(list(phrases)).toarray() if len(phrases) else np.zeros((0, dimensions), np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one; rows of zeros stay."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)


def scores(new: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) nearness of new vectors (N, D) to a pool (M, D): the root of local * global, the smaller where one is < 0.

    local: the largest cosine to a member. global: the mean cosine to the means of 3 random members, over 50 draws.
    """
    pool, new = unit(pool), unit(new)
    local = (new @ pool.T).max(axis=1)
    means = unit(pool[rng.integers(0, len(pool), (DRAWS, MEMBERS))].mean(axis=1))
    return _joined(local, (new @ means.T).mean(axis=1))


def threshold(pool: np.ndarray, rng: np.random.Generator) -> float:
    """The lowest score of 100 random members against the others; a member is never its own neighbour.

    -inf for fewer than two members: then anything may come in.
    """
    if len(pool) < 2:
        return -np.inf
    pool = unit(pool)
    chosen = rng.permutation(len(pool))[:SAMPLED]
    cosines = pool[chosen] @ pool.T
    cosines[np.arange(len(chosen)), chosen] = -np.inf
    others = rng.integers(0, len(pool) - 1, (len(chosen), DRAWS, MEMBERS))
    others += others >= chosen[:, None, None]  # all members but its own
    means = unit(pool[others].mean(axis=2))
    return float(_joined(cosines.max(axis=1), np.einsum("nd,nkd->nk", pool[chosen], means).mean(axis=1)).min())


def accepted(
    phrase: np.ndarray, label: np.ndarray, pool: np.ndarray, vectors: Vectors, rng: np.random.Generator
) -> np.ndarray:
    """(S,) bool: which newly labelled spans enter. If none would, all do.

    phrase (S,): of each span. label (S,): new class or -1. pool (S,): class in the pool or -1.
    vectors: phrases (N,) -> (N, D).
    """
    passed = np.zeros(len(label), dtype=bool)
    for c in range(int(label.max(initial=-1)) + 1):
        new, members = np.unique(phrase[label == c]), np.unique(phrase[pool == c])
        if not len(new):
            continue
        if len(members):
            own = vectors(members)
            new = new[scores(vectors(new), own, rng) >= FACTOR * threshold(own, rng)]
        passed |= (label == c) & np.isin(phrase, new)
    return passed if passed.any() else label >= 0


def _joined(local: np.ndarray, overall: np.ndarray) -> np.ndarray:
    product = np.maximum(local, 0) * np.maximum(overall, 0)
    return np.where((local < 0) | (overall < 0), np.minimum(local, overall), np.sqrt(product))
