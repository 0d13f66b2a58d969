"""Streamed events as the source of a training: killed = never killed, two processes = one, DeepFM learns from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.events import EventStream
from goodrate.learning.fit import FitSettings, fit
from goodrate.models.click_network import ClickModel
from goodrate.models.deepfm import DeepFM, factorised_pairs, log_scaled
from goodrate.models.dynamic_table import EmbeddingEngine, EmbeddingSpec, SparseAdam
from goodrate.ragged import Ragged
from goodrate.recipes.click_training import table_rows
from goodrate.recipes.event_source import EventSource
from goodrate.run_folder import RunFolder
from ranks import launch

COLUMNS = EventColumns(ids=("item",), numbers=("price", "age"), label="clicked")


def write_events(folder: Path, rows: int = 300) -> None:
    """Events in two files of row groups of 40; an item of an odd number is clicked."""
    rng = np.random.default_rng(0)
    items, price = rng.integers(0, 20, rows), rng.lognormal(size=rows)
    events = pa.table({
        "item": pa.array([f"sku-{i}" for i in items]), "price": pa.array(price),
        "age": pa.array([None if i % 4 == 0 else float(i) for i in items]), "clicked": pa.array(items % 2),
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(events[: rows // 3], folder / "a.parquet", row_group_size=40)
    pq.write_table(events[rows // 3 :], folder / "b.parquet", row_group_size=40)


class Dense(nn.Module):
    """A model without a table: a linear map of price and age, and of the first item's bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(10, 1)

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        bits = (batch["ids"]["item"].values[:, None] >> torch.arange(6)) & 1
        return {"logits": self.linear(torch.cat([log_scaled(batch["numbers"]), bits], dim=1)).squeeze(1)}


def train(events: str, out: str, updates: int = 12, lanes: int = 3, deep: bool = False) -> nn.Module:
    """So many updates of 8 rows a lane; the weights go to out/rank<r>.pt."""
    torch.set_num_threads(1)
    stream = EventStream(events, COLUMNS, workers=lanes, epochs=3, seed=5)
    torch.manual_seed(1)
    model: nn.Module = Dense()
    optimizers: list[torch.optim.Optimizer] = []
    if deep:
        model = DeepFM(EmbeddingEngine({"item": EmbeddingSpec(5)}), ["item"], 4, numbers=2, hidden=(8,))
        optimizers = [SparseAdam(model.embed, lr=0.05)]
    optimizers.append(torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    settings = FitSettings(
        updates=updates, precision="fp32", log_every=1, checkpoint_updates=4, schedule="constant", warmup=0
    )
    fit(model, EventSource(stream, 8), optimizers, settings, folder=RunFolder(out))
    torch.save(model.state_dict(), Path(out) / f"rank{os.environ.get('RANK', 'alone')}.pt")
    return model


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in RunFolder(folder).metrics()]


def test_an_update_is_the_next_rows_of_every_lane(tmp_path: Path) -> None:
    write_events(tmp_path)
    source = EventSource(EventStream(tmp_path, COLUMNS, workers=3), rows=30)
    updates = [update for step in range(99) if (update := source.next(step)) is not None]
    # row groups 40 40 20, 40 40 40 40 40: lanes of 120, 100 and 80 rows; 30 rows a lane an update
    assert [[batch["mask"].numel() for batch in update.micro_batches] for update in updates] == [
        [30, 30, 30], [30, 30, 30], [30, 30, 20], [30, 10],
    ]  # fmt: skip
    assert [update.facts["events"] for update in updates] == [90, 90, 80, 40]
    batch = updates[0].micro_batches[0]
    assert isinstance(batch["ids"]["item"], Ragged) and batch["numbers"].shape == (30, 2)
    assert batch["numbers"].isnan()[:, 0].sum() == 0 and batch["labels"].dtype == torch.float32


