"""Parts of the retrieval arms on the shop: encoders to start from, judges, lexical search, what is measured."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.examples.shop_pairs import sample_shop_pairs
from goodrate.learning.item_matrix import top_k
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.recipes.retriever_rewards import JudgedRelevance
from goodrate.relevance.judge import open_judge
from goodrate.relevance.query_notes import QueryNotes
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.shop.shop import Shop
from lib.queue import Queue
from lib.shop_data import Ground, demo_encoder, demo_judge, retrieval_ground

QUEUE = Queue("retrieval_grpo")
LIMIT, DEPTHS, LEXICAL = 400, (50, 100, 200), 100  # queries measured; depths of hit rates and of the overlap
DEV_PAIRS = 1500


def measured_queries(g: Ground, split: str) -> list[int]:
    """Positions of the queries that an arm is measured on."""
    return g.shop.queries_of(split)[:LIMIT].tolist()


def new_encoder(seed: int) -> Encoder:
    """An encoder that was never trained: 128 wide, two layers."""
    tokenizer = nano_folder() / "tokenizer.json"
    return Encoder.create(tokenizer, 128, 2, query_prompt="query: ", item_prompt="item: ", seed=seed)


def untrained_encoder(seed: int) -> Path:
    """The folder of a new encoder."""

    def build(folder: Path) -> Path:
        if not folder.is_dir():
            new_encoder(seed).save(folder)
        return folder

    return QUEUE.shared(f"fresh-{seed}", build)


def start_encoder(seed: int, items: int, queries: int, updates: int) -> Path:
    """The encoder that every arm starts from: contrastive, on clicks."""
    return QUEUE.shared(
        f"start-{seed}-{items}-{queries}-{updates}",
        lambda folder: demo_encoder(folder, seed=seed, items=items, queries=queries, updates=updates),
    )


def reward_judge(items: int, queries: int, updates: int) -> Path:
    """The judge of seed 0, which knows the training queries' judged pairs; one for all seeds of the arms."""
    return QUEUE.shared(
        f"judge-0-{items}-{queries}-{updates}",
        lambda folder: demo_judge(folder, items=items, queries=queries, updates=updates),
    )


def judged_relevance(g: Ground, folder: Path, worth: tuple[float, ...]) -> JudgedRelevance:
    """A judge's reward for the training queries; its verdicts are stored for all arms and seeds."""
    facts = {g.shop.queries[q].text: g.shop.queries[q].facts for q in g.rows.tolist()}
    judge = open_judge(folder, notes=QueryNotes(facts.get), store=VerdictStore(folder / "verdicts.sqlite"))
    return JudgedRelevance(judge, [example.text for example in g.examples], g.shop.catalog.to_rows(), worth)


def judge_quality(g: Ground, folder: Path) -> dict[str, float]:
    """How right a judge is on dev pairs, which calibrated it and did not train it."""
    from goodrate.evaluation.classification import classify

    pairs = sample_shop_pairs(g.shop, "dev", DEV_PAIRS, 0)
    predicted = open_judge(folder).pair_probabilities(pairs.pairs).argmax(axis=1)
    report = classify(pairs.gold, predicted, g.shop.book.scale)
    return {"accuracy": float(report.accuracy), "macro_f1": float(report.macro_f1)}


def quality_levels(shop: Shop) -> np.ndarray:
    """Quality in five levels by rank."""
    rank = np.argsort(np.argsort(shop.world.quality, kind="stable"), kind="stable")
    return np.floor(5 * rank / len(rank)) / 4


@functools.cache
def lexical(items: int, queries: int, split: str) -> np.ndarray:
    """The first item positions of every measured query by the index's lexical channel, -1 where it ends sooner."""
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    g = retrieval_ground(items, queries)

    def build(folder: Path) -> Path:
        if not (folder / "store.json").is_file():
            index_catalog(Store.create(folder, None, None, None), g.shop.catalog, None)
        return folder

    store = Store.open(QUEUE.shared(f"lexical-{items}-{queries}", build))
    place = {item: position for position, item in enumerate(g.shop.catalog.ids)}
    chosen = measured_queries(g, split)
    ranked = np.full((len(chosen), max(DEPTHS)), -1)
    for row, q in enumerate(chosen):
        hits = store.search_text(g.shop.queries[q].text, max(DEPTHS))
        ranked[row, : len(hits)] = [place[hit.item_id] for hit in hits]
    return ranked


def ranked_by(g: Ground, folder: Path, split: str) -> np.ndarray:
    """The first item positions of every measured query by an encoder."""
    encoder = Encoder.load(folder)
    queries = encoder.encode_queries([g.shop.queries[q].text for q in measured_queries(g, split)])
    return top_k(queries, encoder.encode_items(g.texts), max(DEPTHS))


def ranking_measures(g: Ground, split: str, ranked: np.ndarray, words: np.ndarray) -> dict[str, Any]:
    """Per query (Q,): hit rates, Goodrate, overlap with lexical search, exclusive recall, quality of the top 10.

    ranked: item positions (Q, 200), best first, -1 = nothing; words: those of lexical search. Hit rate @k: the share of
    a query's good items in its first k. A query without a good item is unknown (NaN) there and 0 in Goodrate.
    """
    good = g.shop.labels[measured_queries(g, split)] >= 2
    hits = np.take_along_axis(good, ranked, axis=1) & (ranked >= 0)
    total = np.where(good.any(axis=1), good.sum(axis=1), np.nan)
    pairs = zip(ranked[:, :LEXICAL], words[:, :LEXICAL], strict=True)
    both = np.asarray([np.isin(row, first) for row, first in pairs])
    return {
        **{f"hitrate@{k}": hits[:, :k].sum(axis=1) / total for k in DEPTHS},
        **{f"goodrate@{k}": hits[:, :k].mean(axis=1) for k in (10, 100)},
        "overlap@100": both.mean(axis=1),
        "exclusive_recall@100": (hits[:, :LEXICAL] & ~both).sum(axis=1) / total,
        "quality@10": g.shop.world.quality[ranked[:, :10]].mean(axis=1),
    }
