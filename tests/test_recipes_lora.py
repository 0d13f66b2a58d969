"""Recipes that train a LoRA adapter: the reward rises, the base stays, the judge is merged, a killed run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goodrate.learning.fit import FitSettings
from goodrate.learning.preferences import PreferenceTermSettings
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.models.adapter import LoraSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import judge_dpo, judge_folder, judge_grpo, judge_policy, judge_sft
from goodrate.recipes.judge_rollouts import PairSampling
from goodrate.relevance.judge_card import read_judge_card
from test_recipes_judge_policy import accuracy, prompts, unsure

__all__ = ["unsure"]  # a fixture
LORA = LoraSettings(rank=8, alpha=16)


class Seen:
    """What a recipe is about to write: with its adapter, with the adapter off, and the weights beside the adapter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        def spy(model: CausalLM, form: Any, folder: Path, adapter: Any = None) -> Path:
            model.precision = "fp32"
            self.trained = logits(model)
            with adapter.off():
                self.off = logits(model)
            held = model.network.state_dict()
            self.attention = model.network.config._attn_implementation
            self.base = {n.replace(".base_layer", ""): w.clone() for n, w in held.items() if "lora_" not in n}
            return judge_folder.write_judge(model, form, folder, adapter)

        monkeypatch.setattr(module, "write_judge", spy)

    def check(self, start: Path, written: Path) -> None:
        """The base is the start's to the bit; the folder is the adapter's model, whole and as base and adapter."""
        before = CausalLM.load(start, precision="fp32")
        before.network.set_attn_implementation(self.attention)  # SFT's choice; the kernels differ in the last bit
        held = before.network.state_dict()
        assert self.base.keys() == held.keys() and all(torch.equal(self.base[name], held[name]) for name in held)
        assert (self.off == logits(before)).all() and abs(self.trained - self.off).max() > 0.1
        assert abs(logits(CausalLM.load(written, precision="fp32")) - self.trained).max() < 1e-5
        beside = CausalLM.load(start, adapter=written / "adapter", precision="fp32")
        assert abs(logits(beside) - self.trained).max() < 1e-5


def logits(model: CausalLM) -> np.ndarray:
    """Of the labels, for every prompt of the toy task."""
    return model.label_logits(
        [(p.prefix, p.suffix) for p in prompts()], judge_folder.label_token_ids(model, "four_level")
    )


def grpo(judge: Path, updates: int, lora: LoraSettings = LORA) -> judge_grpo.Settings:
    return judge_grpo.Settings(
        judge=str(judge), learning_rate=3e-3, lora=lora,
        rollouts=RolloutSettings(prompts=8, group_size=6, max_new_tokens=3),
        fit=FitSettings(updates=updates, precision="fp32", schedule="constant", checkpoint_updates=1),
    )  # fmt: skip


def test_grpo_of_an_adapter(unsure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch, judge_policy)
    records: list[dict[str, Any]] = []
    folder = judge_grpo.train(grpo(unsure, 80), prompts(), tmp_path / "run", records.append)
    assert records[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert sum(record["kl"] for record in records[-10:]) > 0.1  # one batch's KL swings between 0.006 and 0.36
    assert accuracy(unsure) < 0.7 and accuracy(folder) == 1.0  # the reward of the likeliest label
    seen.check(unsure, folder)
    assert read_judge_card(folder) == read_judge_card(unsure)
    # the next stage starts from the merged judge: its KL is 0 again
    judge_grpo.train(grpo(folder, 1), prompts(), tmp_path / "next", records.append)
    assert records[-1]["kl"] == pytest.approx(0, abs=1e-6)


def test_dpo_of_an_adapter(unsure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch, judge_dpo)
    settings = judge_dpo.Settings(
        judge=str(unsure), learning_rate=3e-3, batch_size=6, epochs=20, lora=LORA, loss=PreferenceTermSettings(nll=1.0),
        sampling=PairSampling(samples=6, max_new_tokens=3), fit=FitSettings(precision="fp32", schedule="constant"),
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    written = [replace(p, completion=str(p.label + 1)) for p in prompts()]
    folder = judge_dpo.train(settings, written, tmp_path / "run", records.append)
    assert records[0]["chosen_moved"] == 0 and records[-1]["preferred"] == 1 and accuracy(folder) == 1.0
    seen.check(unsure, folder)


def test_sft_of_an_adapter(unsure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch, judge_sft)
    examples = [replace(p, completion=str(p.label + 1)) for p in prompts()]
    settings = judge_sft.Settings(
        model=str(unsure), batch_size=18, epochs=40, learning_rate=5e-3, max_tokens=64, lora=LORA,
        fit=FitSettings(precision="fp32"),
    )  # fmt: skip
    folder = judge_sft.train(settings, examples, tmp_path / "run")
    assert accuracy(folder) == 1.0
    seen.check(unsure, folder)


def test_a_killed_run_of_an_adapter_ends_with_the_same_bits(unsure: Path, tmp_path: Path) -> None:
    settings = grpo(unsure, 5, LORA.model_copy(update={"dropout": 0.2}))

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 3:
            raise KeyboardInterrupt

    whole = judge_grpo.train(settings, prompts(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        judge_grpo.train(settings, prompts(), tmp_path / "cut", stop)
    kept = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert kept["facts"]["update"] == 2 and all("lora_" in name for name in kept["model"])
    resumed = judge_grpo.train(settings, prompts(), tmp_path / "cut")
    for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes()
