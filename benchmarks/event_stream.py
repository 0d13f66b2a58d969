"""How fast events are read: rows a second of parquet, ORC and Arrow files, into numpy and into micro-batches.

    python benchmarks/event_stream.py run
    python benchmarks/event_stream.py table --write

Generated events in the shape of Criteo's: a label, 13 numbers and 26 ids, all in list columns, a tenth of them missing;
and events of a shop with query and item as texts. Zipf-like ids. Wall and processor seconds of whole readings, formats
in turn; Arrow's decoding runs in the reading thread, so processor seconds count all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.events import EventStream
from goodrate.catalog.text_hash import hash_texts
from lib.tables import add_table, markdown
from lib.timing import Measurement, Sample, call_sample, conditions, interleave, number, spread

NAME = "event_stream"
WORK = Path(__file__).parents[1] / "runs" / NAME
BATCH, GROUP = 2_048, 50_000
IDS, NUMBERS = tuple(f"c{n}" for n in range(1, 27)), tuple(f"i{n}" for n in range(1, 14))
COLUMNS = {
    "26 ids, 13 numbers in lists": EventColumns(IDS, NUMBERS, label="label"),
    "query and item as texts": EventColumns(("query", "item_id"), ("position",), label="clicked", time="time"),
}
ENDINGS = ("parquet", "orc", "arrow")
app = typer.Typer(add_completion=False, help=__doc__)


def lists(values: np.ndarray, present: np.ndarray) -> Any:
    """A list column with one value, or none, a row."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(present)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[present]))


def events(shape: str, rows: int) -> Any:
    """The table of a shape; the same one for a number of rows."""
    import pyarrow as pa

    rng = np.random.default_rng(0)

    def present() -> np.ndarray:
        return rng.random(rows) > 0.1

    zipf = [rng.zipf(1.2, rows) % 2**40 for _ in range(26)]
    if shape.startswith("26"):
        columns = {name: lists(ids * 7919, present()) for name, ids in zip(IDS, zipf, strict=True)}
        columns |= {name: lists(rng.lognormal(1, 2, rows).round(), present()) for name in NUMBERS}
        label = lists((rng.random(rows) < 0.03).astype(float), np.ones(rows, dtype=bool))
        return pa.table({**columns, "label": label})
    return pa.table({
        "query": [f"query of words {n}" for n in zipf[0] % 100_000], "item_id": [f"sku-{n}" for n in zipf[1] % 10**6],
        "position": rng.integers(1, 21, rows), "clicked": rng.random(rows) < 0.05,
        "time": 1_700_000_000 + np.arange(rows) // 10,
    })  # fmt: skip


def written(shape: str, ending: str, rows: int) -> Path:
    """The file of a shape."""
    import pyarrow as pa
    import pyarrow.orc as orc
    import pyarrow.parquet as pq

    path = WORK / f"{shape[:2]}-{rows}.{ending}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        table = events(shape, rows)
        if ending == "parquet":
            pq.write_table(table, path, row_group_size=GROUP, compression="zstd")
        elif ending == "orc":
            orc.write_table(table, path, compression="zstd")
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=GROUP)
    return path


def read(path: Path, columns: EventColumns, rows: int, make: Callable[[Any], Any] | None = None) -> None:
    """Everything once. make: what becomes of a batch."""
    count = 0
    for batch in EventStream(path, columns).batches(BATCH):
        count += batch.rows
        if make is not None:
            make(batch)
    assert count == rows


@app.command("run")
def run(
    rows: int = typer.Option(200_000, help="Of each file."), rounds: int = typer.Option(5, help="Readings a format.")
) -> None:
    """Write the files where they are missing, and time."""
    import torch

    from goodrate.recipes.event_source import event_tensors

    torch.set_num_threads(1)
    result = Measurement(NAME, f"python benchmarks/{NAME}.py run --rows {rows} --rounds {rounds}", threads=1)
    arms: dict[str, Callable[[], Sample]] = {}
    files = {(shape, ending): written(shape, ending, rows) for shape in COLUMNS for ending in ENDINGS}
    for (shape, ending), path in files.items():
        arms[f"{shape}|{ending}"] = partial(call_sample, partial(read, path, COLUMNS[shape], rows))
        if ending == "parquet":
            whole = partial(read, path, COLUMNS[shape], rows, event_tensors)
            arms[f"{shape}|{ending}, as micro-batches"] = partial(call_sample, whole)
    import pyarrow as pa

    texts = pa.array([f"query of words {n}" for n in range(rows)])
    arms["texts hashed|in memory"] = partial(call_sample, partial(hash_texts, texts))
    samples = interleave(arms, rounds, warmup=1)
    result.write(
        rows=rows, rounds=rounds, batch=BATCH,
        mib={f"{shape}|{ending}": round(path.stat().st_size / 2**20, 1) for (shape, ending), path in files.items()},
        rows_per_second={
            name: {"wall": spread([rows / s.wall for s in runs]), "cpu": spread([rows / s.cpu for s in runs])}
            for name, runs in samples.items()
        },
    )  # fmt: skip


def render() -> str:
    """The table."""
    import json

    from lib.timing import RESULTS

    found = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    rows = [["events", "file", "MiB", "rows a processor second", "lowest to highest", "rows a second of wall"]]
    for name, speed in found["rows_per_second"].items():
        shape, _, ending = name.partition("|")
        size = found["mib"].get(name, "")
        cpu, wall = speed["cpu"], speed["wall"]
        ends = f"{number(cpu['min'])} to {number(cpu['max'])}"
        rows.append([shape, ending, str(size), number(cpu["median"]), ends, number(wall["median"])])
    head = f"{found['rows']:,} rows a file, {found['rounds']} readings in turn, batches of {found['batch']:,}; medians."
    return "\n\n".join([conditions([found]), head, markdown(rows)])


add_table(app, NAME, render, "The table.")

if __name__ == "__main__":
    app()
