"""The store at 1k, 10k and 100k generated items: index time, peak memory, latency by mode, beside numpy and bm25s.

Each size is indexed in one fresh process and searched in another, so that their peak memory is theirs alone:
python benchmarks/speed_store.py index FOLDER ITEMS.parquet | search FOLDER ITEMS.parquet     print one JSON document
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lib import timing
from lib.tables import markdown
from lib.timing import Document, Measurement, Sample, call_sample, number, peak_mib, significant

DIMENSION, K, QUERIES, WARMUP = 128, 10, 200, 20
MODES = ("lexical", "dense", "hybrid")


class RandomEncoder:
    """Unit vectors from a seed, whatever the texts say: indexing and search without the cost of a network."""

    fingerprint = "random unit vectors"
    dimension = DIMENSION

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        """(N, DIMENSION) float32."""
        drawn = self._rng.standard_normal((len(texts), DIMENSION), dtype=np.float32)
        unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    encode_queries = encode_items


def items_file(count: int) -> Path:
    """Items of the embedded shop's world (seed 0) as parquet. Made once."""
    import polars as pl

    from goodrate.run_folder import write_atomic
    from goodrate.shop.world import item_records, make_world

    path = timing.WORK / f"items-{count}.parquet"
    if not path.is_file():
        beside = path.with_suffix(".part")
        timing.WORK.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(item_records(make_world(0, count))).write_parquet(beside)
        write_atomic(path, beside.read_bytes())
        beside.unlink()
    return path


def query_texts() -> list[str]:
    """What shoppers of that world type. Its brands and lines are the same at every size."""
    from goodrate.shop.shop import ShopSettings, generate

    return [query.text for query in generate(ShopSettings(seed=0, items=1000, queries=QUERIES)).queries]


