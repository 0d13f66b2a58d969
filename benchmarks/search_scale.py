"""Latency, memory and disk of an index by its size, on generated items; and of peers that search by words.

python benchmarks/search_scale.py run 100000          one JSON per size; a size that is there is not measured again
python benchmarks/search_scale.py processor 100000    processor ms of a search, on a busy machine too, after run
python benchmarks/search_scale.py words 100000        what an index of that size has beside its table, after run
python benchmarks/search_scale.py table --write       benchmarks/results/search_scale.md

Texts are drawn from 50,000 words by Zipf's law (exponent 1.1), 12 words a title and 30 a description; vectors of 384
floats from 2,000 groups in 48 dimensions with noise, as those of encoders lie near a subspace. A query is three words
of an item's title and that item's vector with noise; encoding it is not in the times.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from goodrate.catalog.items import Catalog
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.search_words import count_words
from goodrate.retrieval.store import Store
from goodrate.retrieval.vector_index import APPROXIMATE_FROM
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, WORK, hardware
from lib.tables import add_table, markdown

NAME = "search_scale"
D, GROUPS, INNER, VOCABULARY = 384, 2000, 48, 50_000
PART, QUERIES, K = 50_000, 100, 10
FILTER = "price < 20 AND brand = 'brand7'"
app = typer.Typer(add_completion=False, help=__doc__)


class Generated:
    """Items and queries of one size, made in parts that depend on nothing but their place."""

    def __init__(self, size: int) -> None:
        self.size = size
        draw = np.random.default_rng(0)
        self.groups = draw.standard_normal((GROUPS, INNER)).astype(np.float32)
        self.plane = draw.standard_normal((INNER, D)).astype(np.float32) / 7
        weights = 1 / np.arange(1, VOCABULARY + 1) ** 1.1
        self.odds = np.cumsum(weights / weights.sum())
        self.words = np.array([f"w{n:x}q" for n in range(VOCABULARY)])

    def part(self, first: int) -> tuple[Catalog, np.ndarray]:
        """Items from a place on, and their vectors."""
        count = min(PART, self.size - first)
        draw = np.random.default_rng(1000 + first)
        text = self.words[np.minimum(np.searchsorted(self.odds, draw.random((count, 42))), VOCABULARY - 1)]
        frame = pl.DataFrame({
            "id": [f"i{n}" for n in range(first, first + count)],
            "title": [" ".join(row[:12]) for row in text], "description": [" ".join(row[12:]) for row in text],
            "brand": [f"brand{n}" for n in draw.integers(0, 100, count)], "price": draw.lognormal(3, 1, count),
        })  # fmt: skip
        return Catalog(frame), self._vectors(draw, count)

    def _vectors(self, draw: np.random.Generator, count: int) -> np.ndarray:
        inner = self.groups[draw.integers(0, GROUPS, count)] + 0.6 * draw.standard_normal((count, INNER))
        return _unit(inner @ self.plane + 0.25 * draw.standard_normal((count, D)))

    def queries(self) -> tuple[list[str], np.ndarray]:
        """Texts and vectors of queries."""
        catalog, vectors = self.part(0)
        draw = np.random.default_rng(7)
        rows = draw.integers(0, len(catalog), QUERIES)
        texts = [" ".join(draw.permutation(catalog.frame["title"][int(row)].split())[:3]) for row in rows]
        return texts, _unit(vectors[rows] + 0.03 * draw.standard_normal((QUERIES, D)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Known:
    """An encoder that has the queries' vectors at hand."""

    fingerprint, dimension = "generated", D

    def __init__(self, texts: list[str], vectors: np.ndarray) -> None:
        self._vectors = dict(zip(texts, vectors, strict=True))

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """The vectors (N, D) of known texts."""
        return np.stack([self._vectors[text] for text in texts])

    encode_items = encode_queries


