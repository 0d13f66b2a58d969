"""A frozen LM that sees: the acceptance tests of our notes on PUMGPT (section 7), for injections A, B, C and LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from goodrate.models.adapter import LoraSettings
from goodrate.models.vision.tiny import TinyVision
from goodrate.models.vision_language.adapters import AdapterSettings, adapter_parameters
from goodrate.models.vision_language.answering import answer_logprobs, write
from goodrate.models.vision_language.folder import load, save
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.models.vision_language.resampler import Resampler
from tiny_models import causal_lm

FAMILIES = ("qwen3", "gemma3", "llama")
COUNT, DIMENSION = 6, 12


def model_of(
    injection: str = "A", family: str = "qwen3", lora: LoraSettings | None = None, **more: Any
) -> VisionLanguageModel:
    settings = AdapterSettings.model_validate({"injection": injection, "visual_tokens": 3, "bottleneck": 5, **more})
    return VisionLanguageModel(causal_lm(family), settings, DIMENSION, COUNT, seed=1, lora=lora).eval()


def stirred(model: VisionLanguageModel, seed: int = 5) -> VisionLanguageModel:
    """The model with random gates and up-projections, as training leaves it."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.trained_parameters().values():
            weight += 0.3 * torch.randn_like(weight)
    return model


def features(rows: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(rows, COUNT, DIMENSION)


def batch(model: VisionLanguageModel, seen: torch.Tensor | None) -> dict[str, Any]:
    ids = torch.tensor([[*model.lm.start_ids, *range(5, 12)], [*model.lm.start_ids, *range(20, 27)]])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, -3:] = True
    return {"input_ids": ids, "mask": mask} | ({} if seen is None else {"features": seen})


