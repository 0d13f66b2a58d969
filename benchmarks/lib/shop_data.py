"""The embedded shop as the experiments use it: pairs drawn from it, its queries for retrieval, the demo's models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from goodrate.demo.settings import DemoSettings
from goodrate.demo.stages import train_encoder, train_judge
from goodrate.examples.data import TrainingData
from goodrate.examples.settings import PairChoice
from goodrate.examples.shop_pairs import ShopPairs, shop_pairs
from goodrate.examples.sources import shop_data
from goodrate.learning.ranking_source import QueryExample
from goodrate.relevance.pairs import JudgedPair
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import Shop, ShopSettings, generate


@functools.cache
def _shop(settings: str) -> Shop:
    return generate(ShopSettings.model_validate_json(settings))


def shop_of(settings: ShopSettings) -> Shop:
    """A shop; the same one for the same settings."""
    return _shop(settings.model_dump_json())


def training_parts(shop: Shop, seed: int, *counts: int) -> list[list[JudgedPair]]:
    """So many training pairs each, with their true steps, none twice, drawn with the seed."""
    queries, items, labels = pairs_of(shop, "train")
    drawn = np.random.default_rng([seed, 71]).permutation(len(queries))
    ends = np.cumsum([0, *counts])
    rows = [drawn[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    return [with_steps(shop, shop_pairs(shop, queries[part], items[part], labels[part])) for part in rows]


def with_steps(shop: Shop, pairs: ShopPairs) -> list[JudgedPair]:
    """The pairs with the true steps behind their labels."""
    places = zip(pairs.pairs, pairs.queries.tolist(), pairs.items.tolist(), strict=True)
    return [replace(pair, reason=shop.rationale(query, item)) for pair, query, item in places]


@functools.cache
def data_of(items: int, queries: int) -> TrainingData:
    """What `goodrate train` sees of the shop of seed 0."""
    return shop_data(shop_of(ShopSettings(items=items, queries=queries)), PairChoice())


@dataclass(frozen=True)
class Ground:
    """A shop, its training queries with known items, and which query of the shop each is."""

    shop: Shop
    texts: list[str]
    examples: list[QueryExample]
    rows: np.ndarray


@functools.cache
def retrieval_ground(items: int, queries: int) -> Ground:
    """The shop of seed 0 and its training queries that have clicks; a query's most clicked item is its positive."""
    data, shop = data_of(items, queries), shop_of(ShopSettings(items=items, queries=queries))
    place = {item: position for position, item in enumerate(data.catalog.ids)}
    row = {shop.queries[q].text: q for q in shop.queries_of("train").tolist()}
    clicks: dict[str, dict[str, float]] = {}
    for query, item, weight in data.clicks or []:
        clicks.setdefault(query, {})[item] = weight
    examples = [
        QueryExample(query, place[max(own, key=lambda item: (own[item], item))], frozenset(place[i] for i in own))  # noqa: B023
        for query, own in clicks.items()
        if query in row
    ]
    return Ground(shop, shop.catalog.text(), examples, np.asarray([row[e.text] for e in examples]))


def _once(name: str, train: Callable[..., Path], folder: Path, **settings: int) -> Path:
    demo = DemoSettings(**settings)
    if not (folder / name).is_dir():
        shop = shop_of(ShopSettings(items=demo.items, queries=demo.queries))
        train(demo, shop, folder, lambda record: None)
    return folder / name


def demo_encoder(folder: Path, *, seed: int, items: int, queries: int, updates: int) -> Path:
    """The demo's encoder, contrastive on clicks, unless the folder has it."""
    return _once("encoder", train_encoder, folder, seed=seed, items=items, queries=queries, encoder_updates=updates)


def demo_judge(folder: Path, *, items: int, queries: int, updates: int) -> Path:
    """The demo's judge of seed 0, calibrated on dev pairs, unless the folder has it."""
    return _once("judge", train_judge, folder, seed=0, items=items, queries=queries, judge_updates=updates)