@app.command()
def run(size: Annotated[int, typer.Argument(help="Items.")]) -> None:
    """Make the index, search it, ask the peers."""
    path = RESULTS / NAME / f"{size}.json"
    if path.is_file():
        print(path)
        return
    made, folder = Generated(size), WORK / NAME / str(size)
    seconds = filled(made, folder)
    store = Store.open(folder)
    texts, vectors = made.queries()
    searcher = Searcher(store, Known(texts, vectors))
    result = {
        "items": size, **code_versions(), "hardware": hardware(), "index_seconds": round(seconds, 1),
        "memory_mb": _peak_mb(),
        "disk_mb": round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6),
        "latency": {mode: timed(texts, lambda q, mode=mode: searcher.search(q, K, mode=mode)) for mode in
                    ("lexical", "dense", "hybrid")},
        "filtered": timed(texts, lambda q: searcher.search(q, K, FILTER)),
        "recall": recall(store, vectors), "peers": peers(made, texts),
    }  # fmt: skip
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path)


@app.command()
def processor(
    size: Annotated[int, typer.Argument(help="Items that run has measured.")],
    queries: Annotated[int, typer.Option(help="How many of its queries are asked.")] = 30,
) -> None:
    """Processor milliseconds of a search in each mode, of all threads, added to what run has written."""
    path, made, folder = RESULTS / NAME / f"{size}.json", Generated(size), WORK / NAME / str(size)
    filled(made, folder)
    texts, vectors = made.queries()
    searcher, asked = Searcher(Store.open(folder), Known(texts, vectors)), texts[:queries]
    searches: dict[str, Callable[[str], Any]] = {
        mode: lambda query, mode=mode: searcher.search(query, K, mode=mode)  # type: ignore[misc]
        for mode in ("lexical", "dense", "hybrid")
    }
    searches["filtered"] = lambda query: searcher.search(query, K, FILTER)
    found = {name: _processor_ms(asked, search) for name, search in searches.items()}
    result = json.loads(path.read_text()) | {"processor_ms": found}
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path, found)


def _processor_ms(queries: list[str], search: Callable[[str], Any]) -> float:
    """The mean over the queries, the first of which is asked twice."""
    search(queries[0])
    start = time.process_time()
    for query in queries:
        search(query)
    return round(1000 * (time.process_time() - start) / len(queries), 1)


@app.command()
def words(size: Annotated[int, typer.Argument(help="Items of an index that run has made.")]) -> None:
    """Count the words for spelling and suggestions, and read all values for facets, in a process of its own."""
    path, store = RESULTS / NAME / f"{size}-words.json", Store.open(WORK / NAME / str(size))
    wall, processor = time.perf_counter(), time.process_time()
    assert count_words(store, len(store))
    result = {"items": size, "words_seconds": round(time.perf_counter() - wall, 1)}
    result |= {"words_cpu_seconds": round(time.process_time() - processor, 1), "words_memory_mb": _peak_mb()}
    processor = time.process_time()
    store.facets.table()
    result |= {"facets_cpu_seconds": round(time.process_time() - processor, 1), "memory_mb": _peak_mb()}
    write_atomic(path, json.dumps({**result, **code_versions(), "hardware": hardware()}, indent=1) + "\n")
    print(path)


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def filled(made: Generated, folder: Path) -> float:
    """Write the items into an index that has none; seconds, without those of making them."""
    store = Store.open(folder) if (folder / "store.json").is_file() else Store.create(folder, "generated", D)
    seconds = 0.0
    for first in range(len(store), made.size, PART):  # a run that was cut off goes on
        catalog, vectors = made.part(first)
        start = time.perf_counter()
        store.upsert(catalog, vectors, refresh=False)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    store.refresh()
    return seconds + time.perf_counter() - start


def timed(queries: list[str], search: Callable[[str], Any]) -> dict[str, float]:
    """Milliseconds of a search, the first five not counted."""
    milliseconds = []
    for query in [*queries[:5], *queries]:
        start = time.perf_counter()
        search(query)
        milliseconds.append(1000 * (time.perf_counter() - start))
    low, high = np.percentile(milliseconds[5:], [50, 95])
    return {"p50": round(float(low), 2), "p95": round(float(high), 2)}


