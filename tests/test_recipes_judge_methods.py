"""Guided replay, step rewards and context choice: the arithmetic on the rollouts of a toy judge."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings, accumulate
from goodrate.learning.policy import PolicyScorer, micro_batches
from goodrate.learning.records import Prompts, Reward, Rollout, Update
from goodrate.learning.rollout import Sampling, add_rollouts, sample, take
from goodrate.learning.rollout_method import Method, TokenizedPrompt
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.recipes import judge_context, judge_curriculum, judge_guided, judge_sft, judge_stepwise
from goodrate.recipes.guided_replay import LADDER, ReplaySettings, hint
from goodrate.recipes.judge_context import context_method
from goodrate.recipes.judge_folder import open_policy
from goodrate.recipes.judge_guided import guided_method
from goodrate.recipes.judge_rollouts import sample_rollouts, tokenize_prompts, uncertain_prompts
from goodrate.recipes.judge_steps import CREDITED, StepSpans, attribute_f1, verified_steps
from goodrate.recipes.judge_stepwise import stepwise_method
from goodrate.recipes.label_grader import LabelGrader, distinct_paths
from goodrate.recipes.prompt_pool import PoolSettings, PromptStats, inside_window, prompt_stats, select_prompts
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import Rationale, Want, parse, step_lines, write
from goodrate.relevance.rule_map import deciding_rules
from goodrate.relevance.rulebook import load_rulebook

torch.set_num_threads(1)
BOOK = load_rulebook()
RULES = {rule.id: BOOK.scale.index(rule.label) for rule in BOOK.rules}


def rationale(relation: str = "same", check: str = "match", strength: str = "must") -> Rationale:
    said = Rationale(0, "lamp", (Want("color", "red", strength),), "lamp", ("red",), relation, (check,), "x")
    (rule,) = deciding_rules(BOOK, said)
    return replace(said, rule=rule, label=RULES[rule])


def test_every_combination_of_verdicts_has_its_rule() -> None:
    found = {
        (relation, strength, check): rationale(relation, check, strength).rule
        for relation in ("same", "sibling", "accessory", "other")
        for strength in ("must", "may", "not")
        for check in ("match", "unknown", "conflict")
    }
    for (relation, strength, check), rule in found.items():
        columns = {"category": relation, "must": "none", "may": "none", "not": "none", "alternative": "none"}
        codes = {n: BOOK.codes(n, [v]) for n, v in {**columns, strength: check}.items()}
        assert BOOK.rules[int(BOOK.decide(codes)[0])].id == rule
    price = Rationale(0, "lamp", (Want("price", "40", "below"),), "lamp", ("50",), "same", ("conflict",), "x")
    assert deciding_rules(BOOK, price) == {"requirement_failed", "not_cheaper"}  # steps do not say which
    worst = Rationale(
        0,
        "lamp",
        (Want("a", "1", "must"), Want("b", "2", "must")),
        "lamp",
        ("1", None),
        "same",
        ("match", "unknown"),
        "x",
    )
    assert deciding_rules(BOOK, worst) == {"requirement_unknown"}


def known(example_id: str = "a", truth: Rationale | None = None) -> JudgePrompt:
    truth = truth or rationale()
    prefix, suffix = judge_prompt("red lamp", "lamp red", template="nano")
    return JudgePrompt(example_id, prefix, suffix, truth.label, steps=step_lines(truth))


def test_steps_are_verified_where_a_line_is_stored() -> None:
    truth, wrong = rationale(), rationale(check="conflict")
    said = parse(write(wrong, "reason_first"), "reason_first")
    nan = float("nan")
    found = verified_steps(said, known(truth=truth), ("category", "checks", "verdict"))
    assert found == pytest.approx([nan, nan, 1, 0, 0, 0], nan_ok=True)
    part = replace(known(truth=truth), steps={"checks": step_lines(truth)["checks"]})
    assert verified_steps(said, part, ("category", "checks")) == pytest.approx([nan, nan, nan, 0, nan, 0], nan_ok=True)
    assert verified_steps(None, known(), ("checks",)) == pytest.approx([nan] * 6, nan_ok=True)


def test_attribute_f1_counts_verdicts_once_each() -> None:
    said = parse("4\nwants x\nfound x\ncategory x : x same\nchecks color match ; size unknown\nverdict y\n")
    assert attribute_f1(said, replace(known(), steps={"checks": "checks color match ; size conflict"})) == 0.5
    assert attribute_f1(said, replace(known(), steps={"checks": "checks none"})) == 0.0
    assert attribute_f1(parse("4\nchecks none\n"), replace(known(), steps={"checks": "checks none"})) == 1.0


def test_the_hint_ladder_says_more_on_every_rung() -> None:
    prompt = known(truth=rationale(check="conflict"))
    rungs = [hint(prompt, level, "attributes") for level in range(1, LADDER + 1)]
    assert rungs[0] == "rule requirement_failed"
    assert rungs[1] == "rule requirement_failed . checks color conflict"
    assert "wants lamp" in rungs[2] and "label" not in rungs[2] and rungs[3].endswith("label 2")
    assert hint(replace(prompt, steps={}), 1, "attributes") == "label 2"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reason-first judge of red and blue lamps that has seen few of its steps."""
    folder = tmp_path_factory.mktemp("judge")
    tiny_models.causal_lm().save(folder / "start")
    examples = [replace(p, completion=written(p)) for p in lamps()]
    settings = judge_sft.Settings(
        model=str(folder / "start"), format=form(), batch_size=8, epochs=200, learning_rate=3e-3, max_tokens=200,
        fit=FitSettings(updates=150, precision="fp32"),
    )  # fmt: skip
    return judge_sft.train(settings, examples, folder / "run")