def test_a_rank_reads_its_own_lanes_only(tmp_path: Path) -> None:
    write_events(tmp_path)
    stream = EventStream(tmp_path, COLUMNS, workers=4)
    source = EventSource(stream, rows=10)
    for step in range(3):
        update = source.next(step)
        assert update is not None
        for batch in update.micro_batches:
            assert batch["mask"].all()  # denominators look at every mask
        for batch in update.micro_batches[slice(1, None, 2)]:  # the share of the second of two ranks
            assert len(batch["labels"]) == 10
    assert sorted(stream._readers) == [1, 3]


def test_killed_is_never_killed(tmp_path: Path) -> None:
    write_events(tmp_path / "events")
    whole = train(str(tmp_path / "events"), str(tmp_path / "whole"), updates=30).state_dict()
    train(str(tmp_path / "events"), str(tmp_path / "parts"), updates=7)
    again = train(str(tmp_path / "events"), str(tmp_path / "parts"), updates=30).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_it_goes_on_with_another_number_of_lanes(tmp_path: Path) -> None:
    write_events(tmp_path)

    def values(lanes: int, state: dict[str, Any] | None, steps: int) -> tuple[list[int], dict[str, Any]]:
        source = EventSource(EventStream(tmp_path, COLUMNS, workers=lanes), rows=7)
        if state is not None:
            source.load_state_dict(state)
        read: list[int] = []
        for step in range(steps):
            update = source.next(step)
            if update is None:
                break
            prices = [batch["numbers"][:, 0] for batch in update.micro_batches]
            read += torch.cat(prices).view(torch.int32).tolist()
        return read, source.state_dict()

    whole, _ = values(1, None, 99)
    first, state = values(3, None, 4)
    second, state = values(2, state, 5)
    third, _ = values(5, state, 99)
    assert len(first) == 84 and sorted(first + second + third) == sorted(whole) and len(whole) == 300


