"""The embedded shop as the experiments use it: its pairs, and encoders and judges trained as the demo trains them.

The only file here that knows goodrate.demo and goodrate.cli.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.cli.train_retriever import pairs_of as contrastive_pairs
from goodrate.cli.training_data import DataSettings, load_data
from goodrate.demo.chains import query_examples
from goodrate.demo.settings import DemoSettings
from goodrate.demo.stages import CALIBRATION_PAIRS, JudgedPairs, click_pairs, judged_pairs, train_encoder, train_judge
from goodrate.learning.ranking_source import QueryExample
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import Shop, ShopSettings, generate

__all__ = ["CALIBRATION_PAIRS", "JudgedPairs", "Part", "click_pairs", "demo_encoder", "demo_judge", "judged_pairs",
           "pair_sets", "retrieval_ground", "shop_of", "training_parts"]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Query and item positions of pairs, and their labels: (N,) each."""

    rows: np.ndarray
    items: np.ndarray
    gold: np.ndarray

    def cut(self, chosen: Any) -> Part:
        """The chosen pairs: a slice, a mask or positions."""
        return Part(self.rows[chosen], self.items[chosen], self.gold[chosen])


@functools.cache
def _shop(settings: str) -> Shop:
    return generate(ShopSettings.model_validate_json(settings))


def shop_of(settings: ShopSettings) -> Shop:
    """A shop; the same one for the same settings."""
    return _shop(settings.model_dump_json())


def training_parts(shop: Shop, seed: int, *counts: int) -> list[Part]:
    """So many training pairs each, none twice, drawn with the seed."""
    whole = Part(*pairs_of(shop, "train"))
    drawn = np.random.default_rng([seed, 71]).permutation(len(whole.rows))
    ends = np.cumsum([0, *counts])
    return [whole.cut(drawn[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def pair_sets(items: int, queries: int, kind: str) -> tuple[list[Any], dict[str, set[str]]]:
    """What `goodrate train` sees of the shop of seed 0 as contrastive pairs, and the positives of each query text.

    kind: clicks, judgements or both.
    """
    return contrastive_pairs(_training_data(items, queries), kind)  # type: ignore[arg-type,no-any-return]


@functools.cache
def _training_data(items: int, queries: int) -> Any:
    return load_data(DataSettings(shop=ShopSettings(items=items, queries=queries)))


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
    shop = shop_of(ShopSettings(items=items, queries=queries))
    row = {shop.queries[q].text: q for q in shop.queries_of("train").tolist()}
    examples = [example for example in query_examples(shop)[0] if example.text in row]
    return Ground(shop, shop.catalog.text(), examples, np.asarray([row[e.text] for e in examples]))


def _once(name: str, train: Callable[..., Path], folder: Path, **settings: int) -> Path:
    demo = DemoSettings(**settings)
    if not (folder / name).is_dir():
        train(demo, retrieval_ground(demo.items, demo.queries).shop, folder, lambda record: None)
    return folder / name


def demo_encoder(folder: Path, *, seed: int, items: int, queries: int, updates: int) -> Path:
    """The demo's encoder, contrastive on clicks, unless the folder has it."""
    return _once("encoder", train_encoder, folder, seed=seed, items=items, queries=queries, encoder_updates=updates)


def demo_judge(folder: Path, *, items: int, queries: int, updates: int) -> Path:
    """The demo's judge of seed 0, calibrated on dev pairs, unless the folder has it."""
    return _once("judge", train_judge, folder, seed=0, items=items, queries=queries, judge_updates=updates)
