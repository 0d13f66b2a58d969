"""Causal LMs: the shared prefix equals the plain forward, own decoding equals Hugging Face's, folders survive."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.models import label_forward
from goodrate.models.causal_lm import CausalLM, existing_name
from goodrate.models.nano import NANO
from goodrate.models.precision import resolve_precision
from goodrate.models.quiet import no_old_names
from tiny_models import causal_lm

FAMILIES = ["qwen3", "llama", "bert", "gemma2"]
PREFIXES = ["query: red lamp for a desk\n", "query: blue chair\n", "query: x\n"]
ITEMS = [f"item: lamp {'red steel ' * n}{n} cm\nanswer: " for n in range(7)]


def plain_reference(lm: CausalLM, prompts: list, labels: list[int]) -> np.ndarray:
    """One prompt at a time through the whole network: no padding, no cache, no chunks."""
    rows = []
    with torch.no_grad():
        for prompt in prompts:
            ids = torch.tensor([lm.prompt_ids(prompt)])
            rows.append(lm.network(input_ids=ids, use_cache=False).logits[0, -1, labels].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_label_logits_equal_the_plain_forward(family: str) -> None:
    lm = causal_lm(family)
    # 7 items behind the first prefix, 5 behind the second, 2 behind the third, and one text that has no prefix.
    pairs = [(PREFIXES[0], item) for item in ITEMS] + [(PREFIXES[1], item) for item in ITEMS[:5]]
    prompts = [*pairs, *[(PREFIXES[2], item) for item in ITEMS[:2]], "query: lamp\nanswer: "]
    order = np.random.default_rng(0).permutation(len(prompts))
    prompts = [prompts[i] for i in order]
    labels = [lm.encode(d)[0] for d in "1234"]
    expected = plain_reference(lm, prompts, labels)
    np.testing.assert_allclose(lm.label_logits(prompts, labels, chunk=3), expected, atol=1e-5)
    assert lm._sharing is True
    assert expected.std() > 0.01  # the model does tell prompts and labels apart


def test_prefix_is_computed_once_per_query(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = causal_lm()
    lm.label_logits([(PREFIXES[0], ITEMS[0])], [5])  # the check runs here
    calls: list[int] = []
    prefill = label_forward.prefill
    monkeypatch.setattr(label_forward, "prefill", lambda n, p, d: (calls.extend(map(len, p)), prefill(n, p, d))[1])
    lm.label_logits([(p, item) for item in ITEMS for p in PREFIXES[:2]], [5], chunk=3)
    assert sorted(calls) == sorted(len(lm.encode(p)) for p in PREFIXES[:2])


def test_a_model_that_cannot_share_is_judged_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = causal_lm()
    prompts = [(PREFIXES[0], item) for item in ITEMS]
    expected = plain_reference(lm, prompts, [3, 4])
    wrong = label_forward.suffix_logits
    monkeypatch.setattr(label_forward, "suffix_logits", lambda *a: wrong(*a) + 1.0)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(lm.label_logits(prompts, [3, 4]), expected, atol=1e-5)
    assert "off by 1" in caplog.text and lm._sharing is False


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_does_not_round_the_label_logits(family: str) -> None:
    lm = causal_lm(family)
    exact = lm.label_logits([(PREFIXES[0], item) for item in ITEMS], [3, 4, 5, 6])
    lm.precision = "bf16"
    coarse = lm.label_logits([(PREFIXES[0], item) for item in ITEMS], [3, 4, 5, 6])
    np.testing.assert_allclose(coarse, exact, atol=0.15 * float(np.abs(exact).max()))
    rounded = torch.tensor(coarse).bfloat16().float().numpy()
    assert (rounded != coarse).mean() > 0.9  # eight bits of mantissa would have tied items


def test_the_seam_is_never_crossed() -> None:
    lm = causal_lm()
    whole = lm.encode("query")
    assert len(whole) == 1  # "query" is one token of the corpus, so "que" + "ry" must differ from it
    assert lm.encode_pair("que", "ry") == lm.encode("que") + lm.encode("ry") != whole
    assert lm.prompt_ids(("que", "ry")) == lm.encode_pair("que", "ry")


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_hugging_face(family: str) -> None:
    lm = causal_lm(family)
    prompts = ["query: red lamp", "item: a", "query: blue chair\nitem: chair oak\nanswer: "]
    stop = -1
    written = lm.generate(prompts, max_new_tokens=12, stop_token_id=stop)
    for prompt, completion in zip(prompts, written, strict=True):
        ids = torch.tensor([lm.encode(prompt)])
        expected = lm.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == expected[0, ids.shape[1] :].tolist()
        assert completion.finish_reason == "length"


def test_a_stopped_row_leaves_and_the_others_go_on() -> None:
    lm = causal_lm()
    prompts = ["query: red lamp", "item: chair oak", "query: blue chair"]
    free = lm.generate(prompts, 10, None)
    stop = free[0].token_ids[2]
    stopped = lm.generate(prompts, 10, stop)
    for before, after in zip(free, stopped, strict=True):
        if stop in before.token_ids:
            end = before.token_ids.index(stop) + 1
            assert after.token_ids == before.token_ids[:end] and after.finish_reason == "stop"
            assert after.text == lm.tokenizer.decode(before.token_ids[: end - 1])
        else:
            assert after.token_ids == before.token_ids and after.finish_reason == "length"


def test_samples_depend_on_the_seed_and_not_on_the_batch() -> None:
    lm = causal_lm()
    prompts = ["query: red lamp", "query: red lamp", "item: chair oak"]
    together = lm.generate(prompts, 8, None, temperature=1.0, seed=[11, 12, 13])
    alone = [
        lm.generate([p], 8, None, temperature=1.0, seed=[s])[0] for p, s in zip(prompts, [11, 12, 13], strict=True)
    ]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert together[0].token_ids != together[1].token_ids
    assert lm.generate(prompts, 8, None, 1.0, seed=1)[0] != lm.generate(prompts, 8, None, 1.0, seed=2)[0]


def test_behaviour_logprobs_are_those_of_a_teacher_forced_forward() -> None:
    lm = causal_lm("llama")
    prompt = "query: red lamp"
    completion = lm.generate([prompt], 6, None, temperature=0.7, seed=3)[0]
    ids = lm.encode(prompt) + list(completion.token_ids)
    with torch.no_grad():
        logits = lm.network(input_ids=torch.tensor([ids])).logits[0] / 0.7
    expected = torch.log_softmax(logits, -1)[len(lm.encode(prompt)) - 1 : -1].gather(1, torch.tensor([ids[-6:]]).T)[
        :, 0
    ]
    np.testing.assert_allclose(completion.logprobs, expected.numpy(), atol=1e-5)


def test_sampling_follows_the_distribution() -> None:
    lm = causal_lm()
    count, prompt = 400, "query: red lamp"
    with torch.no_grad():
        p = torch.softmax(lm.network(input_ids=torch.tensor([lm.encode(prompt)])).logits[0, -1], -1).numpy()
    first = [c.token_ids[0] for c in lm.generate([prompt] * count, 1, None, temperature=1.0, seed=5, batch_size=400)]
    top = int(p.argmax())
    # 4 standard errors of a share of 400 draws.
    assert abs(first.count(top) / count - p[top]) < 4 * np.sqrt(p[top] * (1 - p[top]) / count) + 1e-9


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_a_saved_folder_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    lm = causal_lm(family)
    if family == "bert":
        lm.network.config.is_decoder = False  # as in any encoder folder of the hub: must be read as a decoder anyway
    lm.save(tmp_path)
    lm.network.config.is_decoder = True
    again = CausalLM.load(tmp_path, precision="fp32")
    prompts = [(PREFIXES[0], item) for item in ITEMS]
    np.testing.assert_allclose(again.label_logits(prompts, [3, 9]), lm.label_logits(prompts, [3, 9]), atol=1e-6)


def test_nano_is_the_base_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing_name("nano") == str(NANO) and existing_name(NANO) == str(NANO)
    monkeypatch.chdir(tmp_path)
    causal_lm().save("nano")  # a folder of that name is meant when there is one
    assert existing_name("nano") == "nano"


def test_wrong_input_is_named(tmp_path: Path) -> None:
    lm = causal_lm()
    with pytest.raises(FileNotFoundError, match="runs/base/model: no config.json"):
        CausalLM.load("runs/base/model")  # no hub id has two slashes: a path, whose folder is not there
    with pytest.raises(FileNotFoundError, match="config.json"):
        CausalLM.load(tmp_path)
    with pytest.raises(ValueError, match="no tokens"):
        lm.label_logits([""], [1])
    with pytest.raises(ValueError, match="the model takes 256"):
        lm.label_logits(["lamp " * 300], [1])
    with pytest.raises(ValueError, match="exceed the 256"):
        lm.generate(["lamp"], 256, None)
    with pytest.raises(ValueError, match="2 seeds for 1 prompts"):
        lm.generate(["lamp"], 2, None, 1.0, seed=[1, 2])
    with pytest.raises(ValueError, match="'fp8' is not one of"):
        resolve_precision("fp8", "cpu")
    assert lm.label_logits([], [1, 2]).shape == (0, 2)


def test_dropout_is_off_and_training_mode_comes_back() -> None:
    lm = causal_lm("bert")
    lm.network.train()
    prompts = [(PREFIXES[0], item) for item in ITEMS]
    first, second = lm.label_logits(prompts, [3]), lm.label_logits(prompts, [3])
    np.testing.assert_array_equal(first, second)
    assert lm.network.training


def test_an_adapter_is_merged_into_the_weights(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lm = causal_lm()
    lm.save(tmp_path / "base")
    prompts = [(PREFIXES[0], item) for item in ITEMS]
    plain = lm.label_logits(prompts, [3, 9])
    with no_old_names():
        adapted = get_peft_model(lm.network, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        ids = torch.tensor([lm.prompt_ids(prompts[0])])
        expected = adapted.eval()(input_ids=ids).logits[0, -1, [3, 9]].numpy()
    merged = CausalLM.load(tmp_path / "base", adapter=tmp_path / "adapter", precision="fp32")
    np.testing.assert_allclose(merged.label_logits(prompts, [3, 9])[0], expected, atol=1e-5)
    assert not np.allclose(expected, plain[0], atol=1e-3)
    assert type(merged.network).__name__ == "Qwen3ForCausalLM"  # no wrapper left: saved, it is a plain model again


def test_rows_in_one_forward_go_by_the_device_and_the_length() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [label_forward.rows_at_once(cpu, tokens) for tokens in (1, 10_000)] == [20, 20]
    # 80,000 / 200 = 400, and no more; 80,000 / 1,000 = 80; 80,000 / 10,000 = 8, under the 20 of a CPU
    assert [label_forward.rows_at_once(gpu, tokens) for tokens in (50, 200, 1_000, 10_000)] == [400, 400, 80, 20]


def test_a_text_longer_than_the_tokenizer_says_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = causal_lm()
    lm.tokenizer.model_max_length = 8
    lm.save(tmp_path)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    loaded = CausalLM.load(tmp_path)
    assert loaded.tokenizer.model_max_length == 8
    assert len(loaded.encode("red lamp " * 20)) > 8
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["nano", "gemma3"])
def test_bf16_logits_do_not_depend_on_what_is_judged_beside(name: str) -> None:
    lm = CausalLM.load("nano", precision="bf16") if name == "nano" else causal_lm(name)
    lm.precision = "bf16"
    queries = ["red lamp", "blue desk chair with arms", "lamp", "oak lamp"]  # of unequal length, two of equal
    items = [f"lamp {'steel ' * n}{n} cm ; color red" for n in range(0, 30, 3)]
    prompts = [(f"query: {query}\n", f"item: {item}\nanswer:\n") for query in queries for item in items]
    labels = [lm.encode(digit)[0] for digit in "1234"]
    alone = np.concatenate([lm.label_logits([prompt], labels) for prompt in prompts])
    order = np.random.default_rng(0).permutation(len(prompts))
    together = np.empty_like(alone)
    together[order] = lm.label_logits([prompts[i] for i in order], labels)
    pairs = np.concatenate([lm.label_logits(prompts[i : i + 2], labels) for i in range(0, len(prompts), 2)])
    beside_longer = np.concatenate([lm.label_logits([p, prompts[9], prompts[19]], labels)[:1] for p in prompts])
    # A bf16 number near 1 is 0.004 from the next; sums in another order moved logits by more than 0.01.
    for found in (together, pairs, beside_longer):
        np.testing.assert_allclose(found, alone, atol=1e-4)
    whole = [lm.encode_pair(*prompt) for prompt in prompts]
    alone = np.concatenate([lm.label_logits([ids], labels) for ids in whole])
    np.testing.assert_allclose(lm.label_logits(whole, labels), alone, atol=1e-4)


def test_pads_stay_inside_the_positions_of_a_model() -> None:
    lm = causal_lm("bert")  # learned positions
    table = lm.network.bert.embeddings.position_embeddings
    table.weight, lm.network.config.max_position_embeddings = torch.nn.Parameter(table.weight[:250]), 250  # no 256th
    prompts = [("lamp", " a" * n) for n in (240, 247, 248)]
    found = lm.label_logits(prompts, [3, 4])
    np.testing.assert_allclose(found, plain_reference(lm, prompts, [3, 4]), atol=1e-5)
