"""The loop: exact resume, budgets, logging, precision, what it refuses."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, tensor

from goodrate.extras import MissingExtra
from goodrate.folder_lock import FolderBusy, is_lock_file, one_writer
from goodrate.learning import losses
from goodrate.learning.checkpoint import model_state
from goodrate.learning.fit import FitSettings, accumulate, fit
from goodrate.learning.records import Term, Update
from goodrate.learning.reference import freeze_reference
from goodrate.learning.schedule import factor, run_progress
from goodrate.learning.source import EpochOrder, bucketed_batches, seed_of, split_by_tokens
from goodrate.learning.tracker import Tracker
from goodrate.run_folder import RunFolder

torch.set_num_threads(1)


class Noisy(nn.Module):
    """A small network with dropout, so that the random state matters; and a frozen reference of itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.policy = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.reference = freeze_reference(self.policy)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits, reference = self.policy(batch["x"]), self.reference(batch["x"])
        pick = batch["y"][:, None]
        return {
            "logprobs": torch.log_softmax(logits, 1).gather(1, pick)[:, 0],
            "reference": torch.log_softmax(reference, 1).gather(1, pick)[:, 0],
        }


TERMS = [
    Term("nll", lambda o, b: losses.cross_entropy(o["logprobs"]), mask="mask"),
    Term("kl", lambda o, b: losses.kl_k3(o["logprobs"], o["reference"]), mask="mask", weight=0.1),
]


class Walk:
    """A source with a state of its own: every update depends on all updates before it."""

    def __init__(self) -> None:
        self.position = torch.zeros(3)

    def next(self, step: int) -> Update | None:
        generator = torch.Generator().manual_seed(seed_of("walk", step))
        self.position = self.position + torch.randn(3, generator=generator)
        x = self.position + torch.randn(6, 3, generator=generator)
        y = (x[:, 0] > 0).long()
        cut = [slice(0, 2), slice(2, 6)]
        return Update([{"x": x[c], "y": y[c], "mask": torch.ones(len(y[c])).bool()} for c in cut], TERMS)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


class OnePart(Walk):
    """The same updates as one micro-batch each."""

    def next(self, step: int) -> Update | None:
        update = super().next(step)
        assert update is not None
        parts = update.micro_batches
        return Update([{name: torch.cat([part[name] for part in parts]) for name in parts[0]}], TERMS)


def train(folder: Path | None, updates: int = 9, on_update: Any = None, **settings: Any) -> tuple[Noisy, Any]:
    model = Noisy()
    options = {"updates": updates, "precision": "fp32", "checkpoint_updates": 2, "log_every": 1, "seed": 3, **settings}
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizers = [torch.optim.AdamW(weights[:2], 0.01), torch.optim.SGD(weights[2:], 0.1, momentum=0.9)]
    run = RunFolder(folder) if folder else None
    return model, fit(model, Walk(), optimizers, FitSettings(**options), folder=run, on_update=on_update)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [1, 2, 5, 8])
def test_a_run_killed_at_any_update_continues_as_if_it_had_not_been(killed_at: int, tmp_path: Path) -> None:
    straight, _ = train(None)

    def kill(record: dict[str, Any]) -> None:
        if record["update"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, on_update=kill)
    (tmp_path / ".checkpoint.pt.cut").write_bytes(b"half")  # what a kill while writing leaves
    torch.manual_seed(999)  # the resumed process has another random state
    resumed, result = train(tmp_path)
    assert same(straight, resumed) and result.updates == 9 and result.stopped_by == "updates"
    assert [record["update"] for record in RunFolder(tmp_path).metrics()] == list(range(1, 10))
    assert json.loads((tmp_path / "result.json").read_text())["updates"] == 9
    assert not (tmp_path / ".checkpoint.pt.cut").exists()


