"""Click prediction on Criteo-like events: a DeepFM over a dynamic table, static embeddings, a hash trick, admission.

    python benchmarks/click_prediction.py run --seeds 0,1,2
    python benchmarks/click_prediction.py table --write

The first 60,000 events of shared/data/ctr train, in their order; the last 10,000 test. All arms share model, optimizer
and order of the data; they differ in what becomes of an id. The static arm's ids are row numbers of a vocabulary of the
training events, an unknown id is a row of zeros.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.events import EventBatch, EventStream
from lib.entity_spans import shared_folder
from lib.queue import Job, Queue, Results, run_verb
from lib.tables import add_table, arm_table, markdown  # noqa
from lib.timing import peak_mib

QUEUE = Queue("click_prediction")
IDS = tuple(f"c{n}" for n in range(1, 27))
NUMBERS = tuple(f"i{n}" for n in range(1, 14))
COLUMNS = EventColumns(IDS, NUMBERS, label="label")
app = typer.Typer(add_completion=False, help=__doc__)


class ClickSettings(BaseModel):
    """All that decides a result beside the arm and the seed."""

    model_config = ConfigDict(extra="forbid")
    ids: Literal["dynamic", "static", "hashed"] = "dynamic"
    min_count: int = 1
    modulus: int = 10_000
    factors: int = 8
    hidden: list[int] = [64, 32]
    dropout: float = 0.2
    batch: int = 512
    epochs: int = 1
    sparse_lr: float = 0.01
    dense_lr: float = 1e-3
    init_scale: float = 0.01
    numbers_as_ids: bool = True
    weight_decay: float = 0.0
    train: Literal["train", "screening train"] = "train"
    test: Literal["test", "dev"] = "test"


ARMS: dict[str, dict[str, Any]] = {
    "dynamic table": {},
    "static embeddings": {"ids": "static"},
    "hash trick, mod 10,000": {"ids": "hashed"},
    "dynamic table, MinCount(2)": {"min_count": 2},
}


PARTS = {"train": (0, 60_000), "test": (60_000, 70_000), "screening train": (0, 50_000), "dev": (50_000, 60_000)}


def part(name: str) -> Path:
    """The events of a part as a file of their own."""
    path, (first, end) = QUEUE.work / f"{name}.parquet", PARTS[name]
    if not path.is_file():
        import pyarrow.parquet as pq

        events = pq.read_table(shared_folder() / "ctr" / "train.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(events[first:end], path, row_group_size=5_000, compression="zstd")
    return path


def number_ids(column: np.ndarray) -> np.ndarray:
    """A coarse log scale as ids: floor(log(x)^2) above 2, the whole number below; -100 = missing."""
    known = np.where(np.isnan(column), 0, column)
    logs = np.floor(np.log(np.maximum(known, 2)) ** 2)
    return np.where(np.isnan(column), -100, np.where(known > 2, logs + 2, known)).astype(np.int64)


def vocabulary(train: str) -> dict[str, np.ndarray]:
    """The sorted distinct ids of each column in the training events."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in IDS}
    for batch in EventStream(part(train), COLUMNS).batches(20_000):
        for name in IDS:
            seen[name].append(np.unique(batch.ids[name][0]))
    return {name: np.unique(np.concatenate(values)) for name, values in seen.items()}


def id_map(settings: ClickSettings) -> Callable[[str, np.ndarray], np.ndarray]:
    """What an arm makes of the ids of a column."""
    if settings.ids == "hashed":
        return lambda name, values: values % settings.modulus
    if settings.ids == "static":
        known = vocabulary(settings.train)

        def row(name: str, values: np.ndarray) -> np.ndarray:
            place = np.minimum(np.searchsorted(known[name], values), len(known[name]) - 1)
            return np.where(known[name][place] == values, place, -1)

        return row
    return lambda name, values: values


def tensors_of(settings: ClickSettings) -> Callable[[EventBatch], dict[str, Any]]:
    """The micro-batches of an arm."""
    from goodrate.recipes.event_source import event_tensors

    mapped = id_map(settings)

    def tensors(batch: EventBatch) -> dict[str, Any]:
        ids = {name: (mapped(name, values), offsets) for name, (values, offsets) in batch.ids.items()}
        if settings.numbers_as_ids:
            each = np.arange(batch.rows + 1)
            ids |= {f"n_{name}": (number_ids(column), each) for name, column in batch.numbers.items()}
        return event_tensors(EventBatch(batch.rows, ids, batch.numbers, batch.labels))

    return tensors


