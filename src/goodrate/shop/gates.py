"""Shortcuts: judges that must not work on the shop. What they reach is the floor of every later number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from goodrate.relevance.listing import listing
from goodrate.shop.queries import BRAND, PRICE
from goodrate.shop.taxonomy import load_taxonomy
from goodrate.shop.truth import UNKNOWN

if TYPE_CHECKING:
    from goodrate.shop.shop import Shop


def pairs_of(shop: Shop, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query position, item position and label (n,) of every judged pair of a split."""
    queries = shop.queries_of(split)
    rows = np.repeat(queries, shop.judged_items.shape[1])
    items = shop.judged_items[queries].reshape(-1)
    return rows, items, shop.labels[rows, items].astype(np.int64)


def pair_texts(shop: Shop, rows: np.ndarray, items: np.ndarray) -> tuple[list[str], list[str]]:
    """Query side (with facts) and item side, as the judge reads them."""
    listings = [listing(record) for record in shop.records]
    sides = [f"{q.text} {q.facts}".strip() for q in shop.queries]
    return [sides[int(q)] for q in rows], [listings[int(i)] for i in items]


def _canonical() -> dict[str, str]:
    """Surface word -> canonical word, one-word surfaces only."""
    t = load_taxonomy()
    groups = [*t.category_surfaces, *(s for a in t.value_surfaces for s in a)]
    return {word: surfaces[0] for surfaces in groups for word in surfaces if " " not in word}


def overlap_features(queries: list[str], items: list[str]) -> np.ndarray:
    """Word overlap (n, 5): shared words, share of the query, the same after synonyms, and the query's length."""
    canonical = _canonical()
    rows = []
    for query, item in zip(queries, items, strict=True):
        q, i = set(query.split()), set(item.split())
        cq, ci = {canonical.get(w, w) for w in q}, {canonical.get(w, w) for w in i}
        rows.append((len(q & i), len(q & i) / len(q), len(cq & ci), len(cq & ci) / len(cq), len(q)))
    return np.asarray(rows, dtype=np.float64)


def check_features(shop: Shop, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """What a perfect reader of attributes knows who never looks at the category: checks by strength (n, 15), family."""
    from goodrate.shop.queries import FAMILIES

    out = np.zeros((len(rows), 12 + len(FAMILIES)))
    strengths = ("must", "may", "not", "below")
    for q in np.unique(rows):
        where = np.flatnonzero(rows == q)
        query = shop.queries[int(q)]
        checks = shop.truth(int(q), items[where]).checks
        for column, constraint in enumerate(query.constraints):
            out[where, strengths.index(constraint.strength) * 3 + checks[:, column]] += 1
        out[where, 12 + FAMILIES.index(query.family)] = 1
    return out


FIT_PAIRS = 12_000  # enough for a baseline to level off; a random part of the training pairs


def _sample_pairs(shop: Shop, split: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, items, labels = pairs_of(shop, split)
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    return rows[sample], items[sample], labels[sample]


def shortcuts(shop: Shop, rows: np.ndarray, items: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Labels (n,) of the given pairs by judges that are not meant to work, trained on the training pairs.

    majority; query_only, item_only and bag_of_words: logistic regression over words; overlap and category_blind:
    gradient boosting over overlap counts, over true attribute checks.
    """
    from scipy.sparse import hstack
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train = _sample_pairs(shop, "train", FIT_PAIRS, seed)
    (tq, ti), (eq, ei) = pair_texts(shop, *train[:2]), pair_texts(shop, rows, items)
    words_q, words_i = CountVectorizer(binary=True, min_df=2), CountVectorizer(binary=True, min_df=2)
    train_q, train_i = words_q.fit_transform(tq), words_i.fit_transform(ti)
    test_q, test_i = words_q.transform(eq), words_i.transform(ei)
    features = {
        "query_only": (train_q, test_q),
        "item_only": (train_i, test_i),
        "bag_of_words": (hstack([train_q, train_i]).tocsr(), hstack([test_q, test_i]).tocsr()),
        "overlap": (overlap_features(tq, ti), overlap_features(eq, ei)),
        "category_blind": (check_features(shop, *train[:2]), check_features(shop, rows, items)),
    }
    predictions = {"majority": np.full(len(rows), np.bincount(train[2]).argmax())}
    for name, (fit_on, apply_to) in features.items():
        dense = name in ("overlap", "category_blind")
        model = HistGradientBoostingClassifier(random_state=seed) if dense else LogisticRegression(C=0.3, max_iter=1000)
        with threadpool_limits(1):  # small data: more threads only wait for each other, for minutes on a busy machine
            predictions[name] = model.fit(fit_on, train[2]).predict(apply_to)
    return predictions


def baselines(shop: Shop, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Accuracy and macro-F1 of the shortcuts on all test pairs."""
    from sklearn.metrics import accuracy_score, f1_score

    rows, items, gold = pairs_of(shop, "test")
    return {
        name: (float(accuracy_score(gold, p)), float(f1_score(gold, p, average="macro")))
        for name, p in shortcuts(shop, rows, items, seed).items()
    }


def unknown_rates(shop: Shop) -> dict[str, float]:
    """Share of unknown checks among judged pairs, by category relation; equal rates leave no leak."""
    from goodrate.shop.taxonomy import RELATIONS

    unknown, total = np.zeros(len(RELATIONS)), np.zeros(len(RELATIONS))
    for q, query in enumerate(shop.queries):
        stated = [i for i, c in enumerate(query.constraints) if c.attribute not in (PRICE, BRAND)]
        truth = shop.truth(q, shop.judged_items[q])
        for relation in range(len(RELATIONS)):
            checks = truth.checks[truth.relation == relation][:, stated]
            unknown[relation] += (checks == UNKNOWN).sum()
            total[relation] += checks.size
    return {name: float(u / max(1, t)) for name, u, t in zip(RELATIONS, unknown, total, strict=True)}
