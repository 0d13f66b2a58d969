"""Two processes that share an update make the same step as one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.policy import PolicyScorer
from goodrate.run_folder import RunFolder
from ranks import launch
from test_learning_fit import Noisy, OnePart, Walk
from test_learning_rollout_source import source
from tiny_models import causal_lm


def train(out: str, seconds: float | None = None, source: type[Walk] = Walk) -> nn.Module:
    """Six updates (or as many as the seconds allow) without dropout; the weights go to out/rank<r>.pt."""
    torch.set_num_threads(1)
    model = Noisy()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    updates = None if seconds else 6
    settings = FitSettings(updates=updates, seconds=seconds, precision="fp32", log_every=1, checkpoint_updates=2)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
    fit(model, source(), [optimizer], settings, folder=RunFolder(out))
    torch.save(model.state_dict(), Path(out) / f"rank{os.environ.get('RANK', 'alone')}.pt")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("source", [Walk, OnePart])  # the second process has no micro-batch of its own
def test_two_processes_are_one(source: type[Walk], tmp_path: Path) -> None:
    alone = train(str(tmp_path / "alone"), source=source).state_dict()
    kind = f"test_learning_processes.{source.__name__}"
    launch("test_learning_processes", f"train({str(tmp_path / 'two')!r}, source={kind})")
    first, second = (torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in (0, 1))
    for name, weight in alone.items():
        # Two summation orders of float32 gradients: equal to rounding, and the ranks to the bit.
        torch.testing.assert_close(first[name], weight, rtol=1e-5, atol=1e-6)
        assert torch.equal(first[name], second[name])
    losses = [[record["loss"] for record in RunFolder(tmp_path / kind).metrics()] for kind in ("alone", "two")]
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-5, atol=1e-6)
    assert len(losses[1]) == 6


@pytest.mark.slow
def test_two_processes_stop_on_one_clock(tmp_path: Path) -> None:
    launch("test_learning_processes", f"train({str(tmp_path)!r}, seconds=0.3)")
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def train_policy(out: str) -> None:
    """Four updates on own rollouts; each rank leaves its weights, and the number of rows that it wrote itself."""
    torch.set_num_threads(1)
    model, wrote = causal_lm(), []
    generate = model.generate
    model.generate = lambda ids, *args, **kwargs: (wrote.append(len(ids)), generate(ids, *args, **kwargs))[1]  # type: ignore
    optimizer = torch.optim.SGD(model.network.parameters(), 0.5)
    settings = FitSettings(updates=4, precision="fp32", schedule="constant", log_every=1)
    updates = source(model=model, micro_tokens=64)
    fit(PolicyScorer(model.network, sharing="plain"), updates, [optimizer], settings, folder=RunFolder(out))
    torch.save((model.network.state_dict(), sum(wrote)), Path(out) / f"rank{os.environ.get('RANK', 'alone')}.pt")


@pytest.mark.slow
def test_two_processes_share_the_sampling_and_learn_the_same(tmp_path: Path) -> None:
    train_policy(str(tmp_path / "alone"))
    launch("test_learning_processes", f"train_policy({str(tmp_path / 'two')!r})")
    alone, rows = torch.load(tmp_path / "alone" / "rankalone.pt")
    (first, of_first), (second, of_second) = (torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in (0, 1))
    assert of_first + of_second == rows and abs(of_first - of_second) < 0.1 * rows
    for name, weight in alone.items():
        torch.testing.assert_close(first[name], weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[name], second[name])
