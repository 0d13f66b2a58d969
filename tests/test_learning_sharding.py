"""Weights spread over processes: the losses of one process, checkpoints for any number, whole weights at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import sharded_runs
import tiny_models
from goodrate.extras import MissingExtra
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.layout import refuse_spread
from goodrate.learning.zero import zero_config
from goodrate.models.causal_lm import CausalLM
from goodrate.run_folder import RunFolder
from goodrate.settings import decides_result
from ranks import launch
from test_learning_fit import Noisy, Walk

CASES = [sharded_runs.name_of(kind, lora) for kind, lora in sharded_runs.CASES]
RESUMED = [sharded_runs.name_of(kind, lora) for kind, lora in sharded_runs.RESUMED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case in one process and in two, and some begun by as many and ended by the others."""
    path = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDED_WORDS", str(tiny_models.tokenizer_file(path)))
        for kind, lora in sharded_runs.CASES:
            sharded_runs.train(path / "alone" / sharded_runs.name_of(kind, lora), kind, lora)
        for kind, lora in sharded_runs.RESUMED:
            sharded_runs.train(path / "from_one" / sharded_runs.name_of(kind, lora), kind, lora, sharded_runs.BEGUN)
        launch("sharded_runs", f"train_all({str(path)!r})")
        for kind, lora in sharded_runs.RESUMED:
            sharded_runs.train(path / "from_two" / sharded_runs.name_of(kind, lora), kind, lora)
    return path


def same(folder: Path, run: str, case: str, rank: str) -> None:
    """A run logged the numbers of the one in one process, and the weights of that rank are its weights, to rounding."""
    alone, other = (RunFolder(folder / kind / case).metrics() for kind in ("alone", run))
    assert [record["update"] for record in other] == list(range(1, sharded_runs.UPDATES + 1))
    for name in ("loss", "gradient_norm", "size"):
        first, second = (torch.tensor([record[name] for record in records]) for records in (alone, other))
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)
    expected = torch.load(folder / "alone" / case / "rankalone.pt")
    found = torch.load(folder / run / case / f"rank{rank}.pt")
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_with_shares_learn_what_one_learns(folder: Path, case: str) -> None:
    same(folder, "two", case, "0")
    first, second = (torch.load(folder / "two" / case / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = RunFolder(folder / "alone" / case).metrics()
    assert min(record["gradient_norm"] for record in records) > sharded_runs.CLIP  # every one was clipped


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_any_number_of_processes_goes_on_from_a_checkpoint(folder: Path, case: str) -> None:
    same(folder, "from_one", case, "1")
    same(folder, "from_two", case, "alone")


@pytest.mark.slow
def test_every_process_holds_its_share_alone(folder: Path) -> None:
    for case in CASES:
        held = [torch.load(folder / "two" / case / f"held{rank}.pt") for rank in (0, 1)]
        whole, parts = held[0]["whole"], [rank["own"] for rank in held]
        assert sum(parts) == whole == held[1]["whole"] and max(parts) < 0.75 * whole


@pytest.mark.slow
def test_the_folder_of_a_sharded_run_is_the_model(folder: Path) -> None:
    saved = CausalLM.load(folder / "two" / "sft" / "model").network.state_dict()
    expected = torch.load(folder / "two" / "sft" / "rank0.pt")
    assert saved.keys() == expected.keys() and all(torch.equal(saved[name], expected[name]) for name in saved)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["zero2", "zero3"])
def test_zero_learns_what_one_process_learns(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("SHARDED_WORDS", str(folder / "tokenizer.json"))
    launch("sharded_runs", f"train_each({str(folder / how)!r}, {how!r})")
    for case in CASES:
        same(folder, how, case, "0")
    with pytest.raises(AssertionError):  # the processes end with a ValueError: go on with fsdp2 or ddp
        launch("sharded_runs", f"train_each({str(folder / how)!r}, {how!r})")


def test_zero_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    weights = nn.Linear(2, 2)
    with pytest.raises(MissingExtra, match="fit.sharding = 'zero3', .* needs deepspeed: pip install"):
        fit(weights, Walk(), [torch.optim.AdamW(weights.parameters())], FitSettings(updates=1, sharding="zero3"))
    with pytest.raises(ValueError, match="takes one AdamW"):
        fit(weights, Walk(), [torch.optim.SGD(weights.parameters())], FitSettings(updates=1, sharding="zero2"))


def test_zeros_configuration() -> None:
    config = zero_config("zero2", 0.5)
    assert config["zero_optimization"]["stage"] == 2 and config["gradient_clipping"] == 0.5
    assert zero_config("zero3", float("inf"))["gradient_clipping"] == 0.0  # DeepSpeed's word for none


class Spreads(nn.Linear):
    """A layer that is spread over the processes by itself."""

    def save_parts(self, folder: Path) -> None: ...

    def load_parts(self, folder: Path) -> None: ...

    def finite(self) -> bool:
        return True


def test_one_process_has_nothing_to_share() -> None:
    ends = []
    for how in ("ddp", "fsdp2"):
        model = Noisy()
        settings = FitSettings(updates=2, precision="fp32", sharding=how)  # type: ignore[arg-type]
        fit(model, Walk(), [torch.optim.SGD(model.policy.parameters(), 0.1)], settings)
        ends.append(model.state_dict())
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


def test_what_is_spread_by_itself_is_not_sharded() -> None:
    with pytest.raises(ValueError, match=r"'fsdp2': '0' of this model is spread.*'ddp'"):
        refuse_spread(nn.Sequential(Spreads(2, 2)), "fsdp2")


def test_a_sharded_run_may_go_on_otherwise() -> None:
    assert not decides_result("fit.sharding")