def engine_of(settings: ClickSettings, seed: int) -> Any:
    """The table of an arm. Numbers as ids are a few hundred rows, the same in all arms."""
    from goodrate.models.dynamic_table import EmbeddingEngine, EmbeddingSpec

    names = [*IDS, *(f"n_{name}" for name in NUMBERS if settings.numbers_as_ids)]
    admission = None
    if settings.min_count > 1:
        from goodrate.models.dynamic_table import MinCount  # type: ignore[attr-defined]

        admission = MinCount(settings.min_count)
    spec = EmbeddingSpec(1 + settings.factors, init_scale=settings.init_scale, admission=admission)
    return EmbeddingEngine(dict.fromkeys(names, spec), seed=seed)


def measure(job: Job) -> dict[str, Any]:
    """Train one arm with one seed and measure it on the test events."""
    import torch

    from goodrate.learning.fit import FitSettings, fit
    from goodrate.models.deepfm import DeepFM
    from goodrate.models.dynamic_table import SparseAdam
    from goodrate.recipes.event_source import EventSource

    settings = job.settings
    assert isinstance(settings, ClickSettings)
    torch.manual_seed(job.seed)
    engine, tensors = engine_of(settings, job.seed), tensors_of(settings)
    model = DeepFM(engine, [*engine.specs], settings.factors, len(NUMBERS), settings.hidden, settings.dropout)
    optimizers = [
        SparseAdam(engine, settings.sparse_lr),
        torch.optim.AdamW(model.parameters(), settings.dense_lr, weight_decay=settings.weight_decay),
    ]
    stream = EventStream(part(settings.train), COLUMNS, epochs=settings.epochs, seed=job.seed)
    source = EventSource(stream, settings.batch, tensors=tensors)
    wall, cpu = time.perf_counter(), time.process_time()
    plan = FitSettings(schedule="constant", warmup=0, clip_norm=float("inf"), precision="fp32", seed=job.seed)
    done = fit(model, source, optimizers, plan)
    seconds = {"wall": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}
    labels, scores, inside, after = predictions(model, settings.test, tensors)
    rows = sum(len(table) for table in engine.tables.values())
    return {
        **qualities(labels, scores), "rows": rows, "table_mib": round(sum(s.nbytes for s in engine.storages) / 2**20, 2),
        "updates": done.updates, "seconds": seconds, "events_per_cpu_second": round(stream_rows(settings) / seconds["cpu"]),
        "peak_mib": peak_mib(), "same_seed_auc_halves": [inside, after],
    }  # fmt: skip


def stream_rows(settings: ClickSettings) -> int:
    first, end = PARTS[settings.train]
    return (end - first) * settings.epochs


def predictions(
    model: Any, test: str, tensors: Callable[[EventBatch], dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Labels and logits (N,) of the test events, and the AUC of their first and second half."""
    import torch
    from sklearn.metrics import roc_auc_score

    model.eval()
    labels, scores = [], []
    with torch.no_grad():
        for batch in EventStream(part(test), COLUMNS).batches(2_000):
            scores.append(model(tensors(batch))["logits"].numpy())
            labels.append(batch.labels)
    gold, given = np.concatenate(labels), np.concatenate(scores).astype(np.float64)
    half = len(gold) // 2
    return gold, given, float(roc_auc_score(gold[:half], given[:half])), float(roc_auc_score(gold[half:], given[half:]))


def qualities(labels: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """AUC with a bootstrap interval over events, log loss, and the log loss of the training share of clicks."""
    from sklearn.metrics import log_loss, roc_auc_score

    from goodrate.evaluation.significance import bootstrap_over_groups

    probability = 1 / (1 + np.exp(-logits))
    auc = bootstrap_over_groups(
        lambda rows: float(roc_auc_score(labels[rows], logits[rows])), range(len(labels)), resamples=100
    )
    return {"auc": round(auc.value, 5), "auc_low": round(auc.low, 5), "auc_high": round(auc.high, 5),
            "log_loss": round(float(log_loss(labels, probability)), 5), "clicks": int(labels.sum())}  # fmt: skip


def render() -> str:
    """Tables."""
    return arm_table(QUEUE.by_arm(), ARMS, {})


app.command("run", help="Compute the results that are not there yet.")(run_verb(QUEUE, ClickSettings, ARMS, measure))
add_table(app, "click_prediction", render, "The tables.")

if __name__ == "__main__":
    app()