def recall(store: Store, vectors: np.ndarray) -> dict[str, float] | None:
    """Share of the exact best that an approximate search finds, and what an exact one takes; None for a small index."""
    if len(store) < APPROXIMATE_FROM:
        return None
    found: dict[int, list[float]] = {10: [], 100: []}
    start = time.perf_counter()
    exact = [store.search_vector(vector, 100, exact=True) for vector in vectors]
    milliseconds = 1000 * (time.perf_counter() - start) / len(vectors)
    for best, vector in zip(exact, vectors, strict=True):
        near = store.search_vector(vector, 100)
        for k, values in found.items():
            values.append(len({hit.item_id for hit in near[:k]} & {hit.item_id for hit in best[:k]}) / k)
    return {f"recall@{k}": round(float(np.mean(v)), 4) for k, v in found.items()} | {"exact_ms": round(milliseconds, 1)}


def peers(made: Generated, queries: list[str]) -> dict[str, Any]:
    """bm25s and tantivy on the same titles and descriptions."""
    texts = []
    for first in range(0, made.size, PART):
        frame = made.part(first)[0].frame
        texts += (frame["title"] + " " + frame["description"]).to_list()
    return {name: peer(texts, queries) for name, peer in (("bm25s", _bm25s), ("tantivy", _tantivy))}


def _bm25s(texts: list[str], queries: list[str]) -> dict[str, float]:
    import bm25s

    start = time.perf_counter()
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    seconds = time.perf_counter() - start

    def search(query: str) -> Any:
        return index.retrieve(bm25s.tokenize(query, show_progress=False), k=K, show_progress=False)

    return {"index_seconds": round(seconds, 1), **timed(queries, search)}


def _tantivy(texts: list[str], queries: list[str]) -> dict[str, float]:
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("body", stored=False, tokenizer_name="en_stem").build()
    index = tantivy.Index(schema)
    start = time.perf_counter()
    writer = index.writer(heap_size=256_000_000, num_threads=1)
    for text in texts:
        writer.add_document(tantivy.Document(body=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    seconds, searcher = time.perf_counter() - start, index.searcher()
    return {"index_seconds": round(seconds, 1),
            **timed(queries, lambda q: searcher.search(index.parse_query(q, ["body"]), K))}  # fmt: skip


def render() -> str:
    """A row per size."""
    every = [json.loads(path.read_text()) for path in (RESULTS / NAME).glob("*.json")]
    found = sorted((one for one in every if "latency" in one), key=lambda one: one["items"])
    counted = sorted((one for one in every if "words_seconds" in one), key=lambda one: one["items"])
    head = ["items", "lexical p50, p95 ms", "dense", "hybrid", "hybrid, filtered", "bm25s", "tantivy", "index s",
            "memory MB", "disk MB", "recall@10, @100 against exact (ms)",
            "processor ms: lexical, dense, hybrid, filtered"]  # fmt: skip
    rows = [head]
    for one in found:
        cells = [*one["latency"].values(), one["filtered"], *one["peers"].values()]
        near = one["recall"]
        told = f"{near['recall@10']}, {near['recall@100']} ({near['exact_ms']})" if near else "exact"
        rows.append([f"{one['items']:,}", *(f"{cell['p50']}, {cell['p95']}" for cell in cells),
                     str(one["index_seconds"]), str(one["memory_mb"]), str(one["disk_mb"]), told,
                     ", ".join(map(str, one.get("processor_ms", {}).values())) or "-"])  # fmt: skip
    head = ["items", "spelling and suggestions: s, processor s, peak MB", "values for facets: processor s", "peak MB"]
    beside = [head]
    beside += [
        [f"{one['items']:,}", f"{one['words_seconds']}, {one['words_cpu_seconds']}, {one['words_memory_mb']:,}",
         str(one["facets_cpu_seconds"]), f"{one['memory_mb']:,}"]
        for one in counted
    ]  # fmt: skip
    return "\n\n".join([markdown(rows), *(["### Beside the table", markdown(beside)] if counted else [])])


add_table(app, NAME, render, "The table of all sizes.")

if __name__ == "__main__":
    app()
