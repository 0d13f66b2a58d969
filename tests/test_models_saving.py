"""A model's folder is whole whichever process of a run puts it in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.distributed import mixin

from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from tiny_models import causal_lm, tokenizer_file


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("made", "opened"),
    [
        (lambda folder: causal_lm(), CausalLM.load),
        (lambda folder: Encoder.create(tokenizer_file(folder), hidden=16, layers=1, heads=2), Encoder.load),
    ],
    ids=["causal_lm", "encoder"],
)
def test_every_process_writes_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, made: Callable[[Path], Any], opened: Any
) -> None:
    model = made(tmp_path)
    monkeypatch.setattr(mixin, "_is_torch_distributed_initialized", lambda: True)
    monkeypatch.setattr(mixin, "_get_torch_distributed_rank", lambda: rank)
    assert model.network.should_save_on_this_rank(True) == (rank == 0)  # what transformers would do
    model.save(tmp_path / "model")
    monkeypatch.undo()
    same = opened(tmp_path / "model").network.state_dict()
    assert all((same[name] == weight).all() for name, weight in model.network.state_dict().items())
    assert "should_save_on_this_rank" not in vars(model.network)