def test_a_process_killed_outright_resumes(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
import test_learning_fit as t
def kill(record):
    if record["update"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
t.train(t.Path({str(tmp_path)!r}), on_update=kill)
"""
    process = subprocess.run([sys.executable, "-c", code], timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == -signal.SIGKILL
    assert same(train(None)[0], train(tmp_path)[0])


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    seen: list[Any] = []
    second, result = train(tmp_path, on_update=seen.append)
    assert seen == [] and result.updates == 9 and same(first, second)


def test_a_folder_that_another_run_writes_to_is_left_as_it_is(tmp_path: Path) -> None:
    train(tmp_path, updates=4)
    cut_off = tmp_path / ".checkpoint.pt.other"  # what the other run is writing
    cut_off.write_bytes(b"half")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not is_lock_file(file)}
    refused: list[FolderBusy] = []

    def second() -> None:
        try:
            train(tmp_path)
        except FolderBusy as error:
            refused.append(error)

    with one_writer(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"by process {os.getpid()} on" in str(refused[0])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if not is_lock_file(file)} == before


def test_the_kl_starts_at_zero_and_the_reference_stays() -> None:
    seen: list[dict[str, Any]] = []
    model = Noisy()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    assert model.train().policy.training and not any(part.training for part in model.reference.modules())
    before = {name: value.clone() for name, value in model.reference.state_dict().items()}
    optimizer = torch.optim.SGD(model.policy.parameters(), 0.5)
    fit(model, Walk(), [optimizer], FitSettings(updates=3, precision="fp32"), on_update=seen.append)
    assert seen[0]["kl"] == 0.0 and seen[2]["kl"] > 0
    assert all(torch.equal(before[name], value) for name, value in model.reference.state_dict().items())
    assert {name.split(".")[0] for name in model_state(model)} == {"policy"}


def test_seconds_stop_a_run_and_count_over_sittings(tmp_path: Path) -> None:
    _, result = train(tmp_path, updates=None, seconds=0.2)
    assert result.stopped_by == "seconds" and result.updates > 2 and 0.2 <= result.seconds < 2
    again = train(tmp_path, updates=None, seconds=0.2)[1]
    assert again.updates == result.updates  # the budget is spent


@pytest.mark.parametrize("budget", [{"seconds": 0.2}, {"epochs": 5}, {"updates": 5}])
def test_the_last_update_is_logged_whatever_ends_the_run(budget: dict[str, Any], tmp_path: Path) -> None:
    class Ending(Walk):
        def next(self, step: int) -> Update | None:
            return None if step == budget.get("epochs") else super().next(step)

    model, seen = Noisy(), []
    settings = FitSettings(log_every=1000, precision="fp32", **{k: v for k, v in budget.items() if k != "epochs"})
    optimizer = torch.optim.SGD(model.policy.parameters(), 0.1)
    fit(model, Ending(), [optimizer], settings, folder=RunFolder(tmp_path), on_update=seen.append)
    assert [record["update"] for record in RunFolder(tmp_path).metrics()] == [seen[-1]["update"]]
    fit(model, Ending(), [optimizer], settings, folder=RunFolder(tmp_path))  # done: nothing is logged again
    assert len(RunFolder(tmp_path).metrics()) == 1


def test_the_record_that_an_error_stops_at_is_logged(tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 4:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, log_every=3, on_update=stop)
    assert [record["update"] for record in RunFolder(tmp_path).metrics()] == [3, 4]


def test_a_share_without_a_micro_batch_adds_nothing_and_takes_part_in_the_backward_pass() -> None:
    update, model, backwards = OnePart().next(0), Noisy(), []
    assert update is not None
    found = accumulate(model, update, lambda loss: (backwards.append(loss), loss.backward()), share=slice(1, None, 2))
    assert len(backwards) == 1 and found == {"nll": 0.0, "kl": 0.0, "loss": 0.0}
    assert all(not weight.grad.any() for weight in model.policy.parameters())  # none is None: all processes have one


def test_precision_is_resolved_once_and_recorded(tmp_path: Path) -> None:
    assert train(None, updates=1)[1].precision == "fp32"
    seen: list[dict[str, Any]] = []
    assert train(None, updates=1, precision="bf16", on_update=seen.append)[1].precision == "bf16"
    assert math.isfinite(seen[0]["loss"])


def test_a_loss_that_is_not_finite_stops_the_run_with_its_terms() -> None:
    class Broken(Noisy):
        def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
            return {name: value * float("nan") for name, value in super().forward(batch).items()}

    model = Broken()
    optimizer = torch.optim.SGD(model.policy.parameters(), 0.1)
    with pytest.raises(FloatingPointError, match="update 0: the loss is not finite: .*nll"):
        fit(model, Walk(), [optimizer], FitSettings(updates=2, precision="fp32"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path, updates=2)
    model = nn.Linear(3, 2)
    optimizers = [torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)]
    with pytest.raises(ValueError, match="another model: missing"):
        fit(model, Walk(), optimizers, FitSettings(updates=2), folder=RunFolder(tmp_path))


def test_clipping_and_schedule_reach_the_optimizer() -> None:
    seen: list[dict[str, Any]] = []
    train(None, updates=4, schedule="linear", warmup=0.5, on_update=seen.append)
    # middles of the updates: 1/8, 3/8, 5/8, 7/8; until 1/2 the factor is progress / .5, then (1 - progress) / .5
    assert [r["learning_rate"] for r in seen] == pytest.approx([0.0025, 0.0075, 0.0075, 0.0025])
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)

    class One(Walk):
        def next(self, step: int) -> Update:
            batch = {"x": tensor([[30.0]]), "mask": torch.ones(1, 1).bool()}
            return Update([batch], [Term("sum", lambda o, b: o["y"], "mask")])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = model

        def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
            return {"y": self.layer(batch["x"])}

    settings = FitSettings(updates=1, schedule="constant", warmup=0, precision="fp32", clip_norm=0.5)
    fit(Model(), One(), [torch.optim.SGD(model.parameters(), 1.0)], settings)
    assert model.weight.item() == pytest.approx(1.5, abs=1e-4)  # gradient 30 clipped to .5


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.7, 0.0)]
)  # cosine: (1 + cos(pi * (.55 - .1) / .9)) / 2 = .5
def test_cosine(progress: float, expected: float) -> None:
    assert factor(progress, schedule="cosine", warmup=0.1) == pytest.approx(expected, abs=1e-9)


def test_progress_is_the_further_budget() -> None:
    assert run_progress(4, 10.0, updates=9, budget=100.0) == 0.5
    assert run_progress(4, 90.0, updates=9, budget=100.0) == 0.9
    assert run_progress(4, 90.0, updates=None, budget=None) == 1.0


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 3), st.integers(0, 9))
def test_every_row_once_per_epoch(lengths: list[int], batch_size: int, pool: int, seed: int) -> None:
    batches = bucketed_batches(lengths, batch_size, seed, pool)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in batches)
    assert batches == bucketed_batches(lengths, batch_size, seed, pool)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120))
def test_micro_batches_stay_within_their_tokens(lengths: list[int], max_tokens: int) -> None:
    parts = split_by_tokens(range(len(lengths)), lengths, max_tokens)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or len(part) * max(lengths[row] for row in part) <= max_tokens for part in parts)


def test_epochs_end_and_differ() -> None:
    order = EpochOrder([1] * 10, batch_size=4, seed=0, epochs=2)
    assert order.batches_per_epoch == 3 and order.rows(6) is None
    first, second = [[order.rows(epoch * 3 + i) for i in range(3)] for epoch in range(2)]
    assert first != second and first == [EpochOrder([1] * 10, 4, 0).rows(i) for i in range(3)]
    with pytest.raises(ValueError, match="no examples"):
        EpochOrder([], 4, 0)


def test_records_go_to_tensorboard_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = Noisy()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    fit(
        model, Walk(), [optimizer], FitSettings(updates=4, log_every=2, precision="fp32", tensorboard=True),
        folder=RunFolder(tmp_path),
    )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}
    logged = {record["update"]: record["loss"] for record in RunFolder(tmp_path).metrics()}
    assert losses == pytest.approx(logged) and sorted(losses) == [2, 4]


def test_tensorboard_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r'fit.tensorboard needs tensorboard: pip install "goodrate\[tensorboard\]"'):
        Tracker(tmp_path)
