"""DPO and GRPO of a toy judge: from unsure to right, pairs as promised, runs resumed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings
from goodrate.learning.rollout_method import TokenizedPrompt
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import base, judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_folder import open_policy, write_judge
from goodrate.recipes.judge_rollouts import PairSampling, pass_at, uncertain_prompts
from goodrate.recipes.label_grader import LabelGrader, LabelNeeds, label_margin
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.rationale import Parsed, Rationale, Want, parse, write
from goodrate.relevance.rulebook import load_rulebook
from test_recipes_language_models import TINY, toy_tokenizer
from test_relevance_rulebook import SMALL

torch.set_num_threads(1)
THINGS = ["cup", "hat", "shoe"]


def prompts() -> list[JudgePrompt]:
    """Red items are 4, blue ones 1."""
    return [
        JudgePrompt(f"{q} {c} {i}", f"query: {q} ", f"item: {c} {i} answer: ", 3 if c == "red" else 0)
        for q in THINGS for i in THINGS for c in ("red", "blue")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that says 1 or 4 to everything, by a few updates on labels that have nothing to do with the item."""
    folder = tmp_path_factory.mktemp("unsure")
    tokenizer = toy_tokenizer()
    CausalLM(base.make_network(TINY, tokenizer, seed=5), tokenizer).save(folder / "start")
    examples = [replace(p, completion=label) for p in prompts() for label in ("1", "4")]
    fit = FitSettings(updates=80, precision="fp32")
    settings = judge_sft.Settings(
        model=str(folder / "start"), fit=fit, batch_size=36, epochs=100, learning_rate=3e-3, max_tokens=64
    )
    return judge_sft.train(settings, examples, folder / "run")


