"""Approximate indexes over vectors against exact search: recall, latency, build time, memory and disk by size.

python benchmarks/vector_index.py run 100000                       one JSON per size and arm
python benchmarks/vector_index.py run 1000000 --arms ivf_sq,ivf_pq
python benchmarks/vector_index.py table --write                    benchmarks/results/vector_index.md

An arm and size whose result is there is not measured again, and the vectors of a size are made once (runs/). They are
384 floats of unit length from 2,000 groups in 48 dimensions with noise, as those of encoders lie near a subspace;
queries are items' vectors with noise. Each index is what goodrate index --ann makes and is searched as goodrate
searches it (retrieval.vector_index), one query at a time, in a process of its own. Exact is the engine's search without
an index; recall is the share of the best 10 and 100 of a matrix product over all vectors that a search finds. Processor
seconds are those of all threads; memory is what the process held at its peak, without the making of the vectors.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel

from goodrate.retrieval import vector_index
from lib.queue import Job, Queue
from lib.tables import add_table, markdown

NAME = "vector_index"
D, GROUPS, INNER, PART = 384, 2000, 48, 50_000
QUERIES, FEW, K = 200, 30, 100  # FEW: of an exact search, which takes long
app = typer.Typer(add_completion=False, help=__doc__)


class Settings(BaseModel):
    """What decides the numbers. lists, refine: LISTS_READ and REFINE of retrieval.vector_index."""

    size: int
    lists: int = vector_index.LISTS_READ
    refine: int = vector_index.REFINE


def vectors(first: int, count: int) -> np.ndarray:
    """(count, D) float32: the vectors from a place on; they depend on the place alone."""
    fixed, draw = np.random.default_rng(0), np.random.default_rng([1, first])
    groups = fixed.standard_normal((GROUPS, INNER)).astype(np.float32)
    plane = fixed.standard_normal((INNER, D)).astype(np.float32) / 7
    inner = groups[draw.integers(0, GROUPS, count)] + 0.6 * draw.standard_normal((count, INNER), dtype=np.float32)
    return _unit(inner @ plane + 0.25 * draw.standard_normal((count, D), dtype=np.float32))


def queries(size: int) -> np.ndarray:
    """(QUERIES, D): vectors of the first items with noise."""
    draw = np.random.default_rng(7)
    rows = draw.integers(0, min(size, PART), QUERIES)
    return _unit(vectors(0, min(size, PART))[rows] + 0.03 * draw.standard_normal((QUERIES, D), dtype=np.float32))


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def table_of(folder: Path, size: int = 0) -> Any:
    """The table of a folder. size: filled up to so many vectors where it has fewer."""
    import lancedb
    import pyarrow as pa

    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), D))])
    table = lancedb.connect(str(folder)).create_table("vectors", schema=schema, exist_ok=True)
    for first in range(table.count_rows(), size, PART):
        part = vectors(first, min(PART, size - first))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), D)
        table.add(pa.table([pa.array(range(first, first + len(part))), flat], schema=schema))
    return table


def best(size: int, asked: np.ndarray) -> np.ndarray:
    """(Q, K) the ids with the largest dot product, best first."""
    scores, ids = np.zeros((len(asked), 0), dtype=np.float32), np.zeros((len(asked), 0), dtype=np.int64)
    for first in range(0, size, PART):
        part = asked @ vectors(first, min(PART, size - first)).T
        scores = np.concatenate([scores, part], axis=1)
        ids = np.concatenate([ids, np.tile(np.arange(first, first + part.shape[1]), (len(asked), 1))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
    return ids


def made(job: Job, queue: Queue) -> Path:
    """The folder with the vectors of a job's size, and the ids that its queries are to find."""

    def build(folder: Path) -> Path:
        table_of(folder, job.settings.size)
        if not (folder / "best.npy").is_file():
            np.save(folder / "best.npy", best(job.settings.size, queries(job.settings.size)))
        return folder

    return queue.shared(f"vectors-{job.settings.size}", build)


