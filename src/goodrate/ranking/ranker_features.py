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
from goodrate.ranking.item_values import ATTRIBUTE, number
from goodrate.relevance.verdicts import Verdict

SPARSE = ("query", "item", "brand", "category", "query_brand", "query_category")
CHANNELS = ("identifier", "lexical", "synonym", "dense")
OF_ITEMS = ("log_price", "rating", "log_rating_count")
Columns = tuple[dict[str, list[str]], list[np.ndarray]]  # item, brand, category; price, rating, number of ratings


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
    """Features of catalogue rows. Brand and category are compared in normal form, item ids as they are.

    items: a frame for a catalogue, rows for the few items of a search: equal features, and rows cost a tenth there.
    """
    read = _of_frame if isinstance(items, pl.DataFrame) else _of_rows
    texts, (price, rating, count) = read(items, features.rating_count)
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers = {
            "log_price": np.where(price > 0, np.log(price), np.nan),
            "rating": rating,
            "log_rating_count": np.where(count >= 0, np.log1p(count), np.nan),
        }
    columns = [np.where(np.isfinite(numbers[name]), numbers[name], np.nan) for name in features.items]
    dense = np.stack(columns, axis=1) if columns else np.zeros((len(price), 0))
    known = {name: np.asarray([text != "" for text in column], dtype=bool) for name, column in texts.items()}
    return ItemFeatures({name: text_ids(column) for name, column in texts.items()}, known, dense)


def unknown_items(ids: Sequence[str], features: FeatureSet) -> ItemFeatures:
    """Features of items that the catalogue does not hold: their ids and nothing else."""
    return item_features([{"id": item} for item in ids], features)


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


def _of_frame(frame: Any, rating_count: str | None) -> Columns:
    """Texts and numbers of a catalogue's frame."""
    texts = {"item": frame["id"], "brand": normal_form(frame["brand"]), "category": normal_form(frame["category"])}
    if rating_count is None:
        count = pl.repeat(None, len(frame), dtype=pl.Float64, eager=True)
    elif rating_count.startswith(ATTRIBUTE):
        key = json.dumps(rating_count.removeprefix(ATTRIBUTE), ensure_ascii=False)
        count = frame["attributes"].str.json_path_match(f"$[{key}]")
    else:
        count = frame[rating_count]
    numbers = [_floats(column.cast(pl.Float64, strict=False)) for column in (frame["price"], frame["rating"], count)]
    return {name: column.to_list() for name, column in texts.items()}, numbers


def _floats(column: pl.Series) -> np.ndarray:
    return column.to_numpy().astype(np.float64)


def _of_rows(rows: Any, rating_count: str | None) -> Columns:
    """Texts and numbers of rows, as _of_frame."""
    texts = {"item": [row["id"] for row in rows]}
    texts |= {name: [normal_text(row.get(name) or "") for row in rows] for name in ("brand", "category")}
    numbers = [_numbers([row.get(name) for row in rows]) for name in ("price", "rating")]
    return texts, [*numbers, _numbers([_told(row, rating_count) for row in rows])]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """Values (N,) as numbers, NaN for what is none."""
    read = [number(value) for value in values]
    return np.asarray([np.nan if value is None else value for value in read], dtype=np.float64)


def _told(row: Mapping[str, Any], name: str | None) -> Any:
    """What a row says under the name of a column, or of an attribute."""
    if name is None or not name.startswith(ATTRIBUTE):
        return None if name is None else row.get(name)
    return json.loads(row.get("attributes") or "{}").get(name.removeprefix(ATTRIBUTE))