def form() -> JudgeFormat:
    return JudgeFormat(order="reason_first", template="nano", rule_book_hash=BOOK.hash, max_new_tokens=90)


def lamps() -> list[JudgePrompt]:
    """Red lamps match, blue ones fail."""
    prompts = []
    for kind in ("cup", "hat", "shoe", "lamp"):
        for color, check in (("red", "match"), ("blue", "conflict")):
            truth = replace(rationale(check=check), category=kind, found_category=kind, found=(color,))
            prefix, suffix = judge_prompt(f"red {kind}", f"{kind} {color}", template="nano")
            prompts.append(JudgePrompt(f"{kind} {color}", prefix, suffix, truth.label, steps=step_lines(truth)))
    return prompts


def written(prompt: JudgePrompt) -> str:
    return "\n".join([*prompt.steps.values(), str(prompt.label + 1)]) + "\n"


def rollouts(
    folder: Path, method: Any, prompts: list[JudgePrompt], size: int = 4
) -> tuple[Rollout, list[TokenizedPrompt]]:
    model, _, _ = open_policy(folder)
    examples = tokenize_prompts(model, prompts, 90)
    asked = Prompts(tuple(e.example_id for e in examples), tuple(e.token_ids for e in examples))
    how = Sampling(size, 1.0, 90, model.tokenizer.eos_token_id)
    return sample(model, asked, how, list(range(size * len(prompts))), method.grader.parse), examples


def stepwise(folder: Path, **changed: Any) -> Method:
    model, judge_format, rules = open_policy(folder)
    settings = judge_stepwise.Settings(judge=str(folder), **changed)
    prompts = {p.example_id: p for p in lamps()}
    return stepwise_method(settings, prompts, model, LabelGrader(judge_format, rules))


def stepwise_with(folder: Path, step_judge: Any, **changed: Any) -> Method:
    method: Any = stepwise(folder, **changed)
    return replace(method, grader=replace(method.grader, step_judge=step_judge))


def step_ids(folder: Path, rollout: Rollout) -> torch.Tensor:
    return StepSpans(open_policy(folder)[0]).of(rollout)


def test_every_token_knows_its_step(judge: Path) -> None:
    model, _, _ = open_policy(judge)
    text = written(lamps()[0])
    ids = [*model.encode(text), model.tokenizer.eos_token_id]
    rollout = Rollout(
        *(torch.zeros(1, dtype=torch.long),) * 3, Prompts(("a",), ((1,),)), torch.tensor([[*ids, 0]]),
        torch.tensor([[True] * len(ids) + [False]]), None, ("stop",), (None,),
    )  # fmt: skip
    steps = StepSpans(model).of(rollout)[0]
    for i, name in enumerate(CREDITED):
        line = model.tokenizer.decode([t for t, s in zip(ids, steps.tolist(), strict=False) if s == i])
        assert line == (f"{lamps()[0].steps[name]}\n" if name != "label" else "4\n")
    assert steps[-2] == -1 and steps[-1] == -1  # the end token, and what lies outside


def test_equal_step_rewards_leave_the_outcome_and_steps_stay_in_their_lines(judge: Path) -> None:
    method = stepwise(judge, critical=False, outcome_weight=0.5, advantage_clamp=9)
    rollout, examples = rollouts(judge, method, lamps())
    reward = method.grader.grade(rollout, examples)
    ids = step_ids(judge, rollout)
    same = replace(reward, steps=torch.ones(len(reward.outcome), len(CREDITED)))
    mixed = replace(same, outcome=torch.arange(4.0).repeat(8))
    whole = method.credit(rollout, mixed)["advantages"]
    z = torch.tensor([-1.5, -0.5, 0.5, 1.5]).repeat(8) / 1.25**0.5 * 0.5
    torch.testing.assert_close(whole, z[:, None] * rollout.mask, atol=1e-4, rtol=0)
    steps = same.steps.clone()
    steps[::4, 3] = 0.0  # the checks of the first rollout of every group are wrong
    local = method.credit(rollout, replace(same, outcome=torch.ones(32), steps=steps))["advantages"]
    assert (local[ids != 3] == 0).all() and (local[::4][ids[::4] == 3] < 0).all()


