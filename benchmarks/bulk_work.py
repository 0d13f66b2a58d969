"""Bulk work on one machine, without Ray and with one, two and four workers: processor seconds, and the same numbers.

python benchmarks/bulk_work.py run --encoder /path/to/all-MiniLM-L6-v2     one JSON per arm, those that are not there
python benchmarks/bulk_work.py table --write                               benchmarks/results/bulk_work.md

Items are those of a small embedded shop. judge: pairs for a judge of kind words, which costs next to nothing, so that
the way of the pairs is what is measured. encode: an index of items with the encoder. Each arm is one goodrate command
in a process of its own, with one thread a process; processor seconds are those of it and of all that it starts, sampled
five times a second, so that a process that lives shorter is missed. "same": whether the file of verdicts, or every
vector, is what the run without Ray gave.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel

from lib.queue import Job, Queue
from lib.tables import add_table, markdown

NAME = "bulk_work"
WORKERS = (0, 1, 2, 4)  # 0: without Ray
LOOK_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")
app = typer.Typer(add_completion=False, help=__doc__)


class Settings(BaseModel):
    """What decides the numbers. workers: of --ray local:N, 0 = without it. rows: pairs or items. encoder: its name."""

    workers: int
    rows: int
    encoder: str | None = None


def shop_files(folder: Path) -> Path:
    """A folder with the shop's items, pairs of its queries and items, and a judge."""
    import polars as pl

    from goodrate.api.reading import read_catalog
    from goodrate.api.shops import generate_shop
    from goodrate.relevance.words_judge import Card, WordCounts, write_words_judge

    if (folder / "pairs.parquet").is_file():
        return folder
    shop = generate_shop(items=2000, queries=200)
    items = shop.catalog.frame
    items.write_parquet(folder / "items.parquet")
    titles = read_catalog(folder / "items.parquet").frame["title"].to_list()
    card = Card(scale="four_level", slope=4.0, cuts=(1.0, 2.0, 3.0))
    write_words_judge(folder / "judge", card, WordCounts.of(titles))
    draw, queries = np.random.default_rng(0), shop.query_frame()["query"].to_list()
    rows = [{"query": queries[n // 40 % len(queries)], "item_id": items["id"][int(draw.integers(len(items)))]}
            for n in range(200_000)]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "pairs.parquet")
    return folder


def measure(job: Job, made: Path, encoder: Path | None) -> dict[str, Any]:
    """Processor seconds of one command, and a hash of what it made."""
    import polars as pl

    settings = job.settings
    assert isinstance(settings, Settings)
    ray = ["--ray", f"local:{settings.workers}"] if settings.workers else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if job.arm == "judge":
            pl.read_parquet(made / "pairs.parquet").head(settings.rows).write_parquet(folder / "pairs.parquet")
            out, catalog = folder / "verdicts.jsonl", made / "items.parquet"
            options = ["--model", made / "judge", "--out", out, "--catalog", catalog]
            seconds = processor_seconds(["judge", folder / "pairs.parquet", *options, *ray])
            content = out.read_bytes()
            return {**seconds, "hash": hashlib.sha256(content).hexdigest()}
        pl.read_parquet(made / "items.parquet").head(settings.rows).write_parquet(folder / "items.parquet")
        options = ["--out", folder / "index", "--encoder", str(encoder)]
        seconds = processor_seconds(["index", folder / "items.parquet", *options, *ray])
        vectors = _vectors(folder / "index")
        return {**seconds, "hash": hashlib.sha256(vectors.tobytes()).hexdigest()}


def _vectors(index: Path) -> np.ndarray:
    from goodrate.retrieval.store import Store

    return Store.open(index).vectors()[1]


def processor_seconds(arguments: list[Any]) -> dict[str, float]:
    """Seconds of a goodrate command and of every process under it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from goodrate.cli import main; main()", *map(str, arguments)]
    start, seen = time.perf_counter(), {}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        while child.poll() is None:
            seen.update(_under(child.pid))
            time.sleep(LOOK_S)
        errors.seek(0)
        if child.returncode:
            raise RuntimeError(errors.read()[-800:].decode(errors="replace"))
    workers = {pid: value for pid, value in seen.items() if pid != child.pid}
    return {"cpu_s": sum(seen.values()), "started_cpu_s": sum(workers.values()), "wall_s": time.perf_counter() - start}


def _under(root: int) -> dict[int, float]:
    """Processor seconds of a process and of those that it started, and they, by process."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else None
        except OSError:  # it has ended
            continue
        if fields:
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    found, last = {root}, 0
    while len(found) > last:
        last = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return {pid: seconds[pid] for pid in found if pid in seconds}


@app.command()
def run(
    encoder: Annotated[Path | None, typer.Option(help="A sentence-transformers folder; none: no arm encode.")] = None,
    pairs: Annotated[int, typer.Option(help="To judge.")] = 20_000,
    items: Annotated[int, typer.Option(help="To encode.")] = 1000,
) -> None:
    """Measure the arms that have no result, one after the other."""
    queue = Queue(NAME)
    made = queue.shared("shop", lambda folder: (folder.mkdir(parents=True, exist_ok=True), shop_files(folder))[1])
    jobs = [Job("judge", 0, Settings(workers=count, rows=pairs)) for count in WORKERS]
    if encoder is not None:
        jobs += [Job("encode", 0, Settings(workers=count, rows=items, encoder=encoder.name)) for count in WORKERS]
    queue.run(jobs, lambda job: measure(job, made, encoder))


def render() -> str:
    """A row per arm, number of rows and of workers."""
    results = sorted(Queue(NAME).results(), key=lambda one: (one["arm"], one["settings"]["rows"],
                                                             one["settings"]["workers"]))  # fmt: skip
    alone = {(one["arm"], one["settings"]["rows"]): one for one in results if not one["settings"]["workers"]}
    head = ["work", "rows", "workers", "processor s", "of these in Ray and its workers", "rows a processor s", "same"]
    rows = []
    for one in results:
        asked = one["settings"]
        plain = alone.get((one["arm"], asked["rows"]))
        same = "-" if plain is None or plain is one else "yes" if plain["hash"] == one["hash"] else "no"
        rows.append([one["arm"], f"{asked['rows']:,}", str(asked["workers"] or "without Ray"), f"{one['cpu_s']:.1f}",
                     f"{one['started_cpu_s']:.1f}", f"{asked['rows'] / one['cpu_s']:,.0f}", same])  # fmt: skip
    return markdown([head, *rows])


add_table(app, NAME, render, "Print the table of the results, or write it.")

if __name__ == "__main__":
    app()
