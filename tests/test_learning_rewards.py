"""Rewards, filters and quotas against hand arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from goodrate.learning import rewards, sampling
from goodrate.learning.advantages import group_relative

NAN = float("nan")


def test_label_reward_counts_failures_apart_from_wrong_and_unknown() -> None:
    reward = rewards.label_reward(tensor([3, 0, -1, 2, -1]), tensor([3, 3, 3, -1, -1]))
    # right, wrong, unparsed -> 0; the last two have no gold
    assert reward.outcome[:3].tolist() == [1.0, 0.0, 0.0] and reward.outcome[3:].isnan().all()
    assert reward.counts() == {"right": 1, "wrong": 1, "failed": 2, "unscorable": 1}


def rule_aware(predicted: list[int], category: list[float], well_formed: list[bool], breaks: list[bool]) -> list[float]:
    label = rewards.label_reward(tensor(predicted), torch.full((len(predicted),), 3))
    ones = torch.ones(len(predicted))
    reward = rewards.rule_aware_reward(
        label, tensor(category), ones * 0.5, ones, well_formed=tensor(well_formed), breaks_rule=tensor(breaks)
    )
    return reward.outcome.tolist()


def test_rule_aware_reward() -> None:
    found = rule_aware([3, 0, 3, 3, -1], [1, 1, 1, NAN, 1], [True, True, False, True, True], [False] * 5)
    # 1 + .25 + .125 + .25; wrong label .25 + .125 + .25; malformed 0; no category gold 1 + .125 + .25; unparsed 0
    assert found == [1.625, 0.625, 0.0, 1.375, 0.0]
    assert rule_aware([3], [1], [True], [True]) == [0.0]  # a mandatory rule is broken


def test_a_right_label_always_beats_a_wrong_one() -> None:
    with pytest.raises(ValueError, match="must exceed"):
        rewards.RuleWeights(label=0.7)
    best_wrong = rule_aware([0], [1], [True], [False])[0]
    worst_right = rule_aware([3], [0], [True], [False])[0]
    assert worst_right > best_wrong


def test_step_rewards_prefer_the_verified_and_guard_the_judge() -> None:
    outcome = rewards.label_reward(tensor([3, 0, -1]), tensor([3, 3, 3]))
    verified = tensor([[NAN, 0.0, 1.0], [NAN, NAN, 0.0], [NAN, 1.0, 1.0]])
    judged = tensor([[1.0, 1.0, 0.0], [1.0, NAN, 1.0], [1.0, 1.0, 1.0]])
    steps = rewards.step_reward(outcome, verified, judged).steps
    assert steps is not None
    # row 0: judge, verified, verified ("right by luck" keeps its 0). Row 1: the judge calls all right, the verdict is
    # wrong: 0.5; nobody scored its second step. Row 2 failed: nothing.
    assert steps[0].tolist() == [1.0, 0.0, 1.0]
    assert steps[1, 0] == 0.5 and steps[1, 1].isnan() and steps[1, 2] == 0.0 and steps[2].isnan().all()


def test_an_ungated_exclusivity_pays_for_irrelevance() -> None:
    relevance, quality, exclusive = tensor([0.6, 0.0]), torch.zeros(2), tensor([0.0, 1.0])
    plain = rewards.retrieval_reward(relevance, quality, exclusive, gate="none")
    assert plain.outcome.tolist() == pytest.approx([0.6, 1.0])  # the irrelevant item wins
    for gate in ("threshold", "relevance"):
        gated = rewards.retrieval_reward(relevance, quality, exclusive, gate=gate)
        assert gated.outcome.tolist() == pytest.approx([0.6, 0.0])


@settings(deadline=None)
@given(st.floats(0.5, 1), st.floats(0, 0.49), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_gated_irrelevant_never_beats_relevant(good: float, bad: float, quality: float, h1: float, h2: float) -> None:
    reward = rewards.retrieval_reward(
        tensor([good, bad]), tensor([quality, quality]), tensor([h1, h2]), gate="threshold", scale=0.2
    )
    assert reward.outcome[0] >= reward.outcome[1]


def test_an_unjudged_candidate_stays_unknown() -> None:
    reward = rewards.retrieval_reward(tensor([NAN, 1.0]), torch.ones(2), torch.ones(2), gate="none")
    assert reward.outcome[0].isnan() and reward.correct[0].isnan() and reward.counts()["unscorable"] == 1


def test_the_worked_example_of_retrieval_grpo() -> None:
    # mean 0.6775; population std sqrt((2 * .3125^2 + .2375^2 + .3875^2) / 4) = 0.3169
    result = group_relative(tensor([0.99, 0.99, 0.44, 0.29]), torch.zeros(4).long(), scale="population")
    assert result.tolist() == pytest.approx([0.986, 0.986, -0.749, -1.223], abs=5e-4)


def test_the_band_reads_accuracy_not_reward() -> None:
    correct = tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, NAN, NAN])
    group = tensor([0, 0, 1, 1, 2, 2, 3, 3])
    kept = sampling.difficulty_band(correct, group)
    assert kept.tolist() == [False, False, True, True, False, False, False, False]
    counts = sampling.band_counts(correct, group, kept)
    assert counts == {"all_right": 1, "kept": 1, "all_wrong": 1, "unscored": 1}


def test_band_edges() -> None:
    correct, group = tensor([1.0] * 9 + [0.0]), torch.zeros(10).long()  # accuracy 0.9
    assert not sampling.difficulty_band(correct, group, low=0.01, high=0.9).any()
    assert sampling.difficulty_band(correct, group, low=0.01, high=0.91).all()


def test_quota_after_the_filter() -> None:
    labels = [3, 3, 3, 3, 1, 1, 0]
    places = sampling.within_quota(labels, sampling.missing_groups({3: 1}, range(4), 2))
    assert places == [0, 4, 5, 6]  # one 3 is there already, so one more; both 1s; the only 0
    assert sampling.missing_groups({3: 2, 1: 2, 0: 1}, range(4), 2) == {0: 1, 2: 2}
    assert sampling.within_quota([2, 2], {3: 1}) == []
    assert sampling.coefficient_of_variation([0, 1, 2, 3], 4) == 0.0


def test_a_group_with_nothing_scored_is_out_of_every_band() -> None:
    kept = sampling.difficulty_band(
        tensor([NAN, NAN]), tensor([0, 0]), low=-1.0, high=1.0
    )  # a mean of nothing reads as 0
    assert kept.tolist() == [False, False]
