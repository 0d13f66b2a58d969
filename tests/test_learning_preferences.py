"""Preference pairs by hand, and the DPO update against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

import tiny_models
from goodrate.learning.fit import accumulate
from goodrate.learning.policy import PolicyScorer, completion_batch, micro_batches
from goodrate.learning.preferences import (
    PreferencePair,
    PreferenceSource,
    PreferenceTermSettings,
    pair_rollout,
    preference_pairs,
)
from goodrate.learning.records import Prompts, Rollout
from goodrate.models.completion_forward import completion_logprobs


def four_prompts() -> Rollout:
    """Prompts a (some right), b (none), c (all right), d (no gold), two or three samples each; sample n says n, 1."""
    group = tensor([0, 0, 0, 1, 1, 2, 2, 3, 3])
    ids = torch.stack([torch.arange(9) + 20, torch.ones(9, dtype=torch.long)], dim=1)
    return Rollout(
        group, group, torch.zeros(9).long(), Prompts(tuple("abcd"), ((5,), (6,), (7,), (8,))), ids,
        torch.ones(9, 2).bool(), None, ("stop",) * 9, (None,) * 9,
    )  # fmt: skip


CORRECT = tensor([0.0, 1, 1, 0, 0, 1, 1, math.nan, math.nan])
CONFIDENCE = tensor([0.9, 0.8, 0.3, 0.2, 0.6, 0.5, 0.5, 0.5, 0.5])
SOUND = tensor([1, 0, 1, 1, 1, 1, 1, 1, 1]).bool()


def test_self_correction_oracle_and_prompts_without_a_pair() -> None:
    asked: list[str] = []

    def oracle(name: str) -> tuple[int, ...]:
        asked.append(name)
        return (50, 1)

    pairs, counts = preference_pairs(four_prompts(), CORRECT, SOUND, CONFIDENCE, oracle)
    # a: the right sample 1 is surer, but only sample 2 is sound. b: the surest wrong one is sample 4 (token 24).
    assert pairs == [
        PreferencePair("a", (5,), (22, 1), (20, 1), "self"),
        PreferencePair("b", (6,), (50, 1), (24, 1), "oracle"),
    ]
    assert asked == ["b"] and {k: v for k, v in counts.items() if v} == {
        "self": 1, "oracle": 1, "all_right": 1, "unscored": 1
    }  # fmt: skip


def test_the_oracle_may_decline_and_has_a_cap() -> None:
    pairs, counts = preference_pairs(four_prompts(), CORRECT, SOUND, CONFIDENCE, lambda name: None)
    assert [pair.kind for pair in pairs] == ["self"] and counts["declined"] == 1
    # One self pair and a share of 0.3: 0.3 / 0.7 * 1 = 0.43, no oracle pair.
    pairs, counts = preference_pairs(four_prompts(), CORRECT, SOUND, CONFIDENCE, lambda name: (1,), 0.3)
    assert [pair.kind for pair in pairs] == ["self"] and counts["over_share"] == 1


PAIRS = [
    PreferencePair("a", (5, 9), (20, 21, 1), (22, 1), "self"),
    PreferencePair("b", (6,), (23, 1), (24, 25, 26, 1), "oracle"),
    PreferencePair("c", (7, 7, 7), (27, 1), (28, 1), "self"),
]


@pytest.mark.parametrize("micro_tokens", [10_000, 8])
def test_the_update_is_the_formula(micro_tokens: int) -> None:
    policy, reference = tiny_models.causal_lm().network, tiny_models.causal_lm(seed=1).network
    settings = PreferenceTermSettings(beta=0.3, nll=0.2)
    source = PreferenceSource(PAIRS, settings, batch_size=3, micro_tokens=micro_tokens, seed=0)
    update = source.next(0)
    assert update is not None and len(update.micro_batches) == (1 if micro_tokens > 100 else 3)

    def sums(network: torch.nn.Module) -> torch.Tensor:
        batch = micro_batches(pair_rollout(PAIRS), {"n": torch.arange(6)}, 10_000)[0]
        logprobs, _ = completion_logprobs(network, completion_batch(batch, "plain"))
        return logprobs.sum(1)[batch["n"].argsort()].view(3, 2), (logprobs.sum(1) / batch["scored"].sum(1))[
            batch["n"].argsort()
        ].view(3, 2)

    (mine, means), (old, _) = sums(policy), sums(reference)
    margin = (mine[:, 0] - old[:, 0]) - (mine[:, 1] - old[:, 1])
    expected = torch.log1p(torch.exp(-0.3 * margin)).mean() - 0.2 * means[:, 0].mean()
    expected_gradient = torch.autograd.grad(expected, list(policy.parameters()))
    values = accumulate(PolicyScorer(policy, reference), update, lambda loss: loss.backward())
    assert values["loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert values["preferred"] == pytest.approx(float((margin > 0).float().mean()))
    for parameter, wanted in zip(policy.parameters(), expected_gradient, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-5, rtol=1e-3)


def test_dpo_prefers_the_chosen_and_needs_pairs() -> None:
    model, reference = tiny_models.causal_lm().network, tiny_models.causal_lm().network
    source = PreferenceSource(PAIRS, PreferenceTermSettings(), batch_size=3, micro_tokens=999, seed=0, epochs=None)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    scorer = PolicyScorer(model, reference)
    seen = []
    for step in range(12):
        update = source.next(step)
        assert update is not None
        seen.append(accumulate(scorer, update, lambda loss: loss.backward()))
        optimizer.step()
        optimizer.zero_grad()
    assert seen[0]["dpo"] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are one: margin 0
    assert seen[-1]["dpo"] < 0.6 and seen[-1]["preferred"] == 1
    with pytest.raises(ValueError, match="no preference pairs"):
        PreferenceSource([], PreferenceTermSettings(), batch_size=3, micro_tokens=999, seed=0)
    other = PreferenceSource(PAIRS[:2], PreferenceTermSettings(), batch_size=3, micro_tokens=999, seed=0)
    with pytest.raises(ValueError, match="other preference pairs"):
        other.load_state_dict(source.state_dict())
