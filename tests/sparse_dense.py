"""A small sparse-dense model and its data, for one process and for several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import Term, Update
from goodrate.learning.source import seed_of
from goodrate.models.dynamic_table import (
    Adagrad,
    EmbeddingEngine,
    EmbeddingSpec,
    MaxRows,
    MinCount,
    RowWiseAdagrad,
    SparseAdam,
    load_tables,
    save_tables,
)
from goodrate.ragged import Ragged
from goodrate.run_folder import RunFolder

SPECS = {
    "user": EmbeddingSpec(4),
    "item": EmbeddingSpec(4, pooling="mean"),
    "last": EmbeddingSpec(4, table="item"),
    "word": EmbeddingSpec(3, admission=MinCount(2, cells=1 << 16), eviction=MaxRows(40, "count", every=3)),
}
TERMS = [
    Term("bce", lambda o, b: F.binary_cross_entropy_with_logits(o["logit"], b["y"], reduction="none"), mask="mask")
]
OPTIMIZERS = {"adam": SparseAdam, "row_wise": RowWiseAdagrad, "adagrad": Adagrad}


class Clicks(nn.Module):
    """Embeddings, and a linear layer on top of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embeddings = EmbeddingEngine(SPECS, seed=5)
        self.dense = nn.Sequential(nn.Linear(15, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        rows = self.embeddings(batch["features"])
        return {"logit": self.dense(torch.cat(list(rows.values()), 1))[:, 0]}


def micro_batch(step: int, part: int, rows: int = 12) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed_of("clicks", step, part))
    features = {}
    for name, high in (("user", 60), ("item", 50), ("last", 50), ("word", 90)):
        longest = 3 if name in ("item", "word") else 1
        lengths = torch.randint(0, longest + 1, (rows,), generator=generator)
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        ids = torch.randint(-high, high, (int(offsets[-1]),), generator=generator)
        features[name] = Ragged(ids * 2**55, offsets)
    y = torch.randint(0, 2, (rows,), generator=generator).float()
    return {"features": features, "y": y, "mask": torch.ones(rows, dtype=torch.bool)}


class Days:
    """Updates of 4, 3 or 1 micro-batches in turn."""

    def next(self, step: int) -> Update | None:
        return Update([micro_batch(step, part, 12 - part) for part in range((4, 3, 1)[step % 3])], TERMS)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Killed(Exception):
    pass


def train(folder: str | Path, updates: int = 8, kill_at: int = 0, optimizer: str = "adam", **options: Any) -> Clicks:
    """So many updates through `fit`; killed after one of them where that is asked for."""
    torch.set_num_threads(1)

    def kill(record: Mapping[str, Any]) -> None:
        if record["update"] == kill_at:
            raise Killed

    model = Clicks()
    settings = FitSettings(
        updates=updates, precision="fp32", checkpoint_updates=2, log_every=1, schedule="constant", warmup=0.0, **options
    )
    optimizers = [torch.optim.SGD(model.dense.parameters(), 0.5), OPTIMIZERS[optimizer](model.embeddings, lr=0.05)]
    try:
        fit(model, Days(), optimizers, settings, folder=RunFolder(folder), on_update=kill)
    except Killed:
        assert kill_at
    return model


def rows_by_id(engine: EmbeddingEngine) -> dict[tuple[str, int], list[float]]:
    """All slots of every row of this process, by table and id."""
    found = {}
    for name, table in engine.tables.items():
        ids = table.ids()
        slots = torch.cat([table.slot(ids, slot).double() for slot in sorted(table.storage.slots)], 1)
        found |= {(name, id): row for id, row in zip(ids.tolist(), slots.tolist(), strict=True)}
    return found


def losses(folder: str | Path) -> list[float]:
    return [record["loss"] for record in RunFolder(folder).metrics()]


def in_ranks(out: str) -> None:
    """All that several ranks must show, in one start of them; asserts on every rank."""
    world = int(os.environ["WORLD_SIZE"])
    train(f"{out}/straight{world}")
    train(f"{out}/row_wise{world}", optimizer="row_wise")
    train(f"{out}/killed{world}", kill_at=5)
    train(f"{out}/resumed_in{world}")  # a folder that one process left at update 5
    empty_batch_on_one_rank(out)
    reload_elsewhere(out, world)


def empty_batch_on_one_rank(out: str) -> None:
    rank, world = distributed.get_rank(), distributed.get_world_size()
    model = nn.parallel.DistributedDataParallel(Clicks())
    engine = model.module.embeddings
    optimizers = [torch.optim.SGD(model.module.dense.parameters(), 0.5), SparseAdam(engine)]
    for step in range(2):
        batch = micro_batch(step, 0, 0 if rank == 0 else 8)
        model(batch)["logit"].sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    count = torch.tensor([len(engine.tables["user"])])
    distributed.all_reduce(count)
    seen = {id for step in range(2) for id in micro_batch(step, 0, 8)["features"]["user"].values.tolist()}
    assert int(count) == len(seen)
    engine.eval()
    batch = micro_batch(0, 0, 5 if rank == world - 1 else 0)
    assert engine(batch["features"])["user"].shape == (5 if rank == world - 1 else 0, 4)


def reload_elsewhere(out: str, world: int) -> None:
    """Tables of the run of one process come apart into ranges that are disjoint and whole, reading only those."""
    engine = EmbeddingEngine(SPECS, seed=5)
    loaded = load_tables(engine, f"{out}/tables1")
    held: list[Any] = [None] * world
    distributed.all_gather_object(held, rows_by_id(engine))
    united = {key: row for part in held for key, row in part.items()}
    assert sum(map(len, held)) == len(united)
    alone = torch.load(f"{out}/rows1.pt")
    assert united == alone
    read: list[Any] = [None] * world
    distributed.all_gather_object(read, loaded.bytes_read)
    assert sum(read) < loaded.bytes_of_files and max(read) < 1.2 * loaded.bytes_of_files / world
    save_tables(engine, f"{out}/tables{world}")
