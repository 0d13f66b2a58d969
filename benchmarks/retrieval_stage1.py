"""Stage 1 of Retrieval-GRPO on the shop: which negatives, which positives, and vectors that can be cut.

python benchmarks/retrieval_stage1.py run --seeds 0,1,2   one JSON per (arm, seed) in results/retrieval_stage1
python benchmarks/retrieval_stage1.py table               what is there

Every arm is an encoder from scratch with the same number of updates of 96 pairs on the shop of seed 0; the seed decides
its first weights, the order of the pairs and the draws. Measured by the shop's full truth on test queries.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from experiment import Job, Queue, add_run, with_interval
from goodrate.cli.train_retriever import pairs_of
from goodrate.cli.training_data import DataSettings, TrainingData, load_data
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.learning.fit import FitSettings
from goodrate.learning.item_matrix import top_k
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.recipes import retriever_contrastive
from goodrate.recipes.hard_negatives import HardNegativeSettings
from goodrate.shop.shop import Shop, ShopSettings, generate

QUEUE = Queue("retrieval_stage1")
TEST_QUERIES, CUTS = 400, (8, 16, 32, 64)


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
    "in-batch only": {"random_negatives": 0},
    "more random": {"random_negatives": 160},
    "lexical hard": {"mined": "lexical"},
    "model hard": {"mined": "model"},
    "model hard, skip 20": {"mined": "model", "skip": 20},
    "judgements": {"pairs": "judgements"},
    "both": {"pairs": "both"},
    "matryoshka": {"matryoshka": list(CUTS)},
}


@functools.cache
def ground(items: int, queries: int) -> tuple[Shop, TrainingData]:
    """The shop of seed 0, and what `goodrate train` sees of it."""
    settings = ShopSettings(items=items, queries=queries)
    return generate(settings), load_data(DataSettings(shop=settings))


def trained(job: Job, s: Settings) -> Path:
    """The arm's encoder."""
    shop, data = ground(s.shop_items, s.shop_queries)
    pairs, positives = pairs_of(data, s.pairs)
    items = dict(zip(shop.catalog.ids, shop.catalog.text(), strict=True))
    start = Encoder.create(
        nano_folder() / "tokenizer.json", 128, 2, query_prompt="query: ", item_prompt="item: ", seed=job.seed
    )
    hard = None if s.mined == "none" else HardNegativeSettings(source=s.mined, every=s.every, skip=s.skip)
    recipe = retriever_contrastive.Settings(
        encoder="from scratch", batch_size=s.batch_size, learning_rate=s.learning_rate, epochs=1000,
        random_negatives=s.random_negatives, hard_negatives=hard, matryoshka=s.matryoshka,
        fit=FitSettings(updates=s.updates, seed=job.seed),
    )  # fmt: skip
    return retriever_contrastive.train(recipe, pairs, items, QUEUE.folder(job), positives=positives, encoder=start)


def measured(folder: Path, shop: Shop) -> dict[str, dict[str, list[float]]]:
    """Length of the vectors -> metric -> value of each test query."""
    encoder, test = Encoder.load(folder), shop.queries_of("test")[:TEST_QUERIES]
    queries = encoder.encode_queries([shop.queries[q].text for q in test.tolist()])
    items, good = encoder.encode_items(shop.catalog.text()), shop.labels[test] >= 2
    return {str(d): _metrics(queries[:, :d], items[:, :d], good) for d in (encoder.dimension, *CUTS)}


def _metrics(queries: np.ndarray, items: np.ndarray, good: np.ndarray) -> dict[str, list[float]]:
    ranked = top_k(queries, items / np.linalg.norm(items, axis=1, keepdims=True), 100)
    hits = np.take_along_axis(good, ranked, axis=1)
    found = {
        "hitrate@100": hits.sum(axis=1) / np.maximum(good.sum(axis=1), 1),
        "goodrate@10": hits[:, :10].mean(axis=1),
        "goodrate@100": hits.mean(axis=1),
    }
    return {name: [round(float(value), 5) for value in values] for name, values in found.items()}


def make(job: Job) -> dict[str, Any]:
    """Train and measure an arm."""
    s = job.settings
    assert isinstance(s, Settings)
    shop, _ = ground(s.shop_items, s.shop_queries)
    began = time.perf_counter()
    folder = trained(job, s)
    seconds = time.perf_counter() - began
    by_length = measured(folder, shop)
    tail = [bool(shop.queries[q].tail) for q in shop.queries_of("test")[:TEST_QUERIES].tolist()]
    means = {d: {name: float(np.mean(v)) for name, v in metrics.items()} for d, metrics in by_length.items()}
    return {"training_seconds": seconds, "means": means, "tail": tail, "by_query": by_length}


app = typer.Typer(add_completion=False, help=__doc__)
name_of = {arm: arm.replace(" ", "_").replace(",", "") for arm in ARMS}
add_run(
    app, QUEUE, Settings, tuple(name_of.values()), make,
    lambda arm, seed, base: Job(
        arm, seed, base.model_copy(update=ARMS[next(own for own, name in name_of.items() if name == arm)])
    ),
)  # fmt: skip


@app.command()
def table() -> None:
    """Means over seeds and queries with the paired difference to random on the same seeds, then the cut vectors."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for found in QUEUE.found():
        groups.setdefault(found["arm"], []).append(found)
    metrics = ("hitrate@100", "goodrate@10", "goodrate@100")
    print(" | ".join(["arm", "seeds", *(f"{m} | minus random" for m in metrics), "hitrate@100 tail", "seconds"]))
    print(" | ".join(["---"] * 10))
    for arm in [name for name in name_of.values() if name in groups]:
        cells, seeds = [], {found["seed"] for found in groups[arm]}
        same = [found for found in groups["random"] if found["seed"] in seeds]
        for metric in metrics:
            values, first = by_query(groups[arm], "128", metric), by_query(same, "128", metric)
            cells += [with_interval(bootstrap_interval(values), ".3f")]
            cells += ["-" if arm == "random" else with_interval(paired_bootstrap_difference(values, first), "+.3f")]
        tail = np.asarray(groups[arm][0]["tail"])
        cells.append(f"{by_query(groups[arm], '128', 'hitrate@100')[tail].mean():.3f}")
        seconds = np.mean([found["training_seconds"] for found in groups[arm]])
        print(" | ".join([arm, str(len(groups[arm])), *cells, f"{seconds:.0f}"]))
    print("\nfloats | random: hitrate@100 | matryoshka: hitrate@100 | difference")
    print(" | ".join(["---"] * 4))
    for d in ("8", "16", "32", "64", "128"):
        a, b = (by_query(groups[arm], d, "hitrate@100") for arm in ("random", "matryoshka"))
        gap = with_interval(paired_bootstrap_difference(b, a), "+.3f")
        print(" | ".join([d, with_interval(bootstrap_interval(a)), with_interval(bootstrap_interval(b)), gap]))


def by_query(results: list[dict[str, Any]], length: str, metric: str) -> np.ndarray:
    """A metric of every query, mean over seeds."""
    return np.mean([found["by_query"][length][metric] for found in results], axis=0)


if __name__ == "__main__":
    app()