def measure_store(size: int, repeats: int) -> Path:
    """Index and search one size `repeats` times, each time in processes of its own."""
    items, folder = items_file(size), timing.WORK / f"store-{size}"
    result = Measurement(f"store-{size}", f"python benchmarks/speed.py store --sizes {size} --repeats {repeats}")
    runs: dict[str, list[Any]] = {"index": [], "search": []}
    for _ in range(repeats):
        shutil.rmtree(folder, ignore_errors=True)
        for verb, documents in runs.items():
            command = [sys.executable, __file__, verb, str(folder), str(items)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            documents.append(json.loads(printed))
    size_on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    facts = {"dimension": DIMENSION, "k": K, "queries": QUERIES, "disk_mib": significant(size_on_disk, 4)}
    shutil.rmtree(folder)
    return result.write(items=size, **facts, **runs)


def index(folder: Path, items: Path) -> dict[str, Any]:
    """Index a catalogue as `goodrate index` does, again with nothing changed, with ten new prices, and without an item.

    The removed item is then put back, so that the search sees all of them.
    """
    import polars as pl

    from goodrate.catalog.items import Catalog
    from goodrate.catalog.readers import read_catalog
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    catalog = read_catalog(items)
    store, before = Store.create(folder, RandomEncoder.fingerprint, DIMENSION), peak_mib()
    first = call_sample(lambda: index_catalog(store, catalog, RandomEncoder(0)))
    peak = peak_mib()
    again = call_sample(lambda: index_catalog(store, catalog, RandomEncoder(0)))
    priced = Catalog(catalog.frame[-10:].with_columns(price=pl.col("price").fill_null(0.0) + 1.0))
    prices = call_sample(lambda: index_catalog(store, priced, RandomEncoder(0)))
    removal = call_sample(lambda: store.remove(catalog.ids[:1]))
    index_catalog(store, catalog[:1], RandomEncoder(0))
    seconds = {
        "seconds": _rounded(first), "again_seconds": _rounded(again), "prices_seconds": _rounded(prices),
        "remove_seconds": _rounded(removal),
    }  # fmt: skip
    return {**seconds, "peak_mib": peak, "peak_mib_before": before}


def search(folder: Path, items: Path) -> dict[str, Any]:
    """Latency of the modes and of the peers, query by query in turn. Memory is taken before the peers are loaded."""
    from goodrate.retrieval.search import Searcher
    from goodrate.retrieval.store import Store

    texts, vectors = query_texts(), RandomEncoder(1).encode_items([""] * QUERIES)
    turn = {"row": 0}

    class OneVector(RandomEncoder):
        def encode_queries(self, texts: list[str]) -> np.ndarray:
            return vectors[turn["row"] : turn["row"] + 1]

    import lancedb  # noqa: F401  imported now, so that "open" is opening

    before = peak_mib()
    start = time.perf_counter()
    searcher = Searcher(Store.open(folder), OneVector(1))
    opened = time.perf_counter() - start

    def of_mode(mode: str) -> Any:
        return searcher.search(texts[turn["row"]], K, None, mode)

    arms: dict[str, Callable[[], Any]] = {mode: partial(of_mode, mode) for mode in MODES}
    first = {mode: round(call_sample(arms[mode]).wall * 1000, 2) for mode in MODES}
    for row in range(WARMUP):
        turn["row"] = row
        for arm in arms.values():
            arm()
    peak = peak_mib()
    peers, checks = _peers(searcher.store, items, texts, vectors, turn)
    arms |= peers
    samples: dict[str, list[Sample]] = {name: [] for name in arms}
    for row in range(-WARMUP, QUERIES):
        turn["row"] = max(row, 0)
        for name, arm in arms.items():
            sample = call_sample(arm)
            if row >= 0:
                samples[name].append(sample)
    return {
        "open_ms": round(opened * 1000, 2), "first_ms": first, "peak_mib": peak, "peak_mib_before": before,
        "latency": {name: latency(one) for name, one in samples.items()},
        "checks": {**checks, "dense_top_equals_numpy": _same_top(arms, turn)},
    }  # fmt: skip


def latency(samples: list[Sample]) -> dict[str, float]:
    """Median, 95th percentile and quartiles of the wall time, and the median of the processor time, in ms."""
    wall = [sample.wall * 1000 for sample in samples]
    ends = timing.spread(wall, 4)
    cpu = significant(float(np.median([sample.cpu for sample in samples]) * 1000), 4)
    return {"p50": ends["median"], "p95": significant(float(np.percentile(wall, 95)), 4), **ends, "cpu_p50": cpu}


def _peers(
    store: Any, items: Path, texts: list[str], vectors: np.ndarray, turn: dict[str, int]
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """numpy's exact top-k over all vectors in memory, and bm25s over the same texts where it is installed."""
    ids, matrix = store.vectors()

    def numpy_top() -> list[str]:
        scores = matrix @ vectors[turn["row"]]
        top = np.argpartition(-scores, K)[:K]
        return [ids[i] for i in top[np.argsort(-scores[top])]]

    try:
        import bm25s
    except ImportError:
        return {"numpy dense": numpy_top}, {"bm25s": None}
    from goodrate.catalog.readers import read_catalog

    retriever = bm25s.BM25()
    tokenize = partial(bm25s.tokenize, stopwords=None, show_progress=False)
    wall = call_sample(lambda: retriever.index(tokenize(read_catalog(items).text()), show_progress=False))

    def bm25s_top() -> Any:
        return retriever.retrieve(tokenize([texts[turn["row"]]]), k=K, show_progress=False)

    facts = {"bm25s": bm25s.__version__, "bm25s_index_seconds": _rounded(wall)}
    return {"numpy dense": numpy_top, "bm25s lexical": bm25s_top}, facts


def _same_top(arms: dict[str, Callable[[], Any]], turn: dict[str, int]) -> float:
    """Share of the queries where dense search and numpy name the same items in the same order."""
    same = 0
    for row in range(QUERIES):
        turn["row"] = row
        same += [hit.item_id for hit in arms["dense"]()] == arms["numpy dense"]()
    return same / QUERIES


def _rounded(sample: Sample) -> dict[str, float]:
    """Wall and processor seconds."""
    return {"wall": significant(sample.wall, 4), "cpu": significant(sample.cpu, 4)}


FIGURES = {  # row -> verb and keys of each run
    "index, wall s": ("index", "seconds", "wall"),
    "index, processor s": ("index", "seconds", "cpu"),
    "index again, nothing changed, wall s": ("index", "again_seconds", "wall"),
    "ten prices changed, wall s": ("index", "prices_seconds", "wall"),
    "one item removed, wall s": ("index", "remove_seconds", "wall"),
    "peak memory while indexing, MiB": ("index", "peak_mib"),
    "of which before the first item": ("index", "peak_mib_before"),
    "peak memory while searching, MiB": ("search", "peak_mib"),
    "of which before opening": ("search", "peak_mib_before"),
}


def render(documents: dict[str, Document]) -> list[str]:
    """A row per figure, a column per size, and how each figure grows; nothing without a result."""
    stores = sorted((d for name, d in documents.items() if name.startswith("store-")), key=lambda d: int(d["items"]))
    if not stores:
        return []
    sizes, first = [int(d["items"]) for d in stores], stores[0]
    rows = [
        figure(name, sizes, _runs(stores, *keys))
        for name, keys in FIGURES.items()
        if all(keys[1] in run for document in stores for run in document[keys[0]])  # older results lack some
    ]
    rows.append(figure("on disk, MiB", sizes, [[d["disk_mib"]] for d in stores]))
    for mode in first["search"][0]["latency"]:
        for point in ("p50", "p95"):
            rows.append(figure(f"{mode}, ms {point}", sizes, _runs(stores, "search", "latency", mode, point)))
    same = min(min(values) for values in _runs(stores, "search", "checks", "dense_top_equals_numpy"))
    facts = (
        f"Median of {len(first['index'])} indexes and their searches, each in a fresh process (min to max). "
        f"{first['dimension']} random floats an item, first {first['k']} results, {first['queries']} queries a mode in "
        "turn with the peers; encoding the query is not in it. Growth is the exponent b of figure ~ items^b, over all "
        f"sizes and from the last but one to the last. Dense search names numpy's first {first['k']} in numpy's order "
        f"for {same:.1%} of the queries."
    )
    head = ["", *(f"{size:,}" for size in sizes), "growth", "growth, last step"]
    where = timing.conditions(stores, "python benchmarks/speed.py store" if len(stores) > 1 else "")
    return ["### The store, by number of items", where, markdown([head, *rows]), facts]


def figure(name: str, sizes: Sequence[int], runs: Sequence[Sequence[float]]) -> list[str]:
    """A table row: per size the median of its runs with the ends, then the timing.growth of the medians.

    >>> figure("ms", [10, 100], [[1.0, 2.0, 3.0], [20.0]])
    ['ms', '2 (1 to 3)', '20', '1.00', '1.00']
    """
    middle = [median(values) for values in runs]
    cells = [
        f"{number(m)} ({number(min(v))} to {number(max(v))})" if len(v) > 1 else number(m)
        for m, v in zip(middle, runs, strict=True)
    ]
    slopes = [f"{timing.growth(sizes[-n:], middle[-n:]):.2f}" if len(sizes) > 1 else "" for n in (len(sizes), 2)]
    return [name, *cells, *slopes]


def _runs(documents: Sequence[Document], verb: str, *keys: str) -> list[list[float]]:
    """Per document the value under the keys in each of its runs."""
    return [[float(functools.reduce(lambda inner, key: inner[key], keys, run)) for run in d[verb]] for d in documents]


if __name__ == "__main__":
    os.environ.setdefault("LANCEDB_LOG", "error")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("index", "search"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("items", type=Path)
    given = parser.parse_args()
    print(json.dumps({"index": index, "search": search}[given.verb](given.folder, given.items)))
