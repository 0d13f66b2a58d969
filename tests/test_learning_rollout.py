"""Sampling in groups: behaviour log probabilities, seeds, and what is taken and joined."""

from __future__ import annotations

import pytest
import torch

import tiny_models
from goodrate.learning.policy import PolicyScorer, completion_batch, micro_batches
from goodrate.learning.records import Prompts, Reward, Rollout
from goodrate.learning.rollout import Sampling, join, join_rewards, sample, take, take_reward
from goodrate.models.completion_forward import completion_logprobs

PROMPTS = Prompts(("a", "b", "c"), ((5, 9, 7, 30), (11, 12), (8, 8, 40, 41, 3)))
HOW = Sampling(group_size=4, temperature=0.8, max_new_tokens=6, stop_token_id=1)


def drawn(seed: int = 0, prompts: Prompts = PROMPTS) -> Rollout:
    model = tiny_models.causal_lm()
    seeds = [1000 * seed + n for n in range(4 * len(prompts))]
    return sample(model, prompts, HOW, seeds, lambda one: one.text or None, arm=1)


def test_behaviour_logprobs_are_the_models_own_at_the_temperature() -> None:
    rollout = drawn()
    assert rollout.group.tolist() == rollout.example_id.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(rollout.arm.tolist()) == {1} and rollout.mask.sum(1).min() >= 1
    network = tiny_models.causal_lm().network
    batch = micro_batches(rollout, {}, 10_000)[0]
    scored, _ = completion_logprobs(network, completion_batch(batch, "plain"), 0.8)
    behaviour = micro_batches(rollout, {"b": rollout.behaviour_logprobs}, 10_000)[0]["b"]
    torch.testing.assert_close(scored.detach(), behaviour, atol=1e-4, rtol=0)
    other, _ = completion_logprobs(network, completion_batch(batch, "plain"), 1.0)
    assert (other.detach() - behaviour).abs().max() > 1e-2  # the temperature is part of the policy


def test_a_rollout_follows_from_its_own_seed_whatever_it_is_sampled_with() -> None:
    whole, part = drawn(), drawn(prompts=Prompts(("a",), PROMPTS.token_ids[:1]))
    width = part.mask.shape[1]
    assert torch.equal(whole.completion_ids[:4, :width], part.completion_ids)
    assert not torch.equal(drawn(seed=1).completion_ids, whole.completion_ids)


def test_taking_and_joining_keep_rows_together() -> None:
    first, second = drawn(), drawn(seed=1)
    kept = torch.isin(first.group, torch.tensor([0, 2]))
    both = join([take(first, kept), take(second, second.group == 1)])
    assert both.group.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [both.sampled_under.example_ids[i] for i in both.example_id.tolist()] == ["a"] * 4 + ["c"] * 4 + ["b"] * 4
    assert both.parsed == (*first.parsed[:4], *first.parsed[8:], *second.parsed[4:8])
    length = int(first.mask[8].sum())
    assert torch.equal(both.completion_ids[4, :length], first.completion_ids[8, :length])
    rewards = [Reward(torch.arange(12.0), torch.ones(12), torch.zeros(12).bool(), parts={"x": torch.arange(12.0)})] * 2
    joined = join_rewards([take_reward(rewards[0], kept), take_reward(rewards[1], second.group == 1)])
    assert joined.outcome.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7]


def test_micro_batches_hold_whole_groups_and_the_split_changes_no_gradient() -> None:
    rollout = join([drawn(), drawn(seed=1)])
    weights = torch.rand(rollout.mask.shape, generator=torch.Generator().manual_seed(3))
    network = tiny_models.causal_lm().network

    def gradient(max_tokens: int) -> tuple[int, torch.Tensor]:
        scorer = PolicyScorer(network)
        network.zero_grad()
        batches = micro_batches(rollout, {"w": weights}, max_tokens)
        for batch in batches:
            assert set(torch.unique(batch["row/plain"], return_counts=True)[1].tolist()) == {4}
            (scorer(batch)["plain"] * batch["w"]).sum().backward()
        return len(batches), torch.cat([p.grad.flatten() for p in network.parameters()])

    (one, whole), (many, parts) = gradient(100_000), gradient(30)
    assert one == 1 and many > 2
    torch.testing.assert_close(parts, whole, atol=2e-4, rtol=1e-4)


def test_the_reference_is_scored_without_gradient() -> None:
    network, other = tiny_models.causal_lm().network, tiny_models.causal_lm(seed=1).network
    batch = micro_batches(drawn(), {}, 10_000)[0]
    outputs = PolicyScorer(network, other)(batch)
    assert not outputs["reference"].requires_grad
    assert (outputs["reference"] - outputs["plain"]).abs().max() > 0.1
    same = PolicyScorer(network, network)(batch)
    assert float((same["reference"] - same["plain"].detach()).abs().max()) == pytest.approx(0, abs=1e-6)