def measure(job: Job, folder: Path) -> dict[str, Any]:
    """The numbers of one arm and size; its index is dropped again."""
    from datetime import timedelta

    settings, table = job.settings, table_of(folder)
    vector_index.LISTS_READ, vector_index.REFINE = settings.lists, settings.refine
    exact, built = job.arm == vector_index.EXACT, {}
    if not exact:
        before, wall, cpu = _bytes(folder), time.perf_counter(), time.process_time()
        vector_index.make(table, job.arm)
        built = {"build_s": time.perf_counter() - wall, "build_cpu_s": time.process_time() - cpu,
                 "index_mb": (_bytes(folder) - before) / 2**20}  # fmt: skip
    built["build_memory_mb"] = _peak()
    count = FEW if exact else QUERIES
    searched = search(table, queries(settings.size)[:count], np.load(folder / "best.npy")[:count], exact)
    if not exact:
        table.drop_index(vector_index.index_name(table))
        table.optimize(cleanup_older_than=timedelta(0))  # so that the next arm finds the vectors alone
    return {**built, **searched, "memory_mb": _peak()}


def search(table: Any, asked: np.ndarray, right: np.ndarray, exact: bool) -> dict[str, float]:
    """Recall, milliseconds and processor milliseconds of a search; the first ten queries are asked twice."""
    found, times, cpu = [], [], 0.0
    for number in [*range(10), *range(len(asked))]:
        wall, processor = time.perf_counter(), time.process_time()
        rows = vector_index.nearest(table, asked[number], exact).select(["id", "_distance"]).limit(K).to_arrow()
        times.append(1000 * (time.perf_counter() - wall))
        cpu += 1000 * (time.process_time() - processor)
        found.append(rows["id"].to_pylist())
    pairs = list(zip(found[10:], right.tolist(), strict=True))
    share = {f"recall@{k}": float(np.mean([len({*f[:k]} & {*b[:k]}) / k for f, b in pairs])) for k in (10, K)}
    low, high = np.percentile(times[10:], [50, 95])
    return {**share, "p50_ms": float(low), "p95_ms": float(high), "cpu_ms": cpu / len(times)}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@app.command()
def run(
    size: Annotated[int, typer.Argument(help="Vectors.")],
    arms: Annotated[str, typer.Option(help=f"Of {', '.join(vector_index.KINDS)}.")] = ",".join(vector_index.KINDS),
    lists: int = vector_index.LISTS_READ,
    refine: int = vector_index.REFINE,
    here: Annotated[bool, typer.Option(help="Not in processes of their own; for one arm.")] = False,
) -> None:
    """Measure the arms that have no result, each in a process of its own."""
    queue, settings = Queue(NAME), Settings(size=size, lists=lists, refine=refine)
    for job in (Job(arm, 0, settings) for arm in arms.split(",")):
        if queue.path(job).is_file():
            continue
        folder = made(job, queue)
        if here:
            queue.run([job], lambda job, folder=folder: measure(job, folder))  # type: ignore[misc]
            continue
        options = ["--arms", job.arm, "--lists", str(lists), "--refine", str(refine), "--here"]
        subprocess.run([sys.executable, __file__, "run", str(size), *options], check=True)


def render() -> str:
    """A row per size and arm."""
    head = ["vectors", "index", "recall@10", "recall@100", "p50, p95 ms", "processor ms a query", "build s (processor)",
            "peak MB building, searching", "index on disk MB"]  # fmt: skip
    results = sorted(Queue(NAME).results(), key=lambda one: (one["settings"]["size"], one["arm"]))
    return markdown([head, *map(_row, results)])


def _row(one: dict[str, Any]) -> list[str]:
    asked = one["settings"]
    plain = (asked["lists"], asked["refine"]) == (vector_index.LISTS_READ, vector_index.REFINE)
    name = one["arm"] + ("" if plain else f", {asked['lists']} lists, refine {asked['refine']}")
    built = f"{one['build_s']:.0f} ({one['build_cpu_s']:.0f})" if "build_s" in one else "-"
    disk = f"{one['index_mb']:,.0f}" if "index_mb" in one else "-"
    return [f"{asked['size']:,}", name, f"{one['recall@10']:.3f}", f"{one['recall@100']:.3f}",
            f"{one['p50_ms']:.1f}, {one['p95_ms']:.1f}", f"{one['cpu_ms']:.1f}", built,
            f"{one['build_memory_mb']:,.0f}, {one['memory_mb']:,.0f}", disk]  # fmt: skip


add_table(app, NAME, render, "Print the table of the results, or write it.")

if __name__ == "__main__":
    app()