def test_nothing_is_earned_behind_the_first_error(judge: Path) -> None:
    method = stepwise(judge, outcome_weight=0.0)
    rollout, examples = rollouts(judge, method, lamps()[:1])
    steps = torch.ones(4, len(CREDITED))
    steps[0, 2] = steps[0, 4] = 0.0
    steps[1, 4] = 0.0
    ids = step_ids(judge, rollout)
    found = method.credit(rollout, Reward(torch.ones(4), torch.ones(4), torch.zeros(4, dtype=torch.bool), steps))
    assert (found["advantages"][0][ids[0] > 2] == 0).all() and (found["advantages"][0][ids[0] == 2] < 0).all()


def guided(folder: Path, **changed: Any) -> Any:
    model, judge_format, rules = open_policy(folder)
    settings = judge_guided.Settings(judge=str(folder), **changed)
    prompts = {p.example_id: p for p in lamps()}
    return guided_method(settings, prompts, model, LabelGrader(judge_format, rules))


def test_a_right_label_is_worth_more_than_any_wrong_one(judge: Path) -> None:
    method = guided(judge)
    worst_right, best_wrong = 9.0, 0.0
    for check in ("match", "unknown", "conflict"):
        for truth in (rationale(), rationale(check="conflict")):
            for label in range(4):
                text = write(replace(rationale(check=check), label=label), "reason_first")
                said = parse(text, "reason_first")
                rollout, examples = fixed(method, [said], replace(known("lamp red"), label=truth.label))
                method.grader.prompts["lamp red"] = known("lamp red", truth)
                value = float(method.grader.grade(rollout, examples).outcome[0])
                gated = value == 0.0
                if label == truth.label and not gated:
                    worst_right = min(worst_right, value)
                if label != truth.label:
                    best_wrong = max(best_wrong, value)
    assert worst_right > best_wrong > 0


def fixed(method: Any, said: list[Any], prompt: JudgePrompt) -> tuple[Rollout, list[TokenizedPrompt]]:
    num = len(said)
    zeros = torch.zeros(num, dtype=torch.long)
    rollout = Rollout(
        zeros, zeros, zeros, Prompts((prompt.example_id,), ((1, 2),)), torch.ones(num, 2, dtype=torch.long),
        torch.ones(num, 2, dtype=torch.bool), torch.zeros(num, 2), ("stop",) * num,
        tuple(said),
    )  # fmt: skip
    return rollout, [TokenizedPrompt(prompt.example_id, (1, 2), prompt.label)]


def test_a_completion_that_speaks_of_the_hint_earns_nothing(judge: Path) -> None:
    from goodrate.models.causal_lm import Completion

    method, text = guided(judge), write(rationale(), "reason_first")
    said = [method.grader.parse(Completion((), t, "stop")) for t in (text, text.replace("found", "hint says\nfound"))]
    rollout, examples = fixed(method, said, known("lamp red"))
    assert method.grader.grade(rollout, examples).outcome.tolist() == [1.75, 0.0]


@pytest.mark.parametrize("make", [guided, stepwise])
def test_stuck_groups_are_asked_again_and_keep_their_size(judge: Path, make: Any) -> None:
    method = make(judge, replay=ReplaySettings(warmup=1, share=0.5, samples=3))
    rollout, examples = rollouts(judge, method, lamps())
    correct = torch.ones(32)
    correct[4:12] = 0.0  # two groups of eight go wrong
    reward = replace(method.grader.grade(rollout, examples), correct=correct, outcome=correct)
    asked: list[Any] = []

    def ask(some: Any, token_ids: Any = None, *, size: int = 0, view: str = "plain", arm: int = 0) -> Rollout:
        asked.append((some, token_ids, size, view, arm))
        given, _ = rollouts(judge, method, [method.grader.prompts[e.example_id] for e in some], size)
        right = tuple(
            parse(written(method.grader.prompts[e.example_id]), "reason_first") for e in some for _ in range(size)
        )
        return replace(given, parsed=right, arm=torch.ones_like(given.arm))

    assert method.replay.replayed(rollout, reward, examples, ask, 0)[2] == {"stuck": 0, "rescued": 0, "guided": 0}
    joined, rewards, counts = method.replay.replayed(rollout, reward, examples, ask, 1)
    assert counts == {"stuck": 2, "rescued": 2, "guided": 4}  # three right ones each, but half of a group stays plain
    assert torch.bincount(joined.group).tolist() == [4] * 8 and joined.arm.sum() == 4
    assert len(rewards.outcome) == 32 and rewards.correct[joined.arm == 1].all()
    (some, ids, size, view, arm), *_ = asked
    assert [e.example_id for e in some] == ["cup blue", "hat red"] and (size, view, arm) == (3, "hint", 1)
    assert all("hint: rule" in method.replay.model.tokenizer.decode(list(row)) for row in ids)
    # Numerator and KL use the plain prompt: no token of a hint is anywhere in what the loss sees.
    credit = method.credit(joined, rewards)
    for batch in micro_batches(joined, credit, 10_000, method.arms.views(joined)):
        assert all("hint" not in method.replay.model.tokenizer.decode(list(p)) for p in batch["prompts/plain"])
    assert not (credit["plain_tokens"] & credit["guided_tokens"]).any()
    assert {kept.level for kept in method.replay.memory.values()} == {1}
    state = method.state_dict()
    other = make(judge, replay=ReplaySettings())
    other.load_state_dict(state)
    assert other.replay.memory == method.replay.memory