def test_a_training_that_diverged_writes_no_judge(
    unsure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that breaks the weights is the last one: no loss tells of it."""
    step = torch.optim.AdamW.step

    def broken(self: torch.optim.AdamW, *given: Any) -> None:
        step(self, *given)
        self.param_groups[0]["params"][0].data[0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    settings = judge_sft.Settings(model=str(unsure), fit=FitSettings(updates=1, precision="fp32"))
    with pytest.raises(ValueError, match=r"diverged: after update 1 .* are not finite.*lower learning_rate"):
        judge_sft.train(settings, [replace(p, completion="4") for p in prompts()], tmp_path / "run")
    assert not (tmp_path / "run" / "judge").exists() and not (tmp_path / "run" / "checkpoint.pt").exists()
    broken_model = CausalLM.load(unsure)
    next(iter(broken_model.network.parameters())).data[0] = math.nan
    with pytest.raises(ValueError, match=r"diverged: after update 80 1 weights such as .* no judge is written"):
        write_judge(broken_model, JudgeFormat(), unsure.parent / "other")
    assert not (unsure.parent / "other").exists()


def test_the_last_good_checkpoint_outlives_a_divergence(
    unsure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights break in the second update, gradients in the third: what is kept is from after the first."""
    step, steps = torch.optim.AdamW.step, []

    def broken(self: torch.optim.AdamW, *given: Any) -> None:
        step(self, *given)
        steps.append(1)
        if len(steps) == 2:
            self.param_groups[0]["params"][0].data[0] = math.nan

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    fit = FitSettings(updates=3, precision="fp32", checkpoint_updates=1)
    settings = judge_sft.Settings(model=str(unsure), fit=fit, batch_size=6)
    with pytest.raises(ValueError, match="after update 2 weights such as .* are not finite; the last checkpoint"):
        judge_sft.train(settings, [replace(p, completion="4") for p in prompts()], tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["facts"]["update"] == 1
    steps.clear()
    fit = FitSettings(updates=3, precision="fp32")
    with pytest.raises(ValueError, match=r"update 2: the (loss|gradient) is not finite"):
        again = settings.model_copy(update={"fit": fit})
        judge_sft.train(again, [replace(p, completion="4") for p in prompts()], tmp_path / "b")


def test_an_endless_learning_rate_is_refused() -> None:
    for recipe in (judge_sft.Settings, judge_dpo.Training, judge_grpo.Training):
        with pytest.raises(ValueError, match="learning_rate\n.*should be a finite number"):
            recipe.model_validate({"learning_rate": math.inf})


def accuracy(folder: Path) -> float:
    model = CausalLM.load(folder)
    card = json.loads((folder / "judge.json").read_text())
    logits = model.label_logits([(p.prefix, p.suffix) for p in prompts()], card["label_token_ids"])
    return float((logits.argmax(1) == [p.label for p in prompts()]).mean())


def test_grpo_makes_an_unsure_judge_right(unsure: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    settings = judge_grpo.Settings(
        judge=str(unsure), learning_rate=2e-3,
        rollouts=RolloutSettings(prompts=8, group_size=6, max_new_tokens=3),
        fit=FitSettings(updates=60, precision="fp32", schedule="constant"),
    )  # fmt: skip
    folder = judge_grpo.train(settings, prompts(), tmp_path / "run", seen.append)
    assert 0.3 < seen[0]["accuracy"] < 0.7 and seen[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert seen[0]["label_cv"] == pytest.approx(1.0)  # two of four labels: counts 4, 4, 0, 0
    assert accuracy(folder) == 1.0 and seen[-1]["kl"] > 0.01
    logged = {"share_all_right", "failed", "first_token_entropy", "clipped", "length", "trained_tokens_per_second"}
    assert logged <= seen[0].keys()
    assert abs(seen[0]["label_margin"]) < 0.5  # it says 1 or 4 with about a half each, right or wrong
    assert sum(share for name, share in seen[0].items() if name.startswith("groups_at/")) == pytest.approx(1)
    assert (folder / "judge.json").read_text() == (unsure / "judge.json").read_text()


def test_dpo_makes_an_unsure_judge_right_and_reports_its_pairs(unsure: Path, tmp_path: Path) -> None:
    settings = judge_dpo.Settings(
        judge=str(unsure), learning_rate=5e-3, batch_size=6, epochs=30,
        sampling=PairSampling(samples=6, max_new_tokens=3), fit=FitSettings(precision="fp32", schedule="constant"),
    )  # fmt: skip
    seen: list[dict[str, Any]] = []
    written = [replace(p, completion=str(p.label + 1)) for p in prompts()]
    folder = judge_dpo.train(settings, written, tmp_path / "run", seen.append)
    counts = json.loads((tmp_path / "run" / "stages" / "pairs.json").read_text())
    assert counts["self"] >= 10 and counts["pass@1"] < counts["pass@6"] <= 1
    assert seen[0]["preferred"] < 1 and seen[-1]["label_margin"] > seen[0]["label_margin"] + 0.5
    assert accuracy(folder) == 1.0
    again = judge_dpo.train(settings, written, tmp_path / "run")  # done: nothing is sampled or trained again
    assert accuracy(again) == 1.0


def test_pass_at_k_by_hand() -> None:
    # Three of four wrong: pass@1 = 1/4, pass@2 = 1 - C(3,2)/C(4,2) = 1/2, pass@3 = 3/4. All right: 1.
    found = pass_at(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]))
    assert found == pytest.approx({"pass@1": 0.625, "pass@2": 0.75, "pass@3": 0.875, "pass@4": 1.0})


def test_a_prompt_without_room_is_named(unsure: Path, tmp_path: Path) -> None:
    long = [JudgePrompt("too long", "query: cup ", "item: " + "hat " * 70, 0)]
    with pytest.raises(ValueError, match="too long: 73 tokens leave no room"):
        judge_grpo.train(judge_grpo.Settings(judge=str(unsure)), long, tmp_path / "run")


def test_the_pool_is_what_the_judge_is_unsure_of(unsure: Path) -> None:
    model, form, _ = open_policy(unsure)
    assert uncertain_prompts(model, prompts(), form, 1.0) == prompts()
    # it says 1 or 4 to everything, each with about a half
    assert uncertain_prompts(model, prompts(), form, 0.9) == prompts()
    with pytest.raises(ValueError, match="surer of every one of 18 prompts"):
        uncertain_prompts(model, prompts(), form, 0.3)
    with pytest.raises(ValueError, match="needs a label-first judge"):
        uncertain_prompts(model, prompts(), form.model_copy(update={"order": "reason_first"}), 0.9)


def told(rule: str, label: int, check: str = "match") -> Parsed:
    """A rationale of one requirement that cites a rule, and its label."""
    lamp = Rationale(label, "lamp", (Want("colour", "red", "must"),), "lamp", ("red",), "same", (check,), rule)
    return parse(write(lamp, "reason_first"), "reason_first")


@pytest.mark.parametrize(
    ("needs", "earned"),
    [
        ("nothing", [1, 1, 1, 1, 1, 0, 0]),
        ("readable", [1, 0, 1, 1, 1, 0, 0]),
        ("consistent", [1, 0, 0, 0, 1, 0, 0]),
        ("derived", [1, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_label_earns_nothing_where_its_steps_do_not_carry_it_as_far_as_is_asked(
    needs: LabelNeeds, earned: list[float]
) -> None:
    said = (
        told("all_met", 3), Parsed(3, "no verdict"), told("requirement_unknown", 3), told("made_up", 3),
        told("all_met", 3, "conflict"), told("all_met", 0), None,  # a conflict leads to another rule
    )  # fmt: skip
    rollout = SimpleNamespace(parsed=said, group=torch.zeros(7, dtype=torch.long))
    examples = [TokenizedPrompt("a", (1,), 3)]
    rules = {rule.id: load_rulebook().scale.index(rule.label) for rule in load_rulebook().rules}
    plain, strict = (
        LabelGrader(JudgeFormat(), rules, label_needs=how).grade(rollout, examples)  # type: ignore[arg-type]
        for how in ("nothing", needs)
    )
    assert strict.outcome.tolist() == earned
    assert strict.correct.tolist() == earned  # a group of right labels that nothing carries is worth no update
    assert torch.equal(plain.failed, strict.failed)


def test_labels_cannot_be_asked_for_what_the_rule_book_does_not_give(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_needs = 'consistent': the judge cites no rule book"):
        LabelGrader(JudgeFormat(), {}, label_needs="consistent")
    book = tmp_path / "rules.toml"
    book.write_text(SMALL, encoding="utf-8")
    own = JudgeFormat(rule_book=book)
    LabelGrader(own, {"fine": 3}, label_needs="consistent")
    with pytest.raises(ValueError, match="the rule book has the columns category, must; expected alternative, categ"):
        LabelGrader(own, {"fine": 3}, label_needs="derived")


def test_the_label_margin_is_the_gap_between_right_and_wrong_label_tokens() -> None:
    correct = torch.tensor([1.0, 1.0, 0.0, float("nan")])
    first = torch.tensor([-0.1, -0.3, -1.0, -9.0])
    rollout = SimpleNamespace(behaviour_logprobs=first[:, None])
    reward = SimpleNamespace(correct=correct)
    # mean(-0.1, -0.3) - -1.0; what was not scored is in neither
    assert label_margin(rollout, reward) == pytest.approx(0.8)  # type: ignore[arg-type]
    none_wrong = SimpleNamespace(correct=torch.ones(4))
    assert math.isnan(label_margin(rollout, none_wrong))  # type: ignore[arg-type]
    later = LabelGrader(JudgeFormat(order="reason_first"), {})
    unread = SimpleNamespace(behaviour_logprobs=first[:, None], parsed=(None,) * 4, group=torch.zeros(4).long())
    assert math.isnan(later.facts(unread, reward)["label_margin"])  # type: ignore[arg-type]
    earlier = LabelGrader(JudgeFormat(), {}).facts(unread, reward)  # type: ignore[arg-type]
    assert earlier["label_margin"] == pytest.approx(0.8)
