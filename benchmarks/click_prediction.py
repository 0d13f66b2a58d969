"""Click prediction on Criteo-like events: a DeepFM over a dynamic table, static embeddings, a hash trick, admission.

    python benchmarks/click_prediction.py run --seeds 0,1,2
    python benchmarks/click_prediction.py table --write

The first 60,000 events of shared/data/ctr train, in their order; the last 10,000 test. All arms share model, optimizer
and order of the data; they differ in what becomes of an id. The static arm's ids are row numbers of a vocabulary of the
training events, an unknown id is a row of zeros.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.events import EventBatch, EventStream
from lib.entity_spans import shared_folder
from lib.queue import ByArm, Job, Queue, Results, run_verb
from lib.statistics import shared_seeds
from lib.tables import add_table, arm_table, mean, shown

QUEUE = Queue("click_prediction")
IDS = tuple(f"c{n}" for n in range(1, 27))
NUMBERS = tuple(f"i{n}" for n in range(1, 14))
COLUMNS = EventColumns(IDS, NUMBERS, label="label")
CELLS = 1 << 16  # of the count-min sketch of a column's ids, 4 bytes each
app = typer.Typer(add_completion=False, help=__doc__)


class ClickSettings(BaseModel):
    """All that decides a result beside the arm and the seed."""

    model_config = ConfigDict(extra="forbid")
    ids: Literal["dynamic", "static", "hashed"] = "dynamic"
    min_count: int = 1
    modulus: int = 10_000
    factors: int = 4
    hidden: list[int] = [64, 32]
    dropout: float = 0.2
    batch: int = 256
    epochs: int = 1
    sparse_lr: float = 0.003
    dense_lr: float = 0.005
    init_scale: float = 0.001
    train: Literal["train", "screening train"] = "train"
    test: Literal["test", "dev"] = "test"


ARMS: dict[str, dict[str, Any]] = {
    "dynamic table": {},
    "static embeddings": {"ids": "static"},
    "hash trick mod 10000": {"ids": "hashed"},
    "dynamic table with MinCount(2)": {"min_count": 2},
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
        return event_tensors(EventBatch(batch.rows, ids, batch.numbers, batch.labels))

    return tensors


def engine_of(settings: ClickSettings, seed: int) -> Any:
    """The table of an arm."""
    from goodrate.models.dynamic_table import EmbeddingEngine, EmbeddingSpec, MinCount

    admission = MinCount(settings.min_count, cells=CELLS) if settings.min_count > 1 else None
    spec = EmbeddingSpec(1 + settings.factors, init_scale=settings.init_scale, admission=admission)
    return EmbeddingEngine(dict.fromkeys(IDS, spec), seed=seed)


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
        torch.optim.Adam(model.parameters(), settings.dense_lr),
    ]
    stream = EventStream(part(settings.train), COLUMNS, epochs=settings.epochs, seed=job.seed)
    source = EventSource(stream, settings.batch, tensors=tensors)
    wall, cpu = time.perf_counter(), time.process_time()
    plan = FitSettings(schedule="constant", warmup=0, clip_norm=float("inf"), precision="fp32", seed=job.seed)
    done = fit(model, source, optimizers, plan)
    seconds = {"wall": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}
    labels, scores = predictions(model, settings.test, tensors)
    first, end = PARTS[settings.train]
    return {
        **qualities(labels, scores),
        "rows": sum(len(table) for table in engine.tables.values()),
        "table_mib": round(sum(storage.nbytes for storage in engine.storages) / 2**20, 2),
        "updates": done.updates,
        "seconds": seconds,
        "events_per_cpu_second": round((end - first) * settings.epochs / seconds["cpu"]),
        "predicted": b64encode(scores.astype("<f2").tobytes()).decode(),  # logits of the test events, half precision
    }


def predictions(
    model: Any, test: str, tensors: Callable[[EventBatch], dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits (N,) of the test events, in their order."""
    import torch

    model.eval()
    labels, scores = [], []
    with torch.no_grad():
        for batch in EventStream(part(test), COLUMNS).batches(2_000):
            scores.append(model(tensors(batch))["logits"].numpy())
            labels.append(batch.labels)
    return np.concatenate(labels), np.concatenate(scores).astype(np.float64)


def qualities(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """AUC and log loss (nats)."""
    from sklearn.metrics import log_loss, roc_auc_score

    loss = log_loss(labels, 1 / (1 + np.exp(-logits)))
    return {"auc": round(float(roc_auc_score(labels, logits)), 5), "log_loss": round(float(loss), 5)}


def gold() -> np.ndarray:
    """(N,) labels of the test events."""
    return np.concatenate([b.labels for b in EventStream(part("test"), EventColumns(label="label")).batches(20_000)])


def differences(by_arm: ByArm, other: str) -> Callable[[Results], str]:
    """A cell: AUC minus that of another arm, logits averaged over the seeds, with an interval over events."""
    from sklearn.metrics import roc_auc_score

    from goodrate.evaluation.significance import bootstrap_over_groups

    labels = gold()

    def scores(results: Results) -> np.ndarray:
        return np.mean(
            [np.frombuffer(b64decode(one["predicted"]), dtype="<f2").astype(float) for one in results], axis=0
        )

    def cell(results: Results) -> str:
        ours, theirs = shared_seeds(results, by_arm.get(other, []))
        if not ours or ours is theirs or ours[0]["arm"] == other:
            return "-"
        left, right = scores(ours), scores(theirs)
        found = bootstrap_over_groups(
            lambda rows: float(roc_auc_score(labels[rows], left[rows]) - roc_auc_score(labels[rows], right[rows])),
            range(len(labels)), resamples=200,
        )  # fmt: skip
        return shown(found, "+.4f")

    return cell


def render() -> str:
    """Tables: one for the test, one line for the choice of settings."""
    tested = {arm: [r for r in results if r["settings"]["test"] == "test"] for arm, results in QUEUE.by_arm().items()}
    columns = {
        "AUC": lambda results: spread_of(results, "auc"),
        "log loss": lambda results: spread_of(results, "log_loss"),
        "AUC minus static (logits averaged over seeds)": differences(tested, "static embeddings"),
        "rows": lambda results: mean(results, "rows", ",.0f"),
        "table, MiB": lambda results: mean(results, "table_mib", ".1f"),
        "counts of ids not admitted, MiB": counts_mib,
        "events trained a processor second": lambda results: mean(results, "events_per_cpu_second", ",.0f"),
    }
    share = float(gold().mean())
    constant = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    used = [{**one["settings"]} for results in tested.values() for one in results][:1]
    named = ", ".join(
        f"{name} {value}" for name, value in used[0].items() if name not in ("ids", "min_count", "modulus")
    )
    return "\n\n".join([
        f"{len(gold()):,} test events, {share:.2%} clicked; the constant of the test's own share has AUC 0.5 and log "
        f"loss {constant:.5f}. Means over seeds, lowest and highest in brackets. Settings: {named}.",
        arm_table(tested, ARMS, columns),
    ])  # fmt: skip


def counts_mib(results: Results) -> str:
    """The sketches of all columns, which the table's bytes leave out."""
    return f"{4 * CELLS * len(IDS) / 2**20:.1f}" if results[0]["settings"]["min_count"] > 1 else "-"


def spread_of(results: Results, name: str) -> str:
    """Mean, lowest and highest over the seeds."""
    values = [result[name] for result in results]
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


app.command("run", help="Compute the results that are not there yet.")(run_verb(QUEUE, ClickSettings, ARMS, measure))
add_table(app, "click_prediction", render, "The tables.")

if __name__ == "__main__":
    app()
