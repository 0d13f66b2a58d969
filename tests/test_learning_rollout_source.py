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
from goodrate.learning.solved import PromptTally
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


def source(grader: Any = None, model: Any = None, examples: Any = EXAMPLES, **changes: Any) -> RolloutSource:
    settings = RolloutSettings(**{"prompts": 8, "group_size": 6, "max_new_tokens": 3, "rounds": 6, **changes})
    return RolloutSource(
        settings,
        model or tiny_models.causal_lm(),
        examples,
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
    with pytest.raises(NothingToLearn, match=r"all_wrong.*Too hard: no sample is right. Start from a judge"):
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


class Right(FirstToken):
    """Every completion is right but those of the prompts named `wrong`."""

    def __init__(self, *wrong: str) -> None:
        self.wrong = wrong
        self.sampled: set[str] = set()

    def grade(self, rollout: Rollout, examples: Any) -> Reward:
        self.sampled |= {example.example_id for example in examples}
        gold = torch.tensor([example.label for example in examples])[rollout.group]
        missed = torch.tensor([example.example_id in self.wrong for example in examples])[rollout.group]
        return label_reward(torch.where(missed, (gold + 1) % 4, gold), gold)


@pytest.mark.parametrize("screening", [0, 2])
@pytest.mark.parametrize("rest", [None, 2])
def test_a_source_ends_when_all_prompts_are_solved(screening: int, rest: int | None) -> None:
    if rest and not screening:
        pytest.skip("rests need screening")
    solved = source(Right(), screening=screening, rest=rest)
    assert solved.next(0) is None and solved.next(1) is None
    assert solved.ended == "solved: 12 of 12 prompts are answered right by every sample"
    resumed = source(Never(), screening=screening, rest=rest)  # asks nobody: it has ended
    resumed.load_state_dict(solved.state_dict())
    assert resumed.next(1) is None and resumed.ended == solved.ended


def test_a_source_looks_at_every_prompt_before_it_calls_them_solved() -> None:
    """One prompt in twelve has right and wrong completions; two are drawn in the only round."""

    class Hidden(Right):
        def grade(self, rollout: Rollout, examples: Any) -> Reward:
            reward = super().grade(rollout, examples)
            odd = torch.tensor([examples[group].example_id == "e4" for group in rollout.group.tolist()])
            half = torch.arange(len(odd)) % 2
            gold = torch.tensor([example.label for example in examples])[rollout.group]
            return label_reward(torch.where(odd & (half == 1), 3, gold), gold) if odd.any() else reward

    changes = {"balanced": False, "prompts": 1, "rounds": 1}
    for number in range(4):
        update = source(Hidden(), **changes).next(number)
        assert update is not None and update.facts["groups"] == 1
    grader = Right()
    assert source(grader, **changes).next(0) is None and len(grader.sampled) == 12


def test_prompts_that_are_always_wrong_among_solved_ones_are_counted() -> None:
    examples = [TokenizedPrompt(f"e{n}", (5 + n % 40, 9, n // 40 + 1), n % 4) for n in range(40)]
    solved = source(Right("e1", "e2"), examples=examples)
    assert solved.next(0) is None
    assert solved.ended == "solved: 38 of 40 prompts are answered right by every sample (2 not: look at their labels)"


def test_a_large_pool_is_solved_when_enough_of_it_is() -> None:
    examples = [TokenizedPrompt(f"e{n}", (5 + n % 40, 9, n // 40 + 1), n % 4) for n in range(1000)]
    grader = Right()
    solved = source(grader, examples=examples, prompts=80, max_new_tokens=1, group_size=2, rounds=1)
    assert solved.next(0) is None and 300 <= len(grader.sampled) <= 420
    assert f"{len(grader.sampled)} prompts, drawn from 1,000, are answered right" in solved.ended


def test_a_policy_that_says_one_thing_is_not_taken_for_one_that_has_solved_its_prompts() -> None:
    class Constant(FirstToken):
        def parse(self, completion: Any) -> int:
            return 0

    frequent = [TokenizedPrompt(f"e{n}", (5 + n, 9, 11), 0 if n < 19 else 1) for n in range(20)]
    with pytest.raises(NothingToLearn, match="19 of 20 right: the policy has collapsed or is too sure. Start from"):
        source(Constant(), examples=frequent, balanced=False, prompts=20, oversampling=1).next(0)


def test_a_run_that_has_solved_its_prompts_ends_and_stays_ended(tmp_path: Any) -> None:
    """All right from the third update on."""

    class Later(FirstToken):
        graded = 0

        def grade(self, rollout: Rollout, examples: Any) -> Reward:
            Later.graded += 1
            gold = torch.tensor([example.label for example in examples])[rollout.group]
            return label_reward(gold, gold) if Later.graded > 2 else super().grade(rollout, examples)

    def run() -> tuple[Any, RolloutSource, dict[str, torch.Tensor]]:
        model = tiny_models.causal_lm()
        updates = source(Later(), model=model, rounds=1, balanced=False)
        settings = FitSettings(updates=50, precision="fp32")
        optimizer = torch.optim.SGD(model.network.parameters(), 0.1)
        end = fit(PolicyScorer(model.network), updates, [optimizer], settings, folder=RunFolder(tmp_path))
        return end, updates, model.network.state_dict()

    end, updates, weights = run()
    assert (end.updates, end.stopped_by) == (2, "source") and updates.ended.startswith("solved: 12 of 12 prompts")
    assert [record["update"] for record in RunFolder(tmp_path).metrics()] == [2]
    before = Later.graded
    again, resumed, same = run()
    assert (again.updates, resumed.ended, Later.graded) == (2, updates.ended, before)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_the_tally_by_hand() -> None:
    tally = PromptTally()
    assert not tally.solved and tally.trouble().startswith("No completion could be scored")
    tally.add([("a", 0, float("nan"))])
    assert (tally.scored, tally.solved) == (0, False)
    tally.add([("a", 0, 0.0)])
    assert tally.trouble().startswith("Too hard: no sample is right.")
    tally.add([("a", 0, 1.0), ("b", 1, 1.0)])  # a was wrong once
    assert (tally.right, tally.scored, tally.solved) == (1, 2, False)
    most = PromptTally(enough=0.8)
    most.add((f"p{n}", 0, 0.8 if n else 0.1) for n in range(10))
    assert most.solved and most.says(99) == (
        "solved: 9 of 10 prompts, drawn from 99, are answered right by 80% of their samples or more "
        "(1 not: look at their labels)"
    )


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


@pytest.mark.parametrize(
    ("first", "late"),
    [
        ({"share_kept": 0.3, "accuracy": 0.93}, {"share_kept": 0.05, "accuracy": 0.96}),  # little was wrong at all
        # of the prompts that screening leaves no more are right than before, but it leaves few
        (
            {"share_kept": 0.6, "accuracy": 0.5, "share_screened": 0.1},
            {"share_kept": 0.05, "accuracy": 0.5, "share_screened": 0.9},
        ),
    ],
)
def test_nearly_solved_is_not_collapsed(first: dict[str, float], late: dict[str, float]) -> None:
    detector = CollapseDetector(window=2)
    for number, facts in enumerate([first, first, late, late]):
        detector({"update": number, **facts})
    worse = {**late, "accuracy": first["accuracy"], "share_screened": first.get("share_screened", 0.0)}
    with pytest.raises(Collapsed, match="right and wrong completions fell"):
        for number in range(2):
            detector({"update": number, **worse})


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
