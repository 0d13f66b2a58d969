"""Dynamic tables over gloo ranks: samples a second and bytes exchanged; tables of four ranks loaded by fewer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import distributed

from goodrate.models.dynamic_table import EmbeddingEngine, EmbeddingSpec, SparseAdam, load_tables, save_tables
from goodrate.ragged import Ragged
from lib.sparse_arms import BATCH, FEATURES, LR, Setting, goal

SETTING = Setting(16, "1.05", 40_000)
NAMES = [f"f{i}" for i in range(FEATURES)]
STEPS = 12


def launch(world: int, call: str) -> list[dict[str, Any]]:
    """What the ranks print as their last line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = f"import lib.sparse_ranks as r; r.joined(lambda: r.{call})"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code], env={**common, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )
        for rank in range(world)
    ]  # fmt: skip
    outputs = [rank.communicate(timeout=900)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def joined(call: Any) -> None:
    """Call inside the process group, print what it gives."""
    torch.set_num_threads(1)
    if int(os.environ["WORLD_SIZE"]) > 1:
        distributed.init_process_group("gloo")
    print(json.dumps(call()))
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _rank_and_world() -> tuple[int, int]:
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def engine_of(seed: int = 0) -> EmbeddingEngine:
    return EmbeddingEngine({name: EmbeddingSpec(SETTING.dim) for name in NAMES}, seed=seed)


def features(ids: torch.Tensor) -> dict[str, Ragged]:
    return {name: Ragged.single(column) for name, column in zip(NAMES, ids, strict=True)}


def worked() -> dict[str, Any]:
    """A rank's CPU seconds a step with its own batch, and the bytes that it sends to others a step."""
    rank, world = _rank_and_world()
    engine = engine_of()
    optimizer = SparseAdam(engine, lr=LR)
    gradient, cpu, wall, keys = goal(SETTING), [], [], []
    for number, ids in enumerate(SETTING.batches(STEPS, seed=rank)):
        start = time.process_time(), time.perf_counter()
        torch.cat(list(engine(features(ids)).values()), 1).backward(gradient)
        optimizer.step()
        if number >= STEPS // 3:
            cpu.append(time.process_time() - start[0])
            wall.append(time.perf_counter() - start[1])
        keys.append(sum(len(column.unique()) for column in ids))
    away = (world - 1) / world  # share of keys that another rank owns
    bytes_of_key = 16 + 2 * 4 * SETTING.dim  # id and tag there; row back, gradient there
    return {
        "cpu": median(cpu), "wall": median(wall), "bytes": away * bytes_of_key * median(keys),
        "bytes_without_dedup": away * bytes_of_key * FEATURES * BATCH,
    }  # fmt: skip


def scaling() -> Iterator[dict[str, Any]]:
    """One record a number of ranks; every rank has a batch of BATCH examples."""
    for world in (1, 2, 4):
        ranks = launch(world, "worked()")
        yield {
            "ranks": world, "samples_per_cpu_second": round(world * BATCH / sum(rank["cpu"] for rank in ranks)),
            "samples_per_second": round(world * BATCH / max(rank["wall"] for rank in ranks)),
            "megabytes_sent_per_rank_and_step": round(ranks[0]["bytes"] / 1e6, 2),
            "megabytes_without_dedup": round(ranks[0]["bytes_without_dedup"] / 1e6, 2),
        }  # fmt: skip


def wrote(folder: str) -> dict[str, Any]:
    """Some updates, saved."""
    rank, _ = _rank_and_world()
    engine = engine_of()
    optimizer = SparseAdam(engine, lr=LR)
    for ids in SETTING.batches(4, seed=rank):
        torch.cat(list(engine(features(ids)).values()), 1).backward(goal(SETTING))
        optimizer.step()
    start = time.perf_counter()
    save_tables(engine, folder)
    return {"seconds": time.perf_counter() - start, "rows": sum(map(len, engine.storages))}


def read(folder: str) -> dict[str, Any]:
    """What a rank reads, and the loss of the next batch over all ranks."""
    rank, world = _rank_and_world()
    engine = engine_of()
    start = time.perf_counter()
    loaded = load_tables(engine, folder)
    seconds = time.perf_counter() - start
    ids = next(SETTING.batches(1, seed=99))[:, rank::world]
    loss = torch.stack([part.double().square().sum() for part in engine(features(ids)).values()]).sum()
    loss = engine.ranks.total(loss.detach())
    return {
        "seconds": seconds, "rows": loaded.rows, "bytes_read": loaded.bytes_read,
        "bytes_of_files": loaded.bytes_of_files, "loss": float(loss),
    }  # fmt: skip


def reshard() -> Iterator[dict[str, Any]]:
    """Saved by four ranks; loaded by one, two, three and four."""
    with tempfile.TemporaryDirectory() as folder:
        saved = launch(4, f"wrote({folder + '/tables'!r})")
        yield {
            "saved_by": 4,
            "rows": sum(rank["rows"] for rank in saved),
            "seconds": max(rank["seconds"] for rank in saved),
        }
        for world in (1, 2, 3, 4):
            ranks = launch(world, f"read({folder + '/tables'!r})")
            yield {
                "loaded_by": world, "rows": sum(rank["rows"] for rank in ranks),
                "seconds": round(max(rank["seconds"] for rank in ranks), 2),
                "most_bytes_read_by_a_rank": max(rank["bytes_read"] for rank in ranks),
                "bytes_read": sum(rank["bytes_read"] for rank in ranks),
                "bytes_of_files": ranks[0]["bytes_of_files"], "next_loss": ranks[0]["loss"],
            }  # fmt: skip
