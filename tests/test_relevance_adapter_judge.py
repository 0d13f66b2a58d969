"""A judge folder that is a PEFT adapter over its base: the same judge as base and adapter, or what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.models.adapter import Adapter, LoraSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.judge import open_judge
from goodrate.relevance.lm_judge import Card, LmJudge, write_lm_card
from goodrate.relevance.pairs import Pair, text_item
from tiny_models import causal_lm

PAIRS = [Pair("red lamp", text_item(text)) for text in ("lamp ; color red", "lamp", "oak chair")]


def written_adapter(folder: Path, base: Path) -> np.ndarray:
    """A base, and an adapter over it with a judge.json; the label logits that both give together."""
    model = causal_lm()
    model.save(base)
    card = Card(scale="four_level", label_token_ids=tuple(model.encode(digit)[0] for digit in "1234"), max_new_tokens=8)
    adapter = Adapter(CausalLM.load(base, precision="fp32").network, LoraSettings(rank=4, alpha=8), seed=1)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in adapter.network.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=draw))
    adapter.save(folder)
    write_lm_card(folder, card)
    adapter.merge()
    return LmJudge(CausalLM(adapter.network, model.tokenizer, "fp32"), card).assess(PAIRS).probabilities


def test_an_adapter_with_a_card_is_a_judge_over_the_base_that_it_names(tmp_path: Path) -> None:
    folder, base = tmp_path / "judge", tmp_path / "base"
    expected = written_adapter(folder, base)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert not (folder / "config.json").exists()
    judge = LmJudge.load(folder, precision="fp32")
    np.testing.assert_allclose(judge.assess(PAIRS).probabilities, expected, atol=1e-5)
    write_lm_card(base, judge.card)
    bare = LmJudge.load(base, precision="fp32").assess(PAIRS).probabilities
    assert np.abs(bare - expected).max() > 0.05  # the adapter says something of its own
    assert open_judge(folder).judge("red lamp", ["lamp"])[0].status == "ok"


def test_another_base_under_the_same_name_is_another_judge(tmp_path: Path) -> None:
    folder, base = tmp_path / "judge", tmp_path / "base"
    written_adapter(folder, base)
    before = LmJudge.load(folder, precision="fp32").identity
    assert LmJudge.load(folder, precision="fp32").identity == before
    causal_lm(seed=1).save(base)
    assert LmJudge.load(folder, precision="fp32").identity != before


def test_a_base_inside_the_judges_folder_moves_with_it(tmp_path: Path) -> None:
    folder, base = tmp_path / "judge", tmp_path / "base"
    expected = written_adapter(folder, base)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "base"}))
    shutil.move(base, folder / "base")
    shutil.move(folder, tmp_path / "elsewhere")
    moved = LmJudge.load(tmp_path / "elsewhere", precision="fp32").assess(PAIRS).probabilities
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_a_missing_base_is_named_with_the_file_that_names_it(tmp_path: Path) -> None:
    folder, base = tmp_path / "judge", tmp_path / "base"
    written_adapter(folder, base)
    shutil.rmtree(base)
    config = folder / "adapter_config.json"
    with pytest.raises(FileNotFoundError) as error:
        open_judge(folder)
    assert str(error.value).startswith(f"{config} names a base that is missing: {base}: no config.json there")
    named = json.loads(config.read_text())
    for value in (None, "", 3):
        config.write_text(json.dumps({**named, "base_model_name_or_path": value}))
        with pytest.raises(ValueError, match="no base_model_name_or_path; expected the folder or hub id") as wrong:
            open_judge(folder)
        assert str(config) in str(wrong.value)
    for content in ("[]", "{"):
        config.write_text(content)
        with pytest.raises(ValueError, match="adapter_config.json: (expected a JSON object|not valid JSON)"):
            open_judge(folder)
