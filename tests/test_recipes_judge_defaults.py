"""What a judge's training does where nobody said: by the model's size, written down, and cut as serving cuts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.cli.terminal import plan_line
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.recipes import judge_defaults
from goodrate.recipes.judge_defaults import with_batch, with_format
from goodrate.recipes.judge_sft import Settings
from goodrate.recipes.text_sft import TrainingPlan
from goodrate.relevance.item_cut import cut_texts
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import Card, LmJudge
from goodrate.relevance.pairs import JudgedPair, Pair, item_texts, text_item
from tiny_models import causal_lm

torch.set_num_threads(1)
SHEET = {"title": "Velto lamp", "description": "steel", "brand": "Velto", "attributes": '{"color":"red"}'}


class Sized:
    """Stands for a model of so many parameters; nothing is allocated."""

    def __init__(self, parameters: int) -> None:
        self.network = nn.Linear(parameters, 1, bias=False, device="meta")


def resolved(parameters: int, **given: Any) -> Settings:
    return with_format(Settings(model="m", **given), Sized(parameters))  # type: ignore[arg-type]


def test_a_scratch_base_keeps_what_the_embedded_shop_was_measured_with() -> None:
    small = resolved(2_800_000)
    assert small == Settings(model="m") and small.format == JudgeFormat()
    assert (small.learning_rate, small.batch_size, small.epochs, small.batch_tokens) == (5e-4, 64, 2, None)
    assert (small.format.template, small.format.item_form, small.format.item_tokens) == ("checklist", "listing", 0)


@pytest.mark.parametrize(
    ("parameters", "lora", "rate"),
    [(50_000_000, None, 2e-5), (270_000_000, {"rank": 16}, 2e-4), (10**9, None, 1e-5), (8 * 10**9, {}, 1e-4)],
)
def test_a_pretrained_model_gets_another_rate_and_short_items(parameters: int, lora: Any, rate: float) -> None:
    large = resolved(parameters, lora=lora)
    assert large.learning_rate == pytest.approx(rate) and (large.epochs, large.batch_tokens) == (3, 2048)
    assert (large.format.template, large.format.item_form, large.format.item_tokens) == ("nano", "short", 96)


def test_what_was_given_stays_even_where_it_is_a_default() -> None:
    form = JudgeFormat(template="checklist", item_tokens=0)
    given = resolved(10**9, learning_rate=5e-4, batch_size=64, epochs=2, format=form)
    assert (given.learning_rate, given.batch_size, given.epochs, given.batch_tokens) == (5e-4, 64, 2, None)
    assert (given.format.template, given.format.item_form, given.format.item_tokens) == ("checklist", "short", 0)
    with pytest.raises(ValueError, match="batch_size and batch_tokens both say how large an update is"):
        Settings(model="m", batch_size=8, batch_tokens=100)


def test_a_batch_of_tokens_is_so_many_examples_of_mean_length() -> None:
    model, form = causal_lm(), JudgeFormat(item_tokens=20, max_new_tokens=4, template="nano")
    pairs = [JudgedPair("lamp", text_item("steel " * length), label=1) for length in (1, 200)]
    prompts, _ = judge_prompts(model, pairs, form, None, label_completions=True)
    lengths = [len(model.encode_pair(p.prefix, p.suffix)) + len(model.encode(p.completion)) + 1 for p in prompts]
    recipe = Settings(model="m", batch_tokens=10 * sum(lengths) // 2, format=form)
    assert (with_batch(recipe, model, prompts).batch_size, with_batch(recipe, model, prompts).batch_tokens) == (
        10,
        None,
    )
    few, many = (with_batch(recipe.model_copy(update={"batch_tokens": t}), model, prompts) for t in (1, 10**6))
    assert (few.batch_size, many.batch_size) == (4, 64)


def test_items_are_cut_in_training_as_in_judging() -> None:
    model = causal_lm()
    tokens = tuple(model.encode(digit)[0] for digit in "1234")
    form = JudgeFormat(item_tokens=12, item_form="short", template="nano", max_new_tokens=4)
    card = Card(
        scale="four_level", label_token_ids=tokens, item_tokens=12, item_form="short", template="nano", max_new_tokens=4
    )
    rows = [{**SHEET, "id": "a", "description": "steel " * 50}, {"id": "b", "title": "lamp"}]
    (long, short), notes = judge_prompts(model, [JudgedPair("lamp", row) for row in rows], form)
    judge = LmJudge(model, card)
    served, _, cut = judge._prompts([Pair("lamp", row) for row in rows])
    assert [(p.prefix, p.suffix) for p in (long, short)] == served and cut == [True, False]
    assert notes == ["1 training item texts were too long and lost their end"]
    assert judge.assess([Pair("lamp", row) for row in rows]).item_cut == (True, False)
    whole = LmJudge(model, Card(scale="four_level", label_token_ids=tokens, item_form="short", template="nano"))
    assert judge.identity != whole.identity  # verdicts on cut items are others
    text = item_texts(rows[:1], "short")[0]
    ((beginning, lost),) = cut_texts(model, [text], 12)
    assert lost and text.startswith(beginning) and 6 <= len(model.encode(beginning)) <= 12
    assert cut_texts(model, [text], 0) == [(text, False)]


def test_the_short_form_has_what_says_most_first() -> None:
    assert item_texts([SHEET], "short") == ["Velto lamp ; brand Velto ; steel ; color red"]
    assert item_texts([text_item("as  it is")], "short") == ["as  it is"]


class Listening:
    """Progress that wants to be told the plan."""

    def __init__(self) -> None:
        self.plans: list[TrainingPlan] = []
        self.records: list[dict[str, Any]] = []

    def plan(self, plan: TrainingPlan) -> None:
        assert not self.records
        self.plans.append(plan)

    def __call__(self, record: dict[str, Any]) -> None:
        self.records.append(record)


def test_a_run_says_how_long_it_takes_and_writes_down_what_it_settled_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_defaults, "PRETRAINED", 1)  # so that the tiny model counts as one
    causal_lm().save(tmp_path / "base")
    nouns = ("lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock")
    rows = [(f"red {noun}", f"i{n}", "related" if n else "excellent") for noun in nouns for n in (0, 1)]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(tmp_path / "labels.csv")
    pl.DataFrame({"id": ["i0", "i1"], "title": ["lamp " * 90, "Kettle"]}).write_csv(tmp_path / "items.csv")
    given = [f"data.catalog={tmp_path / 'items.csv'}", f"data.judgements={tmp_path / 'labels.csv'}", "epochs=2"]
    given += [f"model={tmp_path / 'base'}", "lora.rank=2", "batch_tokens=400", "format.max_new_tokens=8"]
    heard = Listening()
    loaded = settings.load(settings_with_data("judge_sft"), None, given)
    outcome = run_from_settings("judge_sft", loaded, tmp_path / "run", heard)
    (plan,) = heard.plans
    assert plan.updates == len(heard.records) == heard.records[-1]["update"] and plan.examples == 16
    assert plan.tokens == sum(record["trained_tokens"] for record in heard.records)
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    assert f"16 examples, {plan.updates} updates of about" in plan_line(plan) and "tokens/s: about" in plan_line(plan)
    written = tomllib.loads((tmp_path / "run" / "settings.toml").read_text())
    assert (written["learning_rate"], written["epochs"], written["batch_tokens"]) == (2e-4, 2, "null")
    assert 4 <= written["batch_size"] < 16 and written["format"]["item_tokens"] == 96
    card = open_judge(outcome.folder).inner.card  # type: ignore[attr-defined]
    assert (card.item_form, card.item_tokens, card.template) == ("short", 96, "nano")
    again = Listening()
    run_from_settings("judge_sft", loaded, tmp_path / "run", again)  # the same settings are the same run
    assert again.records == []