def test_failures_climb_the_ladder_and_no_further(judge: Path) -> None:
    method = guided(judge, replay=ReplaySettings(warmup=0, share=1.0))
    rollout, examples = rollouts(judge, method, lamps()[:1])
    wrong = replace(method.grader.grade(rollout, examples), correct=torch.zeros(4), outcome=torch.zeros(4))

    def ask(some: Any, token_ids: Any = None, **_: Any) -> Rollout:
        given, _ = rollouts(judge, method, lamps()[:1], 4)
        return replace(given, parsed=(None,) * 4)

    levels = []
    for number in range(5):
        method.replay.replayed(rollout, wrong, examples, ask, number)
        levels.append(method.replay.memory["cup red"].level)
    assert levels == [2, 3, 4, 4, 4]


@pytest.mark.parametrize(("treatment", "least"), [("ratio", 0.0), ("shaped", 0.5)])
def test_the_label_first_trap(judge: Path, treatment: Any, least: float) -> None:
    """A label that is certain under the hint and improbable without it: the plain ratio kills its gradient."""
    method = guided(judge, replay=ReplaySettings(treatment=treatment))
    rollout, examples = rollouts(judge, method, lamps()[:2])
    arm = torch.tensor([0, 0, 0, 1] * 2)
    model, _, _ = open_policy(judge)
    scorer = PolicyScorer(model.network)
    outcome = torch.tensor([0.0, 0, 0, 1] * 2)
    with torch.no_grad():
        plain = scorer(micro_batches(rollout, {}, 10**6)[0])["plain"]
    told = replace(rollout, arm=arm, behaviour_logprobs=(plain + 3.9) * rollout.mask)  # rho = 0.02 everywhere
    reward = Reward(outcome, outcome, torch.zeros(8, dtype=torch.bool))
    terms, diagnostics = method.terms
    update = Update(micro_batches(told, method.credit(told, reward), 10**6), terms, {}, diagnostics)
    assert {t.denominator for t in terms if t.name in ("policy", "guided")} == {"union"}
    (off,) = [t for t in terms if t.name == "guided"]
    values = plain.clone().requires_grad_()
    (batch,) = update.micro_batches
    off.loss({"plain": values, "entropy": plain}, batch).sum().backward()
    weight = float(values.grad[batch["guided_tokens"]].abs().mean()) * off.weight
    advantage = float(batch["advantages"][batch["guided_tokens"]].abs().mean())
    assert weight / advantage == pytest.approx(0.0202 if treatment == "ratio" else 4 * 0.1393, rel=0.02)
    assert weight / advantage >= least
    kept = [t for t in terms if t.name != "kl_loss"]  # no reference here
    logged = [d for d in diagnostics if d.name != "kl"]
    found = accumulate(scorer, replace(update, terms=kept, diagnostics=logged), lambda loss: loss.backward())
    assert found["guided_ratio"] == pytest.approx(0.0202, rel=0.05)


def dual(folder: Path, **changed: Any) -> Any:
    model, judge_format, rules = open_policy(folder)
    settings = judge_context.Settings(judge=str(folder), **changed)
    ids = {p.example_id: tuple(model.encode_pair(f"{p.prefix}context: some text\n", p.suffix)) for p in lamps()}
    return context_method(settings, ids, dict.fromkeys(ids, "helpful"), LabelGrader(judge_format, rules))


def arms(method: Method, folder: Path, prompts: list[JudgePrompt]) -> tuple[Rollout, list[TokenizedPrompt]]:
    model, _, _ = open_policy(folder)
    examples = tokenize_prompts(model, prompts, 90)

    def ask(some: Any, token_ids: Any = None, *, share: float = 1.0, view: Any = "plain", arm: int = 0) -> Rollout:
        size = int(4 * share)
        ids = token_ids or [e.token_ids for e in some]
        asked = Prompts(tuple(e.example_id for e in some), tuple(ids), view)
        seeds = list(range(size * len(some)))
        return sample(
            model, asked, Sampling(size, 1.0, 90, model.tokenizer.eos_token_id), seeds, method.grader.parse, arm
        )

    return method.arms.sampled(ask, examples), examples


