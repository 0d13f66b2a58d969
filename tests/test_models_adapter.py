"""The LoRA adapter inside a network: what trains, what stays, what the reference sees, what a merge gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.reference import freeze_reference
from goodrate.models.adapter import Adapter, LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from tiny_models import causal_lm

PROMPTS = [("query: red lamp", f"item: {word} answer:") for word in ("lamp", "chair", "desk red", "oak")]
LABELS = [5, 6, 7, 8]


def with_adapter(family: str = "qwen3", **settings: Any) -> tuple[CausalLM, Adapter]:
    """A tiny model with an adapter that has moved away from zero."""
    model = causal_lm(family)
    adapter = Adapter(model.network, LoraSettings(rank=4, alpha=8, **settings), seed=1)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.network.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=draw))
    return model, adapter


def batch(model: CausalLM) -> dict[str, Any]:
    """Two completions behind one prompt, as PolicyScorer reads them."""
    ids = torch.tensor([[9, 10, 11], [12, 13, 0]])
    scored = torch.tensor([[True, True, True], [True, True, False]])
    prompts = {"prompts/plain": (tuple(model.encode("query: red lamp")),), "row/plain": torch.tensor([0, 0])}
    return {"views": ("plain",), "temperature": 1.0, "ids": ids, "scored": scored, **prompts}


def test_a_fresh_adapter_changes_nothing_and_only_it_trains() -> None:
    plain, model = causal_lm(), causal_lm()
    before = {name: weight.clone() for name, weight in model.network.named_parameters()}
    add_adapter(model.network, LoraSettings(rank=4), seed=1)
    assert (model.label_logits(PROMPTS, LABELS) == plain.label_logits(PROMPTS, LABELS)).all()
    trained = {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    # 2 layers x 7 linear layers x (A, B); the head is none of them
    assert len(trained) == 28 and all("lora_" in name for name in trained)
    kept = {n.replace(".base_layer", ""): w for n, w in model.network.named_parameters() if "lora_" not in n}
    assert kept.keys() == before.keys() and all(torch.equal(kept[name], before[name]) for name in before)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_either_optimizer_takes_the_adapter_and_nothing_else(name: OptimizerName) -> None:
    model, _ = with_adapter()
    found = make_optimizers(model.network, name, 1e-3)
    taken = {id(weight) for optimizer in found for group in optimizer.param_groups for weight in group["params"]}
    assert len(found) == 1 and taken == {id(w) for w in model.network.parameters() if w.requires_grad}


def test_the_seed_decides_the_adapter_and_leaves_the_other_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    states = []
    for seed in (1, 1, 2):
        model = causal_lm()
        torch.manual_seed(5)
        Adapter(model.network, LoraSettings(rank=4), seed=seed)
        assert torch.equal(torch.rand(1), expected)
        states.append(model.network.state_dict()["model.layers.0.self_attn.q_proj.lora_A.default.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma2", "bert"])
def test_a_merged_model_has_the_logits_and_the_words_of_the_adapter(family: str, tmp_path: Path) -> None:
    model, adapter = with_adapter(family)
    with_it, written = model.label_logits(PROMPTS, LABELS), model.generate(PROMPTS, 5, None, temperature=1.0, seed=3)
    assert abs(with_it - causal_lm(family).label_logits(PROMPTS, LABELS)).max() > 0.1  # it is not the base's
    adapter.save(tmp_path / "adapter")
    adapter.merge()
    model.save(tmp_path / "merged")
    causal_lm(family).save(tmp_path / "base")
    for loaded in (
        CausalLM.load(tmp_path / "merged", precision="fp32"),
        CausalLM.load(tmp_path / "base", adapter=tmp_path / "adapter", precision="fp32"),
    ):
        assert abs(loaded.label_logits(PROMPTS, LABELS) - with_it).max() < 1e-5
        assert [c.token_ids for c in loaded.generate(PROMPTS, 5, None, temperature=1.0, seed=3)] == [
            c.token_ids for c in written
        ]
    assert not any("lora" in name for name in CausalLM.load(tmp_path / "merged").network.state_dict())


def test_adapter_off_is_the_base_to_the_bit_and_what_trains_is_put_back() -> None:
    model, adapter = with_adapter(dropout=0.5)
    model.network.train()
    moved = model.label_logits(PROMPTS, LABELS)
    trained = [name for name, weight in model.network.named_parameters() if weight.requires_grad]
    with adapter.off() as network:
        assert network is model.network and not network.training
        assert (model.label_logits(PROMPTS, LABELS) == causal_lm().label_logits(PROMPTS, LABELS)).all()
    assert model.network.training
    assert [name for name, weight in model.network.named_parameters() if weight.requires_grad] == trained
    assert (model.label_logits(PROMPTS, LABELS) == moved).all()


def test_the_reference_and_the_gradients_are_those_of_a_frozen_copy() -> None:
    model, adapter = with_adapter()
    found = []
    for reference in (freeze_reference(causal_lm().network), adapter):
        scorer = PolicyScorer(model.network, reference).train()
        outputs = scorer(batch(model))
        (torch.exp(outputs["reference"] - outputs["plain"]).sum()).backward()
        found.append((outputs["reference"], [w.grad.clone() for w in model.network.parameters() if w.requires_grad]))
        model.network.zero_grad()
    assert torch.equal(found[0][0], found[1][0]) and not found[1][0].requires_grad
    assert len(found[1][1]) == 28 and all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_the_scorer_holds_no_second_copy_of_the_weights() -> None:
    model, adapter = with_adapter()
    names = list(PolicyScorer(model.network, adapter).state_dict())
    assert len(names) == len(model.network.state_dict()) and all(name.startswith("network.") for name in names)


@pytest.mark.parametrize(
    ("modules", "message"), [(["no_such"], "no_such"), (["q_proj", "lm_head"], "leave out the head and the embeddings")]
)
def test_layers_that_cannot_have_an_adapter_are_refused(modules: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adapter(causal_lm("llama").network, LoraSettings(target_modules=modules), seed=0)


def test_sampling_with_the_adapter_folded_in_draws_what_the_layers_apart_draw() -> None:
    from goodrate.models.decoding import DecodeSettings, decode
    from goodrate.models.precision import evaluating

    model, _ = with_adapter()
    ids = [tuple(model.prompt_ids(prompt)) for prompt in PROMPTS]
    with evaluating(model.network):
        apart = decode(model.network, ids, DecodeSettings(6, None, 1.0, model.pad_id), 3, model.device)
    folded = model.generate(PROMPTS, 6, None, temperature=1.0, seed=3)
    assert [list(c.token_ids) for c in folded] == [tokens for tokens, _, _ in apart]
    for completion, (_, logprobs, _) in zip(folded, apart, strict=True):
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)


def test_a_folded_adapter_is_used_by_the_layers_and_gone_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from goodrate.models.adapter import adapters_folded

    model, adapter = with_adapter()
    layers = [layer for layer in model.network.modules() if hasattr(layer, "lora_A")]
    ids = torch.tensor([[9, 10, 11]])
    expected = model.network(input_ids=ids).logits.detach()
    for layer in layers:  # the adapter's own matrices are not asked
        monkeypatch.setattr(layer.lora_B["default"], "forward", None)
    with adapters_folded(model.network, None), torch.no_grad():
        torch.testing.assert_close(model.network(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    monkeypatch.undo()
    assert torch.equal(model.network(input_ids=ids).logits, expected)
    with adapter.off(), adapters_folded(model.network, None):
        assert torch.equal(model.network(input_ids=ids).logits, causal_lm().network(input_ids=ids).logits)


def test_sampling_in_bf16_shares_prompts_behind_an_adapter(caplog: pytest.LogCaptureFixture) -> None:
    model, _ = with_adapter()
    low = CausalLM(model.network, model.tokenizer, precision="bf16")
    written = low.generate(PROMPTS, 4, None, temperature=1.0, seed=3)
    assert len(written) == len(PROMPTS) and "no shared prefix" not in caplog.text
