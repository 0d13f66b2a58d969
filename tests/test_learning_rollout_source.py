"""Updates from rollouts: quota, refill, filter, collapse, and a killed run that goes on as it would have."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import tiny_models
from goodrate.cli import refusal
from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.collapse import Collapsed, CollapseDetector
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.policy_terms import PolicyTermSettings, outcome_credit, policy_terms
from goodrate.learning.records import Prompts, Reward, Rollout
from goodrate.learning.rewards import label_reward
from goodrate.learning.rollout_method import Method, TokenizedPrompt
from goodrate.learning.rollout_source import NothingToLearn, RolloutSettings, RolloutSource
from goodrate.run_folder import RunFolder


class FirstToken:
    """The label of a completion is its first token modulo 4."""

    def parse(self, completion: Any) -> int:
        return completion.token_ids[0] % 4

    def correct(self, rollout: Rollout, examples: Any) -> torch.Tensor:
        return self.grade(rollout, examples).correct

    def grade(self, rollout: Rollout, examples: Any) -> Reward:
        gold = torch.tensor([example.label for example in examples])[rollout.group]
        return label_reward(torch.tensor(rollout.parsed), gold)


def credit(rollout: Rollout, reward: Reward) -> dict[str, torch.Tensor]:
    a = group_relative(reward.outcome, rollout.group, scale="population")
    assert rollout.behaviour_logprobs is not None
    return {
        "mask": rollout.mask,
        "advantages": to_tokens(a, rollout.mask),
        "behaviour": rollout.behaviour_logprobs,
    }


def facts(rollout: Rollout, reward: Reward) -> dict[str, float]:
    return {"label_spread": len(set(rollout.parsed)) / 4}


class Never(FirstToken):
    def parse(self, completion: Any) -> int:
        return 7


# Labels in the ratio 6 : 3 : 2 : 1.
EXAMPLES = [
    TokenizedPrompt(f"e{n}", (5 + n % 40, 9, 11 + n % 7), label)
    for n, label in enumerate([0] * 6 + [1] * 3 + [2] * 2 + [3])
]


def source(grader: Any = None, model: Any = None, **changes: Any) -> RolloutSource:
    settings = RolloutSettings(**{"prompts": 8, "group_size": 6, "max_new_tokens": 3, "rounds": 6, **changes})
    return RolloutSource(
        settings,
        model or tiny_models.causal_lm(),
        EXAMPLES,
        Method(grader or FirstToken(), credit, policy_terms(PolicyTermSettings(kl=0), on_policy=False), facts),
        num_labels=4,
        stop_token_id=1,
        seed=0,
    )


def test_an_update_holds_as_many_groups_of_every_label_all_of_them_mixed() -> None:
    update = source(group_size=3).next(0)
    assert update is not None and update.facts["label_cv"] == 0 and update.facts["groups"] == 8
    advantages = torch.cat([batch["advantages"][:, 0] for batch in update.micro_batches])
    assert (advantages != 0).all()  # an all-right or all-wrong group would have none
    facts = update.facts
    shares = [facts[f"share_{name}"] for name in ("kept", "all_right", "all_wrong", "outside_band", "unscored")]
    assert sum(shares) == pytest.approx(1) and 0 < facts["share_kept"] < 1
    natural = source(balanced=False, prompts=12).next(0)
    assert natural is not None and natural.facts["label_cv"] > 0.3


def test_the_outcomes_credit_is_clamped_and_stays_inside_the_mask() -> None:
    rows, mask = torch.zeros(4).long(), torch.tensor([[1, 1], [1, 0], [1, 1], [1, 0]]).bool()
    behaviour = torch.full((4, 2), -0.5)
    rollout = Rollout(
        rows, rows, rows, Prompts(("a",), ((1,),)), torch.ones(4, 2).long(), mask, behaviour, ("stop",) * 4, (None,) * 4
    )
    outcome = torch.tensor([1.0, 0.0, 0.0, 0.0])
    reward = Reward(outcome, outcome, torch.zeros(4).bool())
    # population deviation sqrt(0.1875) = 0.433: 0.75 / 0.433 = 1.732, clamped to 1.5; -0.25 / 0.433 = -0.577
    clamped = outcome_credit(rollout, reward, clamp=1.5)
    assert clamped["advantages"][0].tolist() == [1.5, 1.5]
    assert clamped["advantages"][1].tolist() == pytest.approx([-0.57735, 0.0])
    # a floor of 0.5 under the deviation: 0.75 / 0.5
    assert outcome_credit(rollout, reward, clamp=9.0, floor=0.5)["advantages"][:, 0].tolist() == [1.5, -0.5, -0.5, -0.5]
    assert clamped["mask"] is mask and clamped["behaviour"] is behaviour


def test_a_method_without_replay_has_no_state() -> None:
    method = Method(FirstToken(), credit, policy_terms(PolicyTermSettings(kl=0), on_policy=True))
    method.load_state_dict({"e1": (0.5, 2)})  # of a run that had one
    assert method.state_dict() == {} and method.facts(None, None) == {}  # type: ignore[arg-type]


def test_nothing_right_is_an_error_that_says_so() -> None:
    with pytest.raises(NothingToLearn, match="all_wrong"):
        source(Never()).next(0)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_killed_and_resumed_is_never_killed(inner_steps: int, tmp_path: Any) -> None:
    class Killed(Exception):
        pass

    def run(name: str, kill_at: int | None = None) -> dict[str, torch.Tensor]:
        model = tiny_models.causal_lm()
        settings = FitSettings(updates=6, precision="fp32", checkpoint_updates=3, log_every=1)

        def watch(record: dict[str, Any]) -> None:
            if record["update"] == kill_at:
                raise Killed

        fit(
            PolicyScorer(model.network, sharing="cache"),
            source(model=model, prompts=4, inner_steps=inner_steps),
            [torch.optim.AdamW(model.network.parameters(), 1e-2)],
            settings,
            folder=RunFolder(tmp_path / name),
            on_update=watch,
        )
        return model.network.state_dict()

    straight = run("straight")
    with pytest.raises(Killed):
        run("killed", kill_at=5)
    resumed = run("killed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert any(
        not torch.equal(straight[name], value) for name, value in tiny_models.causal_lm().network.state_dict().items()
    )


def test_another_data_set_is_refused_on_resume() -> None:
    state = source().state_dict()
    with pytest.raises(ValueError, match="settings differ"):
        source(prompts=4).load_state_dict(state)


def test_other_micro_batches_are_no_other_data_on_resume() -> None:
    held = source(micro_tokens=64).state_dict()
    older = {**held, "settings": json.dumps({**held["settings"], "micro_tokens": 64})}
    for state in (held, older):
        resumed, straight = source(micro_tokens=4096), source(micro_tokens=64)
        resumed.load_state_dict(state)
        first, second = resumed.next(0), straight.next(0)
        assert first is not None and second is not None
        assert len(first.micro_batches) < len(second.micro_batches)
        rows = [sorted(row for b in u.micro_batches for row in b["ids"][:, 0].tolist()) for u in (first, second)]
        assert rows[0] == rows[1]


def test_the_reward_rises() -> None:
    model = tiny_models.causal_lm()
    start = source(model=model, prompts=12, group_size=8, max_new_tokens=1)
    seen: list[float] = []
    settings = FitSettings(updates=30, precision="fp32", schedule="constant", warmup=0)
    optimizer = torch.optim.AdamW(model.network.parameters(), 1e-2)
    fit(PolicyScorer(model.network), start, [optimizer], settings, on_update=lambda r: seen.append(r["accuracy"]))
    assert sum(seen[:3]) / 3 < 0.4 and sum(seen[-3:]) / 3 > 0.6


def record(
    update: int, mixed: float, accuracy: float, inconsistent: float = 0.1, spread: float = 0.9
) -> dict[str, Any]:
    return {
        "update": update,
        "share_kept": mixed,
        "accuracy": accuracy,
        "inconsistent": inconsistent,
        "label_spread": spread,
    }


@pytest.mark.parametrize(
    ("late", "why"),
    [
        ((0.05, 0.5, 0.1, 0.9), "right and wrong completions fell from 0.70 to 0.05"),
        ((0.7, 0.5, 0.9, 0.9), "contradict their own steps rose"),
        ((0.7, 0.5, 0.1, 0.3), "entropy fell from 0.90 to 0.30"),
        ((0.05, 0.9, 0.1, 0.9), None),  # it has learned: fewer mixed groups are what was wanted
    ],
)
def test_the_detector_tells_collapse_from_learning(late: tuple[float, ...], why: str | None) -> None:
    detector = CollapseDetector(window=3)
    for update in range(3):
        detector(record(update, 0.7, 0.5))
    again = CollapseDetector(window=3)
    again.load_state_dict(detector.state_dict())  # a resumed run watches on
    again(record(3, *late))
    again(record(4, *late))
    if why is None:
        again(record(5, *late))
    else:
        with pytest.raises(Collapsed, match=why):
            again(record(5, *late))


class Solved(FirstToken):
    """Prompts of the labels 0 and 1 are always right; the others are by the first token."""

    def grade(self, rollout: Rollout, examples: Any) -> Reward:
        gold = torch.tensor([example.label for example in examples])[rollout.group]
        guessed = torch.where(gold <= 1, gold, torch.tensor(rollout.parsed))
        return label_reward(guessed, gold)


def test_screening_passes_over_prompts_that_are_solved_and_samples_the_others_anew() -> None:
    plain = source(Solved(), balanced=False, prompts=8).next(0)
    screened = source(Solved(), balanced=False, prompts=8, screening=2).next(0)
    assert plain is not None and screened is not None
    # nine of twelve examples are solved
    assert plain.facts["share_all_right"] > 0.5 and plain.facts["share_screened"] == 0
    assert screened.facts["share_screened"] > 0.5 and screened.facts["share_all_right"] < 0.1
    assert screened.facts["accuracy"] < plain.facts["accuracy"]  # of what is left
    # whole groups of six, and none of the two that screened
    assert all(len(batch["advantages"]) % 6 == 0 for batch in screened.micro_batches)


def test_screening_asks_only_whether_a_sample_is_right() -> None:
    graded = []

    class Costly(Solved):
        def correct(self, rollout: Rollout, examples: Any) -> torch.Tensor:
            return super().grade(rollout, examples).correct

        def grade(self, rollout: Rollout, examples: Any) -> Reward:
            graded.append(len(rollout.parsed))
            return super().grade(rollout, examples)

    plain = source(Solved(), balanced=False, prompts=8, screening=2).next(0)
    costly = source(Costly(), balanced=False, prompts=8, screening=2).next(0)
    assert plain is not None and costly is not None
    assert all(count % 6 == 0 for count in graded)  # whole groups, none of two
    first, second = (torch.cat([batch["advantages"] for batch in u.micro_batches]) for u in (plain, costly))
    assert torch.equal(first, second)


def test_nothing_is_left_when_screening_finds_all_solved() -> None:
    class Right(FirstToken):
        def grade(self, rollout: Rollout, examples: Any) -> Reward:
            gold = torch.tensor([example.label for example in examples])[rollout.group]
            return label_reward(gold, gold)

    with pytest.raises(NothingToLearn, match="screened"):
        source(Right(), screening=2).next(0)


def test_solved_prompts_rest_longer_every_time_and_come_back() -> None:
    queue = source(screening=2, rest=2)
    rows = queue._draw(0, 6)
    assert sorted(rows) == [0, 1, 2, 3, 4, 5]
    for row in rows[1:]:
        queue._rest(0, row, True)
    assert queue._draw(0, 1) == [rows[0]]  # epoch 1: the others rest
    queue._rest(0, rows[0], False)
    again = queue._draw(0, 6)  # epoch 2
    assert sorted(again) == sorted(rows) and again == source()._draw(0, 18)[12:]
    for row in rows[1:]:
        queue._rest(0, row, True)
    assert queue._draw(0, 2) == [rows[0]] * 2  # epochs 3 and 4
    other = source(screening=2, rest=2)
    other.load_state_dict(queue.state_dict())
    last = queue._draw(0, 6)
    assert other._draw(0, 6) == last and sorted(last) == sorted(rows)
    with pytest.raises(ValueError, match="rollouts.rest needs rollouts.screening"):
        RolloutSettings(rest=1)


def test_when_all_rest_nothing_is_drawn_for_longer_than_a_rest() -> None:
    queue = source(screening=2, rest=3)
    for row in queue._draw(3, 1):
        queue._solved[row] = (9, 10**6)
    assert queue._draw(3, 1) == []


def test_reasons_that_rot_into_unreadable_ones_are_a_collapse() -> None:
    """Seen without KL: labels stay right, no step can be read, so none contradicts its label either."""
    detector = CollapseDetector(window=2)
    healthy = {"accuracy": 0.8, "share_kept": 0.3, "inconsistent": 0.0, "unreadable_steps": 0.05, "label_spread": 0.9}
    rotten = {**healthy, "inconsistent": float("nan"), "unreadable_steps": 0.99}
    for number in range(3):
        detector({"update": number, **healthy})
    with pytest.raises(Collapsed, match="reasons that cannot be read rose from 0.05 to 0.52") as raised:
        detector({"update": 3, **rotten})
    assert (refusal(raised.value) or "").endswith("a lower learning_rate or a higher loss.kl")  # one line, no traceback
