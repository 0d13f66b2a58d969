"""The shared-prefix loss forward: the same values and gradients as one prompt and one completion at a time."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from goodrate.models.cached_forward import cache_argument
from goodrate.models.completion_forward import CompletionBatch, choose_sharing, completion_logprobs

PROMPTS = ((5, 9, 7, 30, 2), (11, 12), (8, 8, 40))
ROW = [0, 1, 0, 2, 1, 0]  # groups need not be adjacent, nor of one size
LENGTHS = [3, 1, 4, 2, 4, 1]


def make_network(family: str = "qwen3", attention: str = "eager") -> Any:
    network = tiny_models.network(family, 60)
    network.set_attn_implementation(attention)
    return network


def make_batch() -> CompletionBatch:
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (6, 4))
    mask = torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]
    return CompletionBatch(PROMPTS, torch.tensor(ROW), ids * mask, mask)


def one_by_one(network: Any, batch: CompletionBatch, temperature: float) -> Tensor:
    """Every row alone, unpadded, through the model's own forward and head."""
    result = torch.zeros(batch.mask.shape)
    for i, p in enumerate(batch.row.tolist()):
        length = int(batch.mask[i].sum())
        ids = torch.tensor([[*batch.prompts[p], *batch.ids[i, :length].tolist()]])
        logprobs = torch.log_softmax(network(input_ids=ids).logits[0] / temperature, -1)
        at = torch.arange(len(batch.prompts[p]) - 1, ids.shape[1] - 1)
        result[i, :length] = logprobs[at, ids[0, 1:][at]]
    return result


def gradient(network: Any, values: Tensor) -> Tensor:
    parts = torch.autograd.grad((values * torch.arange(1, 25).view(6, 4) / 24).sum(), list(network.parameters()))
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("sharing", ["plain", "cache", "packed", "split"])
def test_values_and_gradients_are_those_of_single_rows(family: str, attention: str, sharing: Any) -> None:
    if sharing == "split" and attention == "eager":
        pytest.skip("takes the place of sdpa only")
    network = make_network(family, attention)
    batch = make_batch()
    expected = one_by_one(network, batch, 0.7)
    found, entropy = completion_logprobs(network, batch, 0.7, sharing)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient(network, found), gradient(network, expected), atol=1e-5, rtol=1e-4)
    assert (found[~batch.mask] == 0).all() and (entropy[~batch.mask] == 0).all()
    assert not entropy.requires_grad


def test_the_entropy_is_that_of_the_tempered_softmax() -> None:
    network, batch = make_network(), make_batch()
    logits = network(input_ids=torch.tensor([PROMPTS[1]])).logits[0, -1] / 2.0
    _, entropy = completion_logprobs(network, batch, 2.0)
    expected = torch.distributions.Categorical(logits=logits.detach()).entropy()
    assert float(entropy[1, 0]) == pytest.approx(float(expected), 1e-4)


def test_a_network_that_would_not_look_at_the_prefix_is_refused() -> None:
    network, batch = make_network("qwen3", "eager"), make_batch()
    with pytest.raises(NotImplementedError, match="eager"):
        completion_logprobs(network, batch, sharing="split")
    assert choose_sharing(network, batch, "split") == "plain"


@pytest.mark.parametrize("sharing", ["plain", "cache", "packed"])
def test_completions_of_one_token_need_no_second_forward(sharing: Any) -> None:
    network, whole = make_network(), make_batch()
    batch = CompletionBatch(PROMPTS, whole.row, whole.ids[:, :1], whole.mask[:, :1])
    found, _ = completion_logprobs(network, batch, 0.7, sharing)
    torch.testing.assert_close(found, one_by_one(network, batch, 0.7), atol=1e-5, rtol=0)


def test_checkpointing_takes_the_packed_row_and_trains_the_same() -> None:
    network, batch = make_network("qwen3", "sdpa").train(), make_batch()
    expected = gradient(network, completion_logprobs(network, batch, sharing="plain")[0])
    enable = getattr(network, "activation_checkpointing_enable", None)  # gradient_... before transformers 5.20
    (enable or network.gradient_checkpointing_enable)()
    sharing = choose_sharing(network, batch)
    assert sharing == "packed" and network.training
    found = gradient(network, completion_logprobs(network, batch, sharing=sharing)[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert choose_sharing(network, batch, "cache") == "plain"  # it would be computed silently wrong


def test_a_model_that_computes_something_else_gets_its_prompts_copied(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, batch = make_network(), make_batch()
    assert choose_sharing(network, batch) == "cache"
    assert choose_sharing(make_network(attention="sdpa"), batch) == "split"
    body, forward = network.base_model, network.base_model.forward

    def forgetful(**inputs: Any) -> Any:
        """Counts positions from 0 behind a cache, as a model that ignores position_ids does."""
        cache = inputs.get(cache_argument(type(body)))
        if cache is not None and cache.get_seq_length():
            inputs["position_ids"] = inputs["position_ids"] * 0
        return forward(**inputs)

    monkeypatch.setattr(body, "forward", forgetful)
    with caplog.at_level(logging.WARNING):
        assert choose_sharing(network, batch) == "plain"
    assert "log probabilities differ" in caplog.text
