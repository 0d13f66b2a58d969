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
            yield _apart(f"grown({rule!r}, {size})")


def plateaus(most: int) -> Iterator[dict[str, Any]]:
    """One curve a number of live ids, each in a process of its own."""
    for size in [size for size in SIZES if size <= most]:
        yield _apart(f"plateau({size})")


def _apart(call: str) -> dict[str, Any]:
    """What a call of this module prints, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", f"import lib.sparse_memory as m; m.{call}"], capture_output=True, text=True,
        check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    record: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return record


def _train(engine: EmbeddingEngine, optimizer: Any, ids: torch.Tensor) -> None:
    engine({"id": Ragged.single(ids)})["id"].sum().backward()
    optimizer.step()


def _warm(rule: str) -> None:
    """The libraries' own memory is there before it is measured."""
    engine = EmbeddingEngine({"id": EmbeddingSpec(DIM)})
    _train(engine, RULES[rule](engine, lr=0.01), torch.arange(CHUNK))


def grown(rule: str, size: int) -> None:
    """Train on so many ids, each once, and print what they take."""
    torch.set_num_threads(1)
    _warm(rule)
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


def plateau(live: int) -> None:
    """Every update brings live / 20 new ids; rows not seen in 20 updates go; from update 61 on the stream narrows to as
    many ids as an update had, the same ones.
    """
    torch.set_num_threads(1)
    _warm("adam")
    fresh = live // 20
    engine = EmbeddingEngine({"id": EmbeddingSpec(DIM, eviction=IdleSteps(20, every=5))})
    optimizer = RULES["adam"](engine, lr=0.01)
    generator, before, curve = torch.Generator().manual_seed(0), rss(), []
    for update in range(1, 91):
        ids = torch.randint(-(2**62), 2**62, (fresh,), generator=generator)
        _train(engine, optimizer, ids if update <= 60 else torch.arange(fresh))
        if update % 10 == 0:
            storage = engine.storages[0]
            curve.append({"update": update, "live": len(storage), "bytes": storage.nbytes, "rss": rss() - before})
    most = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    eviction = "IdleSteps(20, every=5)"
    print(json.dumps({"rule": "adam", "eviction": eviction, "fresh": fresh, "peak": most - before, "curve": curve}))