def in_ranks(events: str, out: str) -> None:
    """All that several ranks must show, in one start of them: dense weights alone, and a table that they share."""
    for lanes in (3, 1):  # with one lane the second process has nothing
        train(events, f"{out}/two{lanes}", updates=40, lanes=lanes)
    deep = train(events, f"{out}/deep", updates=20, deep=True)
    torch.save(table_rows(ClickModel(deep, {})), f"{out}/rows{os.environ['RANK']}.pt")  # as a ranker is written
    train(events, f"{out}/from_one", updates=20, deep=True)  # one process left it at update 7
    train(events, f"{out}/to_one", updates=9, deep=True)  # and one goes on here


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process trains, and what two do, with the same events."""
    folder = tmp_path_factory.mktemp("ranks")
    events = str(folder / "events")
    write_events(folder / "events")
    for lanes in (3, 1):
        train(events, str(folder / f"alone{lanes}"), updates=40, lanes=lanes)
    deep = train(events, str(folder / "deep_alone"), updates=20, deep=True)
    torch.save(table_rows(ClickModel(deep, {})), folder / "rows_alone.pt")
    train(events, str(folder / "from_one"), updates=7, deep=True)
    launch("test_recipes_event_source", f"in_ranks({events!r}, {str(folder)!r})")
    train(events, str(folder / "to_one"), updates=20, deep=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [3, 1])
def test_two_processes_are_one(lanes: int, ranks: Path) -> None:
    alone = torch.load(ranks / f"alone{lanes}" / "rankalone.pt")
    first, second = (torch.load(ranks / f"two{lanes}" / f"rank{rank}.pt") for rank in (0, 1))
    for name, weight in alone.items():
        torch.testing.assert_close(first[name], weight, rtol=1e-5, atol=1e-6)
        assert torch.equal(first[name], second[name])
    torch.testing.assert_close(*map(torch.tensor, (losses(ranks / f"alone{lanes}"), losses(ranks / f"two{lanes}"))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep", "from_one", "to_one"])
def test_a_stream_trains_a_table_that_two_processes_share(name: str, ranks: Path) -> None:
    """Two processes, two that go on from one, and one that goes on from two: the losses of one to six digits."""
    alone, found = losses(ranks / "deep_alone"), losses(ranks / name)
    assert len(found) == 20 and alone[-1] < alone[0]
    np.testing.assert_allclose(found, alone, rtol=1e-6)


@pytest.mark.slow
def test_what_two_processes_share_is_written_whole_by_each(ranks: Path) -> None:
    def by_id(name: str) -> dict[int, list[float]]:
        ids, rows = torch.load(ranks / name, weights_only=False)["item"]
        return dict(zip(ids.tolist(), rows.tolist(), strict=True))

    alone, first, second = by_id("rows_alone.pt"), by_id("rows0.pt"), by_id("rows1.pt")
    assert len(alone) == 20 and first.keys() == alone.keys() and first == second
    for item, row in alone.items():
        np.testing.assert_allclose(first[item], row, atol=1e-5)


def test_a_deepfm_learns_which_items_are_clicked(tmp_path: Path) -> None:
    write_events(tmp_path / "events")
    model = train(str(tmp_path / "events"), str(tmp_path / "run"), updates=36, deep=True).eval()
    stream = EventStream(tmp_path / "events", COLUMNS)
    update = EventSource(stream, 300).next(0)
    assert update is not None
    batch = update.micro_batches[0]
    with torch.no_grad():
        logits = model(batch)["logits"]
    assert ((logits > 0) == (batch["labels"] > 0.5)).float().mean() > 0.95
    assert len(model.embed.tables["item"]) == 20


def test_factorised_pairs_by_hand() -> None:
    # <(1,2),(3,4)> + <(1,2),(-1,0)> + <(3,4),(-1,0)> = 11 - 1 - 3
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [-1.0, 0.0]]])
    assert factorised_pairs(vectors).tolist() == [7.0]


def test_a_deepfm_adds_its_three_parts() -> None:
    class Fixed(nn.Module):
        def forward(self, ids: Any) -> dict[str, torch.Tensor]:
            return {"a": torch.tensor([[0.5, 1.0, 2.0]]), "b": torch.tensor([[0.25, 3.0, 4.0]])}

    model = DeepFM(Fixed(), ["a", "b"], factors=2, numbers=1, hidden=(3,)).eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model.linear.weight.data.copy_(torch.tensor([[2.0, 5.0]]))
    model.deep[-1].bias.data.fill_(0.125)
    # 0.5 + 0.25 + <(1,2),(3,4)> = 11, the perceptron's bias, and 5 for a missing number, or 2 log(1 + e - 1)
    batch = {"ids": {}, "numbers": torch.tensor([[float("nan")]])}
    assert model(batch)["logits"].tolist() == [0.75 + 11 + 0.125 + 5]
    batch["numbers"] = torch.tensor([[float(np.e - 1)]])
    torch.testing.assert_close(model(batch)["logits"], torch.tensor([0.75 + 11 + 0.125 + 2]))


def test_a_training_goes_on_with_what_was_added(tmp_path: Path) -> None:
    write_events(tmp_path, rows=90)
    source = EventSource(EventStream(tmp_path, COLUMNS, follow=0.0, workers=2), rows=100)
    first, end = source.next(0), source.next(1)
    assert first is not None and first.facts["events"] == 90 and end is None
    state = source.state_dict()
    (tmp_path / "a.parquet").rename(tmp_path / "c.parquet")  # the same 30 rows under a new name are new rows
    later = EventSource(EventStream(tmp_path, COLUMNS, follow=0.0, workers=2), rows=100)
    later.load_state_dict(state)
    added = later.next(2)
    assert added is not None and added.facts["events"] == 30 and later.next(3) is None


def test_a_growing_folder_with_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_events(tmp_path)
    stream = EventStream(tmp_path, COLUMNS, follow=0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="followed by one process"):
        EventSource(stream, 8)
    with pytest.raises(ValueError, match="rows 0"):
        EventSource(stream, 0)
