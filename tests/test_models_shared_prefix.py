"""Attention behind shared prompts: the numbers of the long way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_models
from goodrate.models.decoding import DecodeSettings, decode
from goodrate.models.shared_prefix import NAME, SharedPrefix, fits, prefill, states_behind

CPU = torch.device("cpu")
PROMPTS = [(5, 9, 7, 30, 2), (11, 12), (8, 8, 40)]


def network(family: str = "qwen3") -> Any:
    net = tiny_models.network(family, 60)
    net.set_attn_implementation("sdpa")
    return net


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3"])
def test_tokens_fed_one_by_one_while_rows_leave(family: str) -> None:
    net, row = network(family), torch.tensor([2, 0, 1, 0, 0])
    ids = torch.randint(3, 60, (5, 4), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        read = prefill(net, PROMPTS, 0, CPU)
        prefix, alive, start = SharedPrefix(read, row, room=4), torch.arange(5), read.lengths[row]
        for step in range(4):
            if step == 2:  # a prompt loses its only row, another one of three
                kept = torch.tensor([1, 2, 4])
                prefix.keep(kept)
                alive = alive[kept]
            found = states_behind(net, prefix, ids[alive, step : step + 1], start[alive] + step)
            prefix.advance()
            for place, i in enumerate(alive.tolist()):
                whole = torch.tensor([[*PROMPTS[int(row[i])], *ids[i, : step + 1].tolist()]])
                expected = net.base_model(input_ids=whole).last_hidden_state[0, -1]
                torch.testing.assert_close(found[place, 0], expected, atol=1e-5, rtol=1e-4)


def test_ordinary_forwards_stay_and_the_name_is_not_saved(tmp_path: Path) -> None:
    net, ids = network(), torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    before = net(input_ids=ids, attention_mask=mask).logits
    assert fits(net, CPU) and net.config._attn_implementation == NAME
    torch.testing.assert_close(net(input_ids=ids, attention_mask=mask).logits, before, atol=0, rtol=0)
    net.save_pretrained(tmp_path)
    assert NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


@pytest.mark.parametrize("width", [2, 13])
def test_windows_of_rows_that_grow_past_them(width: int) -> None:
    """Windows of 8 tokens; prompts of 11, 2 and 7 with completions that end before, at and far behind them."""
    from goodrate.models.completion_forward import CompletionBatch, completion_logprobs

    net, draw = network("gemma3"), torch.Generator().manual_seed(3)
    prompts = [tuple(torch.randint(3, 60, (n,), generator=draw).tolist()) for n in (11, 2, 7)]
    ids = torch.randint(3, 60, (5, width), generator=draw)
    batch = CompletionBatch(prompts, torch.tensor([2, 0, 1, 0, 0]), ids, torch.ones(5, width, dtype=torch.bool))
    assert fits(net, CPU)
    expected, _ = completion_logprobs(net, batch, sharing="plain")
    found, _ = completion_logprobs(net, batch, sharing="split")
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(x.square().sum(), net.base_model.layers[0].mlp.up_proj.weight)[0]
                 for x in (found, expected)]  # fmt: skip
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "bert", "llama"])
def test_whatever_the_attention_the_greedy_tokens_are_the_models_own(family: str) -> None:
    net, prompts = tiny_models.network(family, 60), [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[0] * 3]
    with torch.no_grad():
        assert fits(net, CPU) == (family != "gemma2")  # which attends eagerly, with soft caps
        found = decode(net, prompts, DecodeSettings(5, None, 0.0, 0), 0, CPU)
        for prompt, (tokens, _, _) in zip(prompts, found, strict=True):
            ids = list(prompt)
            for _ in range(5):
                ids.append(int(net(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            assert tokens == ids[len(prompt) :]


def test_attention_dropout_is_applied_in_training_alone() -> None:
    from goodrate.models.completion_forward import CompletionBatch, choose_sharing, completion_logprobs

    net = tiny_models.network("bert", 60)  # BERT drops a tenth of its attention weights
    net.set_attn_implementation("sdpa")
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout) and part is not net.bert.encoder.layer[0].attention.self.dropout:
            part.p = 0.0  # the layers' own dropout is not what is tested here
    mask = torch.ones(4, 3, dtype=torch.bool)
    batch = CompletionBatch(PROMPTS[:2], torch.tensor([0, 0, 1, 1]), torch.arange(12).view(4, 3) + 3, mask)
    assert choose_sharing(net, batch) == "split"
    fixed = [completion_logprobs(net, batch, sharing="split")[0] for _ in range(2)]
    torch.testing.assert_close(fixed[0], fixed[1], atol=0, rtol=0)
    net.train()
    noisy = [completion_logprobs(net, batch, sharing="split")[0] for _ in range(2)]
    assert not torch.equal(noisy[0], noisy[1]) and (noisy[0] - fixed[0]).abs().max() < 0.5
    noisy[0].sum().backward()