def test_two_arms_one_group_and_every_completion_under_both_prompts(judge: Path) -> None:
    method = dual(judge, rollouts=RolloutSettings(group_size=4, max_new_tokens=90))
    rollout, examples = arms(method, judge, lamps()[:2])
    assert rollout.arm.tolist() == [0] * 4 + [1] * 4 and rollout.group.tolist() == [0, 0, 1, 1] * 2
    reward = method.grader.grade(rollout, examples)
    correct = torch.tensor([1.0, 0, 0, 0, 1, 1, 0, 0])
    reward = replace(reward, outcome=correct, correct=correct)
    credit = method.credit(rollout, reward)
    # Group 0: one of two right without the text, both with it: gap 0.5, beta 3.523, alpha 0.0284.
    cross = credit["cross"][:, 0]
    z = torch.tensor([0.25, -0.75]) / 0.1875**0.5
    assert cross[:2].tolist() == pytest.approx([float(z[0]) * 0.0284, float(z[1]) * 3.523], rel=1e-2)
    assert (cross[2:] == 0).all()  # no spread in group 1; arm 1 never crosses
    parts = micro_batches(rollout, credit, 10**6, method.arms.views(rollout))
    (batch,) = parts
    model, _, _ = open_policy(judge)
    outputs = PolicyScorer(model.network)(batch)
    torch.testing.assert_close(
        outputs["plain"] * batch["mask"], batch["behaviour"] * batch["mask"], atol=0.1, rtol=0
    )  # sampled in bf16
    with_text = batch["mask"] & ~batch["without"]
    torch.testing.assert_close(outputs["context"][with_text], outputs["plain"][with_text], atol=1e-4, rtol=0)
    assert not torch.allclose(outputs["context"][batch["without"]], outputs["plain"][batch["without"]], atol=1e-3)


GATES = [("fixed", (2.0, 0.05)), ("oracle", (0.05, 2.0)), ("batch", (0.0378, 2.6430))]


@pytest.mark.parametrize(("gate", "expected"), GATES)
def test_gates(judge: Path, gate: Any, expected: tuple[float, float]) -> None:
    method = dual(judge, gate=gate, rollouts=RolloutSettings(group_size=4, max_new_tokens=90))
    rollout, examples = arms(method, judge, lamps()[:3])
    correct = torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    alpha, beta = method.credit.gate(rollout, replace(method.grader.grade(rollout, examples), correct=correct))
    assert (float(alpha[0]), float(beta[0])) == pytest.approx(expected, rel=1e-3)  # mean gap of 1/2, 0, 0: 1/6
    assert len(set(alpha.tolist())) == 1


def test_a_transfer_that_pushes_everything_down_is_centred(judge: Path) -> None:
    whole, centred = (dual(judge, centred=how) for how in (False, True))
    rollout, examples = arms(whole, judge, lamps()[:2])
    told = whole.grader.grade(rollout, examples)
    outcome = torch.tensor([1.0, 0, 1, 1, 1, 0, 0, 0])  # group 0: gap 0. Group 1: without the text right, with it wrong
    reward = replace(told, outcome=outcome, correct=outcome)
    before, after = (m.credit(rollout, reward)["cross"][:, 0] for m in (whole, centred))
    assert before[:2].tolist() == pytest.approx([0.05, -2.0], rel=1e-2)
    assert after[:2].tolist() == pytest.approx([1.025, -1.025], rel=1e-2)
    assert before[2] > 0 and torch.equal(after[2:], before[2:])  # it imitates, and arm 1 never crosses


def test_without_the_cross_term_there_are_two_groups_of_grpo(judge: Path) -> None:
    names = {gate: {t.name for t in dual(judge, gate=gate).terms[0]} for gate in ("query", "none")}
    assert names == {"query": {"policy", "kl_loss", "cross"}, "none": {"policy", "kl_loss"}}


def test_the_pool_is_asked_with_the_text() -> None:
    asked: list[tuple[str, str]] = []

    class Sure:
        def encode(self, text: str) -> list[int]:
            return [ord(text)]

        def label_logits(self, prompts: list[tuple[str, str]], ids: list[int]) -> np.ndarray:
            asked.extend(prompts)
            return np.asarray([[0.0, 0.0, 0.0, 9.0 if "context" in prefix else 0.0] for prefix, _ in prompts])

    both = [
        JudgePrompt(name, "q\n", "i\n", 3, context_prefix=with_text)
        for name, with_text in (("a", "q\ncontext: red\n"), ("b", "q\n"))
    ]
    kept = uncertain_prompts(Sure(), both, JudgeFormat(), 0.7)  # type: ignore[arg-type]
    assert [prompt.example_id for prompt in kept] == ["b"] and asked[0] == ("q\ncontext: red\n", "i\n")


REPLAY = ReplaySettings(warmup=0, accuracy=0.5, share=1.0)
RUNS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "stepwise": (judge_stepwise, {}, "reward/step/checks"),
    "stepwise+replay": (judge_stepwise, {"replay": REPLAY, "reduction": "step_mean"}, "guided_ratio"),
    "guided": (judge_guided, {"replay": REPLAY}, "stuck"),
    "context": (judge_context, {}, "context_gap"),
}


