"""Memory of dynamic tables: bytes a live id as ids grow, and the plateau under eviction."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from goodrate.models.dynamic_table import EmbeddingEngine, EmbeddingSpec, IdleSteps
from goodrate.ragged import Ragged
from lib.sparse_arms import RULES

DIM, CHUNK = 16, 20_000
SIZES = (10**4, 10**5, 10**6, 10**7)
PREDICTED = {"adam": 12 * DIM + 44, "row-wise Adagrad": 4 * DIM + 4 + 44}  # bytes, the index at 44 on average


def rss() -> int:
    """Bytes that this process holds in memory."""
    gc.collect()
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def memory(most: int) -> Iterator[dict[str, Any]]:
    """One record a rule and size, each in a process of its own."""
    for rule in PREDICTED:
        for size in [size for size in SIZES if size <= most]:
            call = f"import lib.sparse_memory as m; m.grown({rule!r}, {size})"
            run = subprocess.run(
                [sys.executable, "-c", call], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
            )
            yield json.loads(run.stdout.splitlines()[-1])


def _train(engine: EmbeddingEngine, optimizer: Any, ids: torch.Tensor) -> None:
    engine({"id": Ragged.single(ids)})["id"].sum().backward()
    optimizer.step()


def grown(rule: str, size: int) -> None:
    """Train on so many ids, each once, and print what they take."""
    torch.set_num_threads(1)
    warm = EmbeddingEngine({"id": EmbeddingSpec(DIM)})
    _train(warm, RULES[rule](warm, lr=0.01), torch.arange(CHUNK))  # the libraries' own memory is there before
    del warm
    engine = EmbeddingEngine({"id": EmbeddingSpec(DIM)})
    optimizer = RULES[rule](engine, lr=0.01)
    before = rss()
    generator = torch.Generator().manual_seed(0)
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        _train(engine, optimizer, torch.randint(-(2**62), 2**62, (count,), generator=generator))
    storage = engine.storages[0]
    record = {
        "rule": rule, "live": len(storage), "bytes_per_id": round(storage.nbytes / len(storage), 1),
        "index_bytes_per_id": round(storage.index.nbytes / len(storage), 1),
        "rss_bytes_per_id": round((rss() - before) / len(storage), 1), "predicted": PREDICTED[rule],
    }  # fmt: skip
    print(json.dumps(record))


def plateau() -> dict[str, Any]:
    """Every update brings CHUNK new ids; after 20 updates rows not seen go; then the stream narrows to 1,000 ids."""
    engine = EmbeddingEngine({"id": EmbeddingSpec(DIM, eviction=IdleSteps(20, every=5))})
    optimizer = RULES["adam"](engine, lr=0.01)
    generator, before, curve = torch.Generator().manual_seed(0), rss(), []
    for update in range(1, 151):
        fresh = torch.randint(-(2**62), 2**62, (CHUNK,), generator=generator)
        _train(engine, optimizer, fresh if update <= 100 else torch.arange(1000))
        if update % 10 == 0:
            storage = engine.storages[0]
            curve.append({"update": update, "live": len(storage), "bytes": storage.nbytes, "rss": rss() - before})
    return {"rule": "adam", "eviction": "IdleSteps(20, every=5)", "new_ids_an_update": CHUNK, "curve": curve}
