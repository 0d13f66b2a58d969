"""What an update of retriever_grpo costs as the catalogue grows: seconds of each part, memory, age of the item matrix.

All seconds are processor seconds of one thread: what an update takes on a core that does nothing else.

python benchmarks/retrieval_cost.py run              one JSON a size and pool in results/retrieval_cost, in its process
python benchmarks/retrieval_cost.py table --write    benchmarks/results/retrieval_cost.md

Items are generated texts of 12 words; the encoder is the demo's (128 wide, 2 layers), the judge the shipped base with
its random label answers: what they say means nothing here, what they cost is what trained ones cost. Encoding a whole
catalogue before the first update is not done: vectors of 2,000 items are repeated, and the seconds that it would take
are computed from the rate measured on those.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import typer

from goodrate.learning.fit import FitSettings
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, RetrievalGrades
from goodrate.run_folder import code_versions, write_atomic
from lib.judging import untrained_judge
from lib.queue import RESULTS, hardware
from lib.retrieval_arms import new_encoder
from lib.tables import add_table, markdown
from lib.timing import peak_mib

OUT = RESULTS / "retrieval_cost"
CASES = [
    *((items, "catalogue", 256) for items in (1_000, 10_000, 100_000)),
    (100_000, "catalogue", 2_000),
    *((items, "batch", 256) for items in (1_000_000, 100_000, 10_000)),
]
QUERIES, CANDIDATES, POOL, UPDATES, WARM, ENCODED = 256, 16, 1024, 4, 1, 2000
PARTS = ("refresh", "ranking", "grading")
app = typer.Typer(add_completion=False, help=__doc__)


def texts(count: int, words: int, seed: int) -> list[str]:
    """Texts of words out of 5,000 syllable words, common ones often."""
    rng = np.random.default_rng(seed)
    syllables = [a + b for a in "bdfgklmnprstv" for b in "aeiou"]
    vocabulary = np.asarray(["".join(rng.choice(syllables, rng.integers(2, 4))) for _ in range(5000)])
    chosen = vocabulary[np.minimum(rng.zipf(1.3, (count, words)) - 1, 4999)]
    return [" ".join(row) for row in chosen]


def measured(items: int, pool: str, refresh: int, work: Path) -> dict[str, Any]:
    """Seconds of the parts of an update, medians over UPDATES after WARM others."""
    new_encoder(0).save(work)
    catalogue, queries = texts(items, 12, 0), texts(QUERIES, 3, 1)
    examples = [QueryExample(query, n, frozenset([n])) for n, query in enumerate(queries)]
    judge = untrained_judge(work / "judge")
    grade = RetrievalGrades(JudgedRelevance(judge, [(query, "") for query in queries], catalogue))
    recipe = retriever_grpo.Settings(
        encoder=str(work),
        rankings=RankingSettings(pool=pool, pool_size=POOL, refresh_items=refresh, candidates=CANDIDATES),
        fit=FitSettings(updates=WARM + UPDATES),
    )
    records: list[dict[str, Any]] = []
    time.perf_counter = time.process_time  # the clock of the parts
    before, rate = peak_mib(), _rate(Encoder.load(work, precision=recipe.fit.precision), catalogue)
    with _repeated_vectors():
        log = lambda record: records.append({**record, "clock": time.process_time()})  # noqa: E731
        retriever_grpo.train(recipe, examples, catalogue, grade, work / "run", log)
    steps = [b["clock"] - a["clock"] for a, b in zip(records, records[1:], strict=False)][WARM - 1 :]
    return {
        "update_seconds": statistics.median(steps),
        "parts": {name: statistics.median(record[f"seconds_{name}"] for record in records[WARM:]) for name in PARTS},
        "items_per_second": rate,
        "start_seconds": 2 * items / rate if pool == "catalogue" else 0.0,  # the matrix and the frozen start's vectors
        "matrix_age_full": items / refresh if pool == "catalogue" else 0,
        "memory_mib": peak_mib(), "memory_before_mib": before,
    }  # fmt: skip


def _rate(encoder: Encoder, catalogue: list[str]) -> float:
    """Items encoded per second."""
    encoder.encode_items(catalogue[:64])
    began = time.process_time()
    encoder.encode_items(catalogue[:ENCODED])
    return min(ENCODED, len(catalogue)) / (time.process_time() - began)


@contextmanager
def _repeated_vectors() -> Iterator[None]:
    """More than ENCODED texts at once are the catalogue before the first update: see the module's docstring."""
    plain = Encoder.encode_items

    def encode(self: Encoder, texts: Sequence[str]) -> np.ndarray:
        vectors = plain(self, texts[:ENCODED])
        return np.resize(vectors, (len(texts), vectors.shape[1])) if len(texts) > ENCODED else vectors

    Encoder.encode_items = encode  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Encoder.encode_items = plain  # type: ignore[method-assign]


@app.command()
def one(items: int, pool: str, refresh: int, threads: int = 1) -> None:
    """Measure one case in this process."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as work:
        measures = measured(items, pool, refresh, Path(work))
    case = {"items": items, "pool": pool, "refresh": refresh, "threads": threads, "hardware": hardware()}
    write_atomic(path(items, pool, refresh), json.dumps({**case, **code_versions(), **measures}, indent=1) + "\n")


def path(items: int, pool: str, refresh: int) -> Path:
    """Where the result of a case lies."""
    return OUT / f"{pool}-{items}-{refresh}.json"


@app.command()
def run(threads: int = 1) -> None:
    """Every case in a process of its own, those that are there are passed over."""
    for case in [case for case in CASES if not path(*case).is_file()]:
        command = [sys.executable, __file__, "one", *map(str, case), "--threads", str(threads)]
        subprocess.run(command, check=True)
        print(*case, flush=True)


def render() -> str:
    """The table of all that is there."""
    rows = [["items", "pool", "items encoded an update", "updates/s", "update, s", "refresh", "search", "judge", "rest",
             "refresh, without the judge", "a row's age at most, updates",
             "encoding all before the first update, s (computed)", "peak memory, MiB"]]  # fmt: skip
    for items, pool, refresh in [case for case in CASES if path(*case).is_file()]:
        result = json.loads(path(items, pool, refresh).read_text(encoding="utf-8"))
        seconds, parts = result["update_seconds"], result["parts"]
        shares = [*(parts[name] / seconds for name in PARTS), 1 - sum(parts.values()) / seconds]
        shares.append(parts["refresh"] / (seconds - parts["grading"]))
        encoded = refresh if pool == "catalogue" else min(POOL, items)
        rows.append([
            f"{items:,}", pool, f"{encoded:,}", f"{1 / seconds:.2f}", f"{seconds:.2f}",
            *(f"{100 * share:.0f} %" for share in shares), f"{result['matrix_age_full']:.0f}",
            f"{result['start_seconds']:.0f}", f"{result['memory_mib']:,.0f}",
        ])  # fmt: skip
    return markdown(rows)


add_table(app, "retrieval_cost", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