@pytest.mark.parametrize("recipe", RUNS)
def test_the_recipes_run_log_and_resume(judge: Path, tmp_path: Path, recipe: str) -> None:
    module, changed, wanted = RUNS[recipe]
    prompts: Any = lamps()
    if recipe == "context":
        prompts = [
            JudgePrompt(
                p.example_id,
                p.prefix,
                p.suffix,
                p.label,
                context_prefix=f"{p.prefix}context: red\n",
                context_kind="helpful",
            )
            for p in prompts
        ]
    common: dict[str, Any] = {
        "judge": str(judge), "learning_rate": 2e-3,
        "rollouts": RolloutSettings(
            prompts=4, group_size=4, temperature=0.7, max_new_tokens=90, oversampling=3,
            screening=2 if recipe == "context" else 0,
        ),
    }  # fmt: skip
    logged: list[dict[str, Any]] = []

    def run(updates: int, out: str) -> Path:
        fit = FitSettings(updates=4, precision="fp32", schedule="constant", checkpoint_updates=1)

        def stop(record: dict[str, Any]) -> None:
            logged.append(record)
            if record["update"] == updates < 4:
                raise KeyboardInterrupt

        try:
            settings = module.Settings(**common, **changed, fit=fit)
            return Path(module.train(settings, prompts, tmp_path / out, stop))
        except KeyboardInterrupt:
            return tmp_path

    whole = run(4, "whole")
    run(2, "cut")
    resumed = run(4, "cut")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    card = json.loads((whole / "judge.json").read_text())
    assert wanted in logged[0] and card["order"] == "reason_first" and logged[0]["groups"] <= 4
    assert card["contexts"] == (1 if recipe == "context" else 0)  # the judge knows that it reads texts


def test_taking_and_adding_keeps_who_is_who(judge: Path) -> None:
    method = guided(judge)
    rollout, _ = rollouts(judge, method, lamps()[:3], 2)
    more, _ = rollouts(judge, method, lamps()[1:3], 1)
    joined = add_rollouts(take(rollout, torch.tensor([1, 1, 1, 0, 1, 0]).bool()), more, torch.tensor([1, 2]))
    assert joined.group.tolist() == [0, 0, 1, 2, 1, 2] and joined.example_id.tolist() == [0, 0, 1, 2, 1, 2]
    own = add_rollouts(rollout, more, torch.tensor([1, 2]), as_sampled=True)
    assert own.example_id.tolist() == [0, 0, 1, 1, 2, 2, 3, 4] and own.group.tolist()[-2:] == [1, 2]


@pytest.mark.parametrize("kind", ["generative", "scalar"])
def test_a_step_judge_learns_from_the_policys_own_errors(judge: Path, tmp_path: Path, kind: Any) -> None:
    from goodrate.recipes import step_judge

    rollout, model = sample_rollouts(judge, lamps(), 6, 0, "step judge")
    rows, right = step_judge.usable(lamps(), rollout, 0)
    wrong = right.eq(0).any(1)
    assert wrong.any()
    asked = step_judge.examples([lamps()[0]] * len(right), take(rollout, rows), right, model, sees_label=True)
    texts = [
        [
            model.tokenizer.decode([t for t, w in zip(e.token_ids, e.weights, strict=True) if w == part])
            for part in (0, 1)
        ]
        for e in asked
    ]
    assert all(read.endswith("check:\n") for read, _ in texts)
    assert [("0" in answer) for _, answer in texts] == wrong.tolist()
    settings = step_judge.Settings(
        model=str(judge), kind=kind, batch_size=16, epochs=100, learning_rate=3e-3, max_tokens=250, samples=6,
        fit=FitSettings(updates=120, precision="fp32"),
    )  # fmt: skip
    watching = step_judge.open_step_judge(step_judge.train(settings, lamps(), tmp_path / "run"))
    mine = [lamps()[group] for group in rollout.group.tolist()]
    said = watching.judge(mine, rollout)
    assert said.shape == (48, len(CREDITED)) and said[:, -1].isnan().all()
    readable = torch.tensor([p is not None for p in rollout.parsed])
    told = said[readable][:, :-1]
    assert said[~readable].isnan().all() and (told.isnan() | ((told >= 0) & (told <= 1))).all()
    assert float(told.isnan().float().mean()) < 0.2
    scores = step_judge.evaluate(watching, lamps(), rollout)
    assert scores.rollouts > 10 and max(scores.recall.values()) > 0.5
    # The verifier stands above it: where a verdict is stored, the step judge is not asked.
    method = stepwise_with(judge, watching, covered=["checks"])
    told, examples = rollouts(judge, method, lamps())
    steps = method.grader.grade(told, examples).steps
    for row, parsed in enumerate(told.parsed):
        if parsed is not None and parsed.label is not None:
            stored = lamps()[int(told.group[row])].steps["checks"]
            assert steps[row, 3] == float(parsed.steps.get("checks") == stored)


def test_verdicts_are_read_however_the_tokenizer_cuts_them() -> None:
    from types import SimpleNamespace

    from goodrate.recipes.step_judge import GenerativeStepJudge

    words = ["1", " ", "0", " 1", "\n"]
    watching = GenerativeStepJudge.__new__(GenerativeStepJudge)
    watching._model = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda ids: words[ids[0]]))  # type: ignore[assignment]
    logs = [math.log(p) for p in (0.9, 0.5, 0.8, 0.7, 0.6, 1.0)]
    found = watching._read([0, 1, 2, 3, 3, 4], logs)
    assert found == pytest.approx([0.9, 1 - 0.5 * 0.8, 0.7, 0.6, float("nan")], nan_ok=True)


