"""What a click ranker reads of a query and an item: ids without a vocabulary, and numbers of search, judge and item.

The same functions make them for training and for serving, so that a feature means the same in both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import normal_form, normal_text
from goodrate.ranking.feature_ids import HASHING, crossed, text_ids
from goodrate.ranking.item_values import ATTRIBUTE
from goodrate.relevance.verdicts import Verdict

SPARSE = ("query", "item", "brand", "category", "query_brand", "query_category")
CHANNELS = ("identifier", "lexical", "synonym", "dense")
OF_ITEMS = ("log_price", "rating", "log_rating_count")
READ = ("id", "brand", "category", "price", "rating", "attributes")  # columns of the catalogue


@dataclass(frozen=True)
class FeatureSet:
    """Which features a ranker has.

    sparse: names of SPARSE. channels: of retrieval, whose scores are read. labels: of the judge whose probabilities are
    read, worst first; none without a judge. items: names of OF_ITEMS. rating_count: the item's number of ratings, a
    column or attributes.NAME; None where it is not told.
    """

    sparse: tuple[str, ...] = SPARSE
    channels: tuple[str, ...] = CHANNELS
    labels: tuple[str, ...] = ()
    items: tuple[str, ...] = OF_ITEMS
    rating_count: str | None = None

    @property
    def of_pairs(self) -> tuple[str, ...]:
        """Names of the numbers of a pair: search and judge."""
        search = (*(f"{name}_score" for name in self.channels), "log_rank") if self.channels else ()
        return (*search, *(("gain", *(f"p_{label}" for label in self.labels[:-1])) if self.labels else ()))

    @property
    def dense(self) -> tuple[str, ...]:
        """Names of all numbers, in the order of their columns."""
        return (*self.of_pairs, *self.items)

    @property
    def fingerprint(self) -> str:
        """12 hex digits that differ when features or the hashing of ids do."""
        text = json.dumps({"hashing": HASHING, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ItemFeatures:
    """Of N items. ids: item, brand, category -> (N,) int64. known: the same names -> (N,) bool. dense: (N, len(items)),
    NaN where the catalogue says nothing.
    """

    ids: Mapping[str, np.ndarray]
    known: Mapping[str, np.ndarray]
    dense: np.ndarray

    def __len__(self) -> int:
        return len(self.dense)


def item_features(items: pl.DataFrame | Sequence[Mapping[str, Any]], features: FeatureSet) -> ItemFeatures:
    """Features of catalogue rows. Brand and category are compared in normal form, item ids as they are."""
    frame = items if isinstance(items, pl.DataFrame) else _frame(items)
    texts = {"item": frame["id"], "brand": normal_form(frame["brand"]), "category": normal_form(frame["category"])}
    price = frame["price"].to_numpy().astype(np.float64)
    count = _rating_count(frame, features.rating_count)
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers = {
            "log_price": np.where(price > 0, np.log(price), np.nan),
            "rating": frame["rating"].to_numpy().astype(np.float64),
            "log_rating_count": np.where(count >= 0, np.log1p(count), np.nan),
        }
    columns = [np.where(np.isfinite(numbers[name]), numbers[name], np.nan) for name in features.items]
    dense = np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))
    known = {name: (column != "").to_numpy() for name, column in texts.items()}
    return ItemFeatures({name: text_ids(column.to_list()) for name, column in texts.items()}, known, dense)


def unknown_items(ids: Sequence[str], features: FeatureSet) -> ItemFeatures:
    """Features of items that the catalogue does not hold: their ids and nothing else."""
    return item_features([{**dict.fromkeys(READ), "id": item} for item in ids], features)


def query_ids(queries: Sequence[str]) -> np.ndarray:
    """The ids of queries (N,) int64, equal for equal normal forms."""
    return text_ids([normal_text(query) for query in queries])


def sparse_features(
    query: np.ndarray, items: ItemFeatures, rows: np.ndarray, features: FeatureSet
) -> tuple[np.ndarray, np.ndarray]:
    """ids (N, S) int64 and whether each is there (N, S) bool. query: (N,) ids. rows: (N,) places in the items."""
    ids, known = {"query": query}, {"query": np.ones(len(query), dtype=bool)}
    for name in ("item", "brand", "category"):
        ids[name], known[name] = items.ids[name][rows], items.known[name][rows]
    for name in ("brand", "category"):
        ids[f"query_{name}"], known[f"query_{name}"] = crossed(query, ids[name]), known[name]
    chosen = features.sparse
    if not chosen:
        return np.zeros((len(query), 0), dtype=np.int64), np.zeros((len(query), 0), dtype=bool)
    return np.stack([ids[name] for name in chosen], axis=1), np.stack([known[name] for name in chosen], axis=1)


def pair_features(hits: Sequence[Any], verdicts: Sequence[Verdict | None], features: FeatureSet) -> np.ndarray:
    """Numbers of search and judge (N, len(of_pairs)), NaN for what is not told.

    hits: FusedHit of a search, or None for an item that it did not find. verdicts: one a hit, or none at all.
    """
    rows = np.full((len(hits), len(features.of_pairs)), np.nan)
    ranks = len(features.channels)
    for place, hit in enumerate(hits if ranks else ()):
        if hit is not None:
            scores = {name: part.score for name, part in hit.channels.items()}
            rows[place, :ranks] = [scores.get(name, np.nan) for name in features.channels]
            rows[place, ranks] = np.log(hit.rank)
    first = ranks + bool(ranks)
    for place, verdict in enumerate(verdicts if features.labels else ()):
        if verdict is not None and verdict.probabilities:
            rows[place, first:] = [verdict.expected_gain, *verdict.probabilities[:-1]]
    return rows


def one_query(query: str, count: int) -> np.ndarray:
    """The id of one query, so many times."""
    return np.repeat(query_ids([query]), count)


def _frame(items: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The columns that are read, of rows."""
    kinds = {"price": pl.Float64, "rating": pl.Float64}
    columns = {
        name: pl.Series(name, [item.get(name) for item in items], dtype=kinds.get(name, pl.String), strict=False)
        for name in READ
    }
    texts = [columns[name].fill_null("") for name in ("id", "brand", "category", "attributes")]
    return pl.DataFrame([*texts, columns["price"], columns["rating"]])


def _rating_count(frame: pl.DataFrame, name: str | None) -> np.ndarray:
    """How many ratings each item has (N,), NaN where it is not told."""
    if name is None:
        return np.full(len(frame), np.nan)
    if name.startswith(ATTRIBUTE):
        key = json.dumps(name.removeprefix(ATTRIBUTE), ensure_ascii=False)
        texts = frame["attributes"].str.json_path_match(f"$[{key}]")
    else:
        texts = frame[name].cast(pl.String)
    return texts.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