def logits(model: VisionLanguageModel, ids: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    return model.network.get_output_embeddings()(model.states(ids, seen))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("injection", ["A", "B", "C"])
def test_text_alone_is_the_frozen_lm_bit_for_bit(injection: str, family: str) -> None:
    frozen = causal_lm(family)
    model = stirred(model_of(injection, family))
    ids = batch(model, None)["input_ids"]
    with torch.no_grad():
        model.states(ids, features(2))  # no hook stays behind
        assert torch.equal(model.network(ids).logits, frozen.network(ids).logits)
        assert torch.equal(model.states(ids, None), frozen.network.base_model(ids).last_hidden_state)


def test_text_alone_is_the_frozen_lm_with_lora_too() -> None:
    frozen = causal_lm()
    model = stirred(model_of("C", lora=LoraSettings(rank=2)))
    ids = batch(model, None)["input_ids"]
    with torch.no_grad():
        assert torch.equal(model.states(ids, None), frozen.network.base_model(ids).last_hidden_state)
        assert not torch.equal(logits(model, ids, features(2)), logits(model_of("C"), ids, features(2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_start_a_is_c_and_sees_and_b_is_blind(family: str) -> None:
    ids = batch(model_of("A", family), None)["input_ids"]
    with torch.no_grad():
        of = {name: logits(model_of(name, family), ids, features(2)) for name in "ABC"}
        text, other = logits(model_of("A", family), ids, None), logits(model_of("A", family), ids, features(2, seed=3))
    torch.testing.assert_close(of["A"], of["C"], rtol=0, atol=0)
    assert (of["A"] - other).abs().max() > 1e-3  # the skip carries the picture from the first update on
    torch.testing.assert_close(of["B"], text, atol=1e-5, rtol=1e-5)


def by_hand(model: VisionLanguageModel, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Injection A as section 3 writes it, layer by layer, without hooks (Qwen3 and Llama)."""
    body, at, n = model.network.base_model, model.start, model.settings.visual_tokens
    z = model.resampler(seen)
    h = torch.cat([body.embed_tokens(ids[:, :at]), model.adapters.state(0, z), body.embed_tokens(ids[:, at:])], 1)
    where = torch.arange(h.shape[1])[None]
    rotary = body.rotary_emb(h, where)
    hidden = torch.full((h.shape[1], h.shape[1]), torch.finfo(h.dtype).min).triu(1)[None, None]
    for layer, block in enumerate(body.layers):
        if layer:
            v = model.adapters.up[layer] @ torch.nn.functional.silu(
                model.adapters.down[layer] @ torch.nn.functional.layer_norm(z, z.shape[-1:]).mT
            )
            h[:, at : at + n] = h[:, at : at + n] + torch.tanh(model.adapters.gates[layer - 1]) * (
                v.mT + z @ model.adapters.skip.weight.T
            )
        h = block(h, attention_mask=hidden, position_embeddings=rotary, position_ids=where)
    return body.norm(torch.cat([h[:, :at], h[:, at + n :]], 1))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_is_what_section_3_says(family: str) -> None:
    model = stirred(model_of("A", family))
    ids = batch(model, None)["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(
            model.states(ids, features(2)), by_hand(model, ids, features(2)), atol=1e-5, rtol=1e-4
        )


def test_b_adds_a_gated_attention_over_the_visual_states() -> None:
    """The first layer's attention, with the second softmax computed here from the model's own matrices."""
    model = stirred(model_of("B", "llama"))
    attention, z = model.network.base_model.layers[0].self_attn, model.resampler(features(1))
    hidden, shape = torch.randn(1, 4, 32), (1, -1, 4, 8)
    rotary = model.network.base_model.rotary_emb(hidden, torch.arange(4)[None])
    plain = attention(hidden, position_embeddings=rotary, attention_mask=None)[0]
    with model.seen(z):
        seen = attention(hidden, position_embeddings=rotary, attention_mask=None)[0]
    p = model.adapters.state(0, z)
    q = attention.q_proj(hidden).view(shape).transpose(1, 2)
    k, v = (
        proj(p).view(1, -1, 2, 8).transpose(1, 2).repeat_interleave(2, 1)
        for proj in (attention.k_proj, attention.v_proj)
    )
    extra = torch.softmax(q @ k.mT / 8**0.5, -1) @ v * torch.tanh(model.adapters.gates[0])[:, None, None]
    wanted = plain + attention.o_proj(extra.transpose(1, 2).reshape(1, 4, 32))
    torch.testing.assert_close(seen, wanted, atol=1e-5, rtol=1e-4)


def test_b_needs_an_attention_in_four_parts() -> None:
    with pytest.raises(ValueError, match="injection B needs"):
        model_of("B", "bert")


@pytest.mark.parametrize("injection", ["A", "B", "C"])
def test_gradients_reach_the_adapters_alone(injection: str) -> None:
    model = stirred(model_of(injection))
    model.train()
    model(batch(model, features(2)))["logprobs"].sum().backward()
    trained = model.trained_parameters()
    assert all(name.startswith(("resampler.", "adapters.")) for name in trained)
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []
    assert all(weight.grad is None for weight in model.network.parameters()) and not model.network.training


@pytest.mark.parametrize("injection", ["A", "B", "C"])
@pytest.mark.parametrize("shared", [False, True])
def test_as_many_parameters_as_the_formula_says(injection: str, shared: bool) -> None:
    """L = 2, r_b = 5, d_v = w = 32: 2 * 2 * 5 * 32 = 640 and the skip's 1,024; A one gate more, B 2 * (4 + 3 * 32)."""
    model = model_of(injection, shared=shared)
    found = sum(weight.numel() for weight in model.adapters.parameters())
    own = 320 if shared or injection == "C" else 640
    assert found == own + 1024 + {"A": 1, "B": 200, "C": 0}[injection]
    assert found == adapter_parameters(model.settings, 2, 32, 32, 4)


def test_beside_gemma_3_270m_everything_that_trains_is_small_on_disk() -> None:
    """18 layers of width 640, EfficientNet's 49 tokens of 1280: float32 of all of it under 5 % of the LM's 536 MB."""
    settings = AdapterSettings()
    adapters = adapter_parameters(settings, 18, 256, 640, 4)
    assert adapters == 18 * 64 * (256 + 640) + 256 * 640 + 17
    resampler = sum(weight.numel() for weight in Resampler(1280, 49, settings.visual_tokens, 256).parameters())
    assert 4 * (adapters + resampler) < 0.05 * 536_000_000


def test_adapting_trains_the_layers_and_gates_alone() -> None:
    model = model_of("A")
    model.adapt_only()
    names = {name.rsplit(".", 1)[0] if name[-1].isdigit() else name for name in model.trained_parameters()}
    assert names == {"adapters.down", "adapters.up", "adapters.gates"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("injection", ["A", "B", "C"])
def test_answers_behind_a_shared_question_are_those_of_the_plain_forward(injection: str, family: str) -> None:
    """Questions and answers of unequal lengths, read once, against each whole row alone."""
    model = stirred(model_of(injection, family))
    prompts = [model.prompt_ids("wants lamp ; color"), model.prompt_ids("red")]
    answers = [[model.answer_ids(" red"), model.answer_ids(" blue chair")], [model.answer_ids(" steel lamp 40")]]
    for seen in (features(2), None):
        found = answer_logprobs(model, prompts, seen, answers)
        for n, (prompt, own) in enumerate(zip(prompts, answers, strict=True)):
            for answer, value in zip(own, found[n].tolist(), strict=True):
                ids = torch.tensor([[*prompt, *answer]])
                mask = torch.arange(ids.shape[1])[None] >= len(prompt)
                row = {"input_ids": ids, "mask": mask} | ({} if seen is None else {"features": seen[n : n + 1]})
                with torch.no_grad():
                    assert value == pytest.approx(float(model(row)["logprobs"].sum()), abs=2e-3)


@pytest.mark.parametrize("injection", ["A", "B"])
def test_what_it_writes_is_the_most_probable_token_each_time(injection: str) -> None:
    model = stirred(model_of(injection, "gemma3"))
    prompts = [model.prompt_ids("wants lamp ; color"), model.prompt_ids("red")]
    written = write(model, prompts, features(2), max_new_tokens=4)
    for n, prompt in enumerate(prompts):
        ids = list(prompt)
        for _ in range(4):
            with torch.no_grad():
                ids.append(int(logits(model, torch.tensor([ids]), features(2)[n : n + 1])[0, -1].argmax()))
            if ids[-1] == model.stop_id:
                ids.pop()
                break
        assert written[n] == model.lm.tokenizer.decode(ids[len(prompt) :]).strip()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_the_folder_is_small_and_gives_the_same_model(tmp_path: Path, lora: LoraSettings | None) -> None:
    lm, out = tmp_path / "lm", tmp_path / "model"
    out.mkdir()
    causal_lm().save(lm)
    torch.manual_seed(2)
    encoder = TinyVision(16, 16)
    from goodrate.models.causal_lm import CausalLM

    settings = AdapterSettings(visual_tokens=2, bottleneck=4)
    model = stirred(VisionLanguageModel(CausalLM.load(lm, precision="fp32"), settings, 16, 4, lora=lora))
    save(model, encoder, out, language_model=str(lm), vision="", more={"attributes": {"color": ["red"]}})
    opened, eyes, card = load(out)
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    ids = batch(model, None)["input_ids"]
    with torch.no_grad():
        before = model.eval().states(ids, encoder.tokens(pixels))
        assert torch.equal(opened.states(ids, eyes.tokens(pixels)), before)
    assert card["attributes"] == {"color": ["red"]} and not (out / "model.safetensors").exists()
    (lm / "config.json").write_text((lm / "config.json").read_text().replace("}", "} ", 1))
    with pytest.raises(ValueError, match="other files"):
        load(out)
    (out / "vision_language.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vision_language.json"):
        load(out)