def test_a_step_judge_learns_as_many_right_reasonings_as_wrong_ones(judge: Path) -> None:
    from goodrate.recipes.step_judge import usable

    said = [parse(write(rationale(check=check), "reason_first"), "reason_first") for check in ("match", "conflict")]
    rollout, _ = fixed(stepwise(judge), [said[0], said[1], said[0], None, said[0]], known())
    rows, right = usable([known()], rollout, 0)
    assert rows[1] and not rows[3] and rows.sum() == 2
    assert sorted(right.tolist()) == [[1, 1, 1, 0, 0], [1] * 5]
    assert not usable([replace(known(), steps={})], rollout, 0)[0].any()


def test_a_step_judge_folder_says_what_it_is(tmp_path: Path) -> None:
    from goodrate.recipes.step_judge import open_step_judge

    with pytest.raises(FileNotFoundError, match="step_judge.json does not exist; `goodrate train step_judge`"):
        open_step_judge(tmp_path)


@pytest.mark.parametrize("kind", ["generative", "scalar"])
def test_a_step_judge_is_asked_with_what_stood_around_its_prompts_in_training(
    judge: Path, kind: str, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from goodrate.recipes.scalar_step_judge import HEAD_FILE, StepScorer
    from goodrate.recipes.step_judge import CARD, open_step_judge

    model, _, _ = open_policy(judge)
    folder = Path(shutil.copytree(judge, tmp_path / "steps"))
    model.surround_prompts(("<user>", "<model>"), (model.encode("4")[0],))
    save_file(StepScorer(model.network).head(), folder / HEAD_FILE)
    facts, parts = {"kind": kind, "sees_label": True}, ("query: lamp\n", "item: lamp\n")
    ids = []
    for told in (facts, {**facts, **model.around_prompts()}):
        (folder / CARD).write_text(json.dumps(told))
        watching: Any = open_step_judge(folder)
        ids.append(watching._model.encode_pair(*parts))
    assert ids == [[i for part in parts for i in model.encode(part)], model.encode_pair(*parts)]

def test_verdicts_of_a_step_judge_are_hard_unless_they_are_asked_to_be_soft(judge: Path) -> None:
    class Halfway:
        def judge(self, prompts: Any, rollout: Rollout) -> torch.Tensor:
            return torch.full((len(prompts), len(CREDITED)), 0.4)

    for soft, expected in ((False, 0.0), (True, 0.4)):
        method = stepwise_with(judge, Halfway(), covered=[], soft=soft)
        said = parse(write(rationale(), "reason_first"), "reason_first")
        reward = method.grader.grade(*fixed(method, [said], replace(known("lamp red"), label=3)))
        assert reward.steps is not None
        assert reward.steps[:, :-1].unique().tolist() == pytest.approx([expected])


def test_reasonings_that_differ_in_a_verdict_are_different_paths(judge: Path) -> None:
    method = stepwise(judge)
    texts = [write(rationale(check=check), "reason_first") for check in ("match", "conflict", "match")]
    other = texts[0].replace("wants lamp", "wants hat")  # what is quoted does not count
    said = [parse(text, "reason_first") for text in (*texts, other)] + [None]
    rollout, _ = fixed(method, said, known("lamp red"))
    told = replace(rollout, group=torch.tensor([0, 0, 0, 0, 1]))
    assert distinct_paths(told) == 1.0 and distinct_paths(rollout) == 2.0


def stats(pass_rate: float, paths: int = 1, entropy: float = 0.0) -> PromptStats:
    return PromptStats(pass_rate, paths, entropy)


def test_a_pool_keeps_what_is_undecided_and_diverse() -> None:
    prompts = [replace(known(str(i)), prefix="a" if i < 4 else "b") for i in range(6)]
    found = [stats(0), stats(1), stats(0.5, 1), stats(0.5, 4, 0.6), stats(0.9, 2, 0.3), stats(0.95, 4, 0.7)]

    def names(**changed: Any) -> list[str]:
        return [p.example_id for p in inside_window(prompts, found, PoolSettings(**changed))]

    assert names(diverse=1.0) == ["2", "3", "4"]
    assert names(diverse=2 / 3) == ["3", "4"] and names(diverse=0.1) == ["3"]
    assert names(diverse=1.0, per_query=1) == ["3", "4"]  # of a query the more diverse one
    assert names(low=0.96, high=0.97) == []


def test_prompt_statistics_are_of_the_prompts_own_rollouts(judge: Path) -> None:
    rollout, _ = sample_rollouts(judge, lamps(), 6, 3, "pool")
    found = prompt_stats(judge, lamps(), 6, 3)
    gold = torch.tensor([p.label for p in lamps()])[rollout.group]
    right = torch.tensor([-1 if p is None or p.label is None else p.label for p in rollout.parsed]) == gold
    assert [one.pass_rate for one in found] == pytest.approx(right.float().view(8, 6).mean(1).tolist())
    parsed = [sum(one is not None for one in rollout.parsed[start : start + 6]) for start in range(0, 48, 6)]
    assert all(min(1, n) <= one.paths <= n for one, n in zip(found, parsed, strict=True)) and sum(parsed) > 0
    assert len({one.label_entropy for one in found}) > 1
    with pytest.raises(ValueError, match="none of 8 prompts has a share of right rollouts from 0.999 to 0.9999"):
        select_prompts(judge, lamps(), PoolSettings(samples=6, low=0.999, high=0.9999), 3)


def test_a_curriculum_runs_its_stages_and_goes_on_where_it_stopped(judge: Path, tmp_path: Path) -> None:
    settings = judge_curriculum.Settings(
        judge=str(judge), learning_rate=1e-3, fit=FitSettings(updates=4, precision="fp32"),
        rollouts=RolloutSettings(prompts=4, group_size=4, temperature=0.7, max_new_tokens=90, oversampling=3),
        stages=[
            judge_curriculum.CurriculumStage(low=0.1, high=1.0, outcome_weight=0.3, critical=False),
            judge_curriculum.CurriculumStage(low=0.0, high=1.0, outcome_weight=1.0, critical=True),
        ],
    )  # fmt: skip
    whole = judge_curriculum.train(settings, lamps(), tmp_path / "whole")

    def stop(record: dict[str, Any]) -> None:
        if (tmp_path / "cut" / "stage1" / "judge").is_dir():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_curriculum.train(settings, lamps(), tmp_path / "cut", stop)
    again = judge_curriculum.train(settings, lamps(), tmp_path / "cut")
    weights = [open_policy(folder)[0].network.state_dict() for folder in (whole, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    stored = [json.loads((tmp_path / "whole" / f"stage{n}.pool.json").read_text())["prompts"] for n in (1, 2)]
    assert stored[1] == [p.example_id for p in lamps()] and set(stored[0]) <= set(stored[1])
    with pytest.raises(ValueError, match="holds another run .*outcome_weight"):
        judge_curriculum.train(settings.model_copy(update={"outcome_weight": 0.1}), lamps(), tmp_path / "whole")


def test_a_stage_comes_back_to_prompts_that_are_not_its_own() -> None:
    settings = judge_curriculum.Settings(judge="x", revisited=0.5)
    again = judge_curriculum._revisited(["a", "b", "a", "c"], ["c", "d"], settings, 2)
    assert sorted(again) == ["a", "b"]  # half of the stage's prompts; each once
    assert judge_curriculum._revisited(["a"], ["a"], settings, 2) == []


def test_the_budget_of_a_stage_that_is_passed_over_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    budgets: list[int | None] = []

    def trained(told: judge_stepwise.Settings, prompts: Any, folder: Path, progress: Any) -> None:
        budgets.append(told.fit.updates)
        (folder / "judge").mkdir(parents=True)

    pools = {1: ["cup red"], 2: [], 3: ["hat red"], 4: ["hat blue"]}
    monkeypatch.setattr(judge_curriculum, "_pool", lambda *given: (pools[given[-1]], 0.0))
    monkeypatch.setattr(judge_curriculum.judge_stepwise, "train", trained)
    stage = judge_curriculum.CurriculumStage(low=0, high=1, outcome_weight=1, critical=False)
    settings = judge_curriculum.Settings(judge="x", stages=[stage] * 4, fit=FitSettings(updates=10))
    judge_curriculum.train(settings, lamps(), tmp_path / "run")
    assert budgets == [2, 4, 4]
    pools.update(dict.fromkeys(pools, []))
    with pytest.raises(ValueError, match="none of 8 prompts is inside the window of any stage"):
        judge_curriculum.train(settings, lamps(), tmp_path / "none")
    with pytest.raises(ValueError, match="one for each of 4 stages"):
        judge_curriculum.Settings(judge="x", stages=[stage] * 4, fit=FitSettings(updates=3))


def test_windows_and_steps_that_cannot_be_meant(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not from 0.9 to 0.5"):
        judge_curriculum.CurriculumStage(low=0.9, high=0.5, outcome_weight=1, critical=False)
    with pytest.raises(ValueError, match="not from 0.9 to 0.5"):
        PoolSettings(low=0.9, high=0.5)
    with pytest.raises(ValueError, match="covered"):
        judge_stepwise.Settings(judge="x", covered=["chekcs"])
    bare = [replace(prompt, steps={}) for prompt in lamps()]
    with pytest.raises(ValueError, match="no step can be rewarded: none of 8 prompts"):
        judge_stepwise.train(judge_stepwise.Settings(judge=str(judge)), bare, tmp_path / "run")


def test_a_run_that_cannot_start_leaves_its_folder_free(judge: Path, tmp_path: Path) -> None:
    told = judge_guided.Settings(judge=str(judge), pool_confidence=0.7)  # a reason-first judge has no first token
    with pytest.raises(ValueError, match="pool_confidence"):
        judge_guided.train(told, lamps(), tmp_path / "run")
    assert not (tmp_path / "run" / "settings.toml").exists()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_either_arm_of_a_dual_group_needs_two_rollouts(size: int) -> None:
    with pytest.raises(ValueError, match="an even number from 4 on"):
        judge_context.Settings(judge="x", rollouts=RolloutSettings(group_size=size))


def test_a_band_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="not from 0.9 to 0.1"):
        RolloutSettings(minimum=0.9, maximum=0.1)
