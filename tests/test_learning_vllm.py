"""Sampling by a server that speaks vLLM's protocol: samples, log probabilities, the weights that it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny_models
from fake_vllm import FakeVllm, fake_vllm
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.records import Prompts
from goodrate.learning.rollout import Sampling, sample
from goodrate.learning.vllm_sampler import VllmSampler, VllmSettings, logprob_gap
from goodrate.models.adapter import Adapter, LoraSettings, merged_state
from goodrate.models.causal_lm import CausalLM
from test_learning_rollout_source import source

STOP = 1
PROMPTS = Prompts(("a", "b"), ((5, 9, 11), (6, 9)))


@pytest.fixture
def policy() -> CausalLM:
    return tiny_models.causal_lm()


@pytest.fixture
def server(policy: CausalLM, tmp_path: Path) -> Iterator[FakeVllm]:
    policy.save(tmp_path / "served")
    with fake_vllm(tmp_path / "served") as fake:
        yield fake


def sampler(server: FakeVllm, policy: CausalLM, **changes: float) -> VllmSampler:
    return VllmSampler(VllmSettings(server=server.address, folder=str(server.folder), **changes), policy)


def test_a_group_is_one_request_and_its_samples_stand_in_order(server: FakeVllm, policy: CausalLM) -> None:
    sampling, seeds = Sampling(3, 1.0, 4, STOP), [70, 0, 0, 90, 0, 0]
    rollout = sample(sampler(server, policy), PROMPTS, sampling, seeds, lambda completion: completion.text)
    bodies = [body for path, body in server.asked if path == "/v1/completions"]
    assert sorted((body["prompt"], body["n"], body["seed"]) for body in bodies) == [
        ([5, 9, 11], 3, 70),
        ([6, 9], 3, 90),
    ]
    own = sample(policy, PROMPTS, sampling, [70, 71, 72, 90, 91, 92], lambda completion: completion.text)
    assert torch.equal(rollout.completion_ids, own.completion_ids) and rollout.parsed == own.parsed
    assert rollout.finish_reason == own.finish_reason
    torch.testing.assert_close(rollout.behaviour_logprobs, own.behaviour_logprobs)


def test_the_gap_is_the_mean_over_tokens(policy: CausalLM) -> None:
    written = policy.generate([[5, 9], [6, 9]], 3, STOP, 0.7, seed=[1, 2])
    assert logprob_gap(policy, [[5, 9], [6, 9]], written, 0.7) < 1e-5
    moved = [type(c)(c.token_ids, c.text, c.finish_reason, tuple(v + 0.25 for v in c.logprobs)) for c in written]
    assert logprob_gap(policy, [[5, 9], [6, 9]], moved, 0.7) == pytest.approx(0.25, abs=1e-5)


def train(policy: CausalLM, server: FakeVllm, **changes: float) -> None:
    """Three updates, each on rollouts of its own."""
    vllm = VllmSettings(server=server.address, folder=str(server.folder), **changes)
    updates = source(model=policy, micro_tokens=64, prompts=4, vllm=vllm)
    optimizer = torch.optim.SGD([p for p in policy.network.parameters() if p.requires_grad], 1.0)
    fit(
        PolicyScorer(policy.network),
        updates,
        [optimizer],
        FitSettings(updates=3, precision="fp32", schedule="constant"),
    )


@pytest.mark.parametrize("lora", [False, True])
def test_the_server_has_the_policys_weights_at_every_update(server: FakeVllm, policy: CausalLM, lora: bool) -> None:
    start = policy.network.state_dict()["model.embed_tokens.weight"].clone()
    if lora:
        Adapter(policy.network, LoraSettings(rank=2), seed=0)
    train(policy, server, warn_gap=1e-3, refuse_gap=1e-3)  # refused at once where it samples from other weights
    paths = [path for path, _ in server.asked]
    assert paths.count("/collective_rpc") == paths.count("/reset_prefix_cache") == 3
    assert paths.index("/collective_rpc") < paths.index("/reset_prefix_cache") < paths.index("/v1/completions")
    sampler(server, policy).take_weights()
    expected = merged_state(policy.network)
    for name, weight in server.model.network.state_dict().items():
        torch.testing.assert_close(weight, expected[name])
    assert lora or not torch.equal(server.model.network.state_dict()["model.embed_tokens.weight"], start)
    assert not list(server.folder.glob(".taken*"))


def test_merged_weights_are_those_that_merging_leaves(policy: CausalLM) -> None:
    adapter = Adapter(policy.network, LoraSettings(rank=2), seed=0)
    for name, weight in policy.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    before = merged_state(policy.network)
    adapter.merge()
    after = policy.network.state_dict()
    assert before.keys() == after.keys()
    for name, weight in after.items():
        torch.testing.assert_close(before[name], weight)


def test_a_server_with_other_weights_or_log_probabilities_is_refused(
    server: FakeVllm, policy: CausalLM, caplog: pytest.LogCaptureFixture
) -> None:
    taking = sampler(server, policy, refuse_gap=0.1)
    server.deaf = True
    with torch.no_grad():
        policy.network.model.layers[0].mlp.down_proj.weight.mul_(-3)
    taking.take_weights()
    with pytest.raises(ValueError, match=r"a token off the policy's own \(rollouts.vllm.refuse_gap = 0.1\)"):
        taking.generate([[5, 9]] * 8, 4, STOP, 1.0, seed=0)
    server.deaf, server.raw = False, True
    taking.take_weights()
    with pytest.raises(ValueError, match="--logprobs-mode processed_logprobs at temperature 0.5"):
        taking.generate([[5, 9]] * 8, 4, STOP, 0.5, seed=0)
    lenient = sampler(server, policy, refuse_gap=9.0)
    lenient.generate([[5, 9]] * 8, 4, STOP, 0.5, seed=0)
    assert "a token off the policy's own" in caplog.text


def test_what_is_wrong_with_the_server_is_said(server: FakeVllm, policy: CausalLM, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no config.json; expected what vLLM serves"):
        VllmSampler(VllmSettings(server=server.address, folder=str(tmp_path)), policy)
    with pytest.raises(OSError, match="127.0.0.1:9/v1/models: no answer .*start `vllm serve`"):
        VllmSampler(VllmSettings(server="http://127.0.0.1:9", folder=str(server.folder)), policy)
    told = sampler(server, policy)
    answer = server.answer
    server.answer = lambda path, body: (404, None) if path == "/collective_rpc" else answer(path, body)  # type: ignore
    with pytest.raises(OSError, match="has no /collective_rpc: start it with VLLM_SERVER_DEV_MODE=1"):
        told.take_weights()
    server.answer = lambda path, body: (200, {"choices": [{"index": 0, "text": "x"}]})  # type: ignore
    with pytest.raises(OSError, match="no token ids with log probabilities .*vLLM 0.10.2"):
        told.generate([[5, 9]], 4, STOP, 1.0, seed=0)
    server.answer = lambda path, body: (500, {"error": "engine dead"})  # type: ignore
    with pytest.raises(OSError, match="/v1/completions: 500 .*engine dead"):
        told.generate([[5, 9]], 4, STOP, 1.0, seed=0)


@pytest.mark.skipif("GOODRATE_VLLM" not in os.environ, reason="needs SERVER,FOLDER of a running vLLM")
def test_the_real_server_agrees() -> None:
    address, folder = os.environ["GOODRATE_VLLM"].split(",")
    policy = CausalLM.load(folder)
    real = VllmSampler(VllmSettings(server=address, folder=folder), policy)
    for _ in range(2):
        real.take_weights()
        ids = policy.encode("red lamp for a desk")
        written = real.generate([ids] * 16, 16, policy.tokenizer.eos_token_id, 1.0, seed=3)  # checks the gap
        assert len({completion.token_ids for completion in written}) > 1
