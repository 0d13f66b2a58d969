"""Stage 1 of Retrieval-GRPO on the shop: which negatives, which positives, and vectors that can be cut.

python benchmarks/retrieval_stage1.py run --seeds 0,1,2   one JSON per (arm, seed) in results/retrieval_stage1
python benchmarks/retrieval_stage1.py table --write       benchmarks/results/retrieval_stage1.md

Every arm is an encoder from scratch with the same number of updates of 96 pairs on the shop of seed 0; the seed decides
its first weights, the order of the pairs and the draws. Measured by the shop's full truth on test queries.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from goodrate.evaluation.significance import bootstrap_interval
from goodrate.learning.fit import FitSettings
from goodrate.learning.item_matrix import top_k
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive
from goodrate.recipes.hard_negatives import HardNegativeSettings
from goodrate.recipes.retriever_runs import positive_pairs
from goodrate.shop.shop import Shop, ShopSettings
from lib.queue import Job, Queue, Results, experiment
from lib.retrieval_arms import new_encoder
from lib.shop_data import data_of, shop_of
from lib.statistics import paired_mean
from lib.tables import add_table, markdown, mean, shown

QUEUE = Queue("retrieval_stage1")
TEST_QUERIES, CUTS, METRICS = 400, (8, 16, 32, 64), ("hitrate@100", "goodrate@10", "goodrate@100")


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    shop_items: int = 5000
    shop_queries: int = 2000
    updates: int = 100
    batch_size: int = 96
    learning_rate: float = 1e-3
    random_negatives: int = 64
    mined: Literal["none", "lexical", "model"] = "none"
    every: int = 50
    skip: int = 0
    pairs: Literal["clicks", "judgements", "both"] = "clicks"
    matryoshka: list[int] | None = None


ARMS: dict[str, dict[str, Any]] = {
    "random": {},
    "in-batch_only": {"random_negatives": 0},
    "more_random": {"random_negatives": 160},
    "lexical_hard": {"mined": "lexical"},
    "model_hard": {"mined": "model"},
    "matryoshka": {"matryoshka": list(CUTS)},
}


def trained(job: Job, s: Settings, shop: Shop) -> Path:
    """The arm's encoder."""
    pairs, positives = positive_pairs(data_of(s.shop_items, s.shop_queries), s.pairs)
    items = dict(zip(shop.catalog.ids, shop.catalog.text(), strict=True))
    hard = None if s.mined == "none" else HardNegativeSettings(source=s.mined, every=s.every, skip=s.skip)
    recipe = retriever_contrastive.Settings(
        encoder="from scratch", batch_size=s.batch_size, learning_rate=s.learning_rate, epochs=1000,
        random_negatives=s.random_negatives, hard_negatives=hard, matryoshka=s.matryoshka,
        fit=FitSettings(updates=s.updates, seed=job.seed),
    )  # fmt: skip
    first, out = new_encoder(job.seed), QUEUE.work_folder(job)
    return retriever_contrastive.train(recipe, pairs, items, out, positives=positives, encoder=first)


def measured(folder: Path, shop: Shop) -> dict[str, dict[str, list[float]]]:
    """Length of the vectors -> metric -> value of each test query."""
    encoder, test = Encoder.load(folder), shop.queries_of("test")[:TEST_QUERIES]
    queries = encoder.encode_queries([shop.queries[q].text for q in test.tolist()])
    items, good = encoder.encode_items(shop.catalog.text()), shop.labels[test] >= 2
    return {str(d): metrics(queries[:, :d], items[:, :d], good) for d in (encoder.dimension, *CUTS)}


def metrics(queries: np.ndarray, items: np.ndarray, good: np.ndarray) -> dict[str, list[float]]:
    """Per query by cosine; good: (Q, items) bool. A query without a good item has hit rate 0."""
    ranked = top_k(queries, items / np.linalg.norm(items, axis=1, keepdims=True), 100)
    hits = np.take_along_axis(good, ranked, axis=1)
    values = (hits.sum(axis=1) / np.maximum(good.sum(axis=1), 1), hits[:, :10].mean(axis=1), hits.mean(axis=1))
    return {name: [round(float(one), 5) for one in each] for name, each in zip(METRICS, values, strict=True)}


def measure(job: Job) -> dict[str, Any]:
    """Train and measure an arm."""
    s = job.settings
    assert isinstance(s, Settings)
    shop, began = shop_of(ShopSettings(items=s.shop_items, queries=s.shop_queries)), time.perf_counter()
    folder = trained(job, s, shop)
    seconds = time.perf_counter() - began
    by_length = measured(folder, shop)
    tail = [bool(shop.queries[q].tail) for q in shop.queries_of("test")[:TEST_QUERIES].tolist()]
    means = {d: {name: float(np.mean(v)) for name, v in values.items()} for d, values in by_length.items()}
    return {"training_seconds": seconds, "means": means, "tail": tail, "by_query": by_length}


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)


def by_query(results: Results, length: str, metric: str) -> np.ndarray:
    """A metric of every query, mean over seeds."""
    return np.mean([result["by_query"][length][metric] for result in results], axis=0)


def render() -> str:
    """Means over seeds and queries with the paired difference to random on the same seeds, then the cut vectors."""
    groups = QUEUE.by_arm()
    first = groups["random"]
    rows = [["arm", "seeds", *(t for m in METRICS for t in (m, "minus random")), "hitrate@100 tail", "seconds"]]
    for arm in [name for name in ARMS if name in groups]:
        own, cells = groups[arm], [arm, str(len(groups[arm]))]
        for metric in METRICS:
            gap = paired_mean(own, first, lambda results, metric=metric: by_query(results, "128", metric))
            cells += [shown(bootstrap_interval(by_query(own, "128", metric)))]
            cells += ["-" if arm == "random" else shown(gap, "+.3f")]
        tail = by_query(own, "128", "hitrate@100")[np.asarray(own[0]["tail"])].mean()
        rows.append([*cells, f"{tail:.3f}", mean(own, "training_seconds", ".0f")])
    cut = [["floats", "random: hitrate@100", "matryoshka: hitrate@100", "difference"]]
    for d in map(str, (*CUTS, 128)):
        both = groups["random"], groups["matryoshka"]
        levels = (shown(bootstrap_interval(by_query(own, d, "hitrate@100"))) for own in both)
        gap = paired_mean(both[1], both[0], lambda results, d=d: by_query(results, d, "hitrate@100"))
        cut.append([d, *levels, shown(gap, "+.3f")])
    return f"{markdown(rows)}\n\n{markdown(cut)}"


add_table(app, "retrieval_stage1", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
