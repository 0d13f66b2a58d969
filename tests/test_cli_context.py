"""Context on the command line: texts for training pairs, for goodrate judge, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from goodrate import settings
from goodrate.api.judging import ItemSource, noted_pairs, open_judge, read_pair_file
from goodrate.api.training import settings_with_data
from goodrate.cli import train
from goodrate.examples.contexts import ContextTexts, file_worth, require_text_reading, with_contexts
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.prompts import JudgePrompt
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.recipes import judge_context, judge_runs
from goodrate.recipes.registry import get_recipe
from goodrate.relevance.context import ContextText
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import Card, write_lm_card
from goodrate.relevance.pairs import JudgedPair, Pair, text_item
from goodrate.relevance.rationale import Rationale
from goodrate.shop.shop import ShopSettings
from tiny_models import causal_lm

STEPS = Rationale(3, "lamp", (), "lamp", (), "same", (), "all_met")
PAIRS = [
    JudgedPair("red lamp", {"id": "i0", "text": "lamp"}, label=3, reason=STEPS),
    JudgedPair("zzz", {"id": "i1", "text": "cup"}, label=0),
]
CONFIGS = Path(__file__).parents[1] / "configs"


def contexts(*kinds: str) -> ContextTexts:
    texts = [ContextText(f"t{n}", f"lamp red text {n}" if n else "lamp red", kind) for n, kind in enumerate(kinds)]
    return ContextTexts(lambda: texts, file_worth, graded=any(kinds))


def test_pairs_get_the_text_of_their_query_and_say_what_it_is_worth() -> None:
    graded = contexts("helpful", "irrelevant")
    first, second = with_contexts(PAIRS, graded, 1)
    assert (first.context, first.context_kind) == ("lamp red", "helpful")
    assert first.reason == replace(STEPS, context="use") and second.reason is None
    assert (second.context, graded.of("zzz", 1).use) == (None, "ignore")  # nothing was found
    assert contexts("misleading").of("red lamp", 1).use == "ignore"
    assert with_contexts(PAIRS, contexts("misleading"), 1)[0].reason == replace(STEPS, context="ignore")
    assert with_contexts(PAIRS, contexts("irrelevant", "helpful"), 2)[0].context_kind == "helpful"  # the best of two
    unknown = contexts("", "")
    assert [unknown.of(pair.query, 1).use for pair in PAIRS] == [None, None]
    assert with_contexts(PAIRS, unknown, 1)[0].reason == STEPS
    assert with_contexts(PAIRS, None, 0) == PAIRS


def test_a_share_of_the_pairs_hides_its_text() -> None:
    shown = with_contexts(PAIRS[:1] * 400, contexts("helpful"), 1, hidden=0.3, seed=1)
    hidden = [pair for pair in shown if pair.context is None]
    assert 90 < len(hidden) < 150 and {pair.reason for pair in hidden} == {replace(STEPS, context="ignore")}
    assert shown == with_contexts(PAIRS[:1] * 400, contexts("helpful"), 1, hidden=0.3, seed=1)


def test_prompts_with_and_without_the_text_differ_in_its_line_alone() -> None:
    lm, form = causal_lm(), JudgeFormat(template="nano", contexts=1, max_new_tokens=20)
    pairs = with_contexts(PAIRS, contexts("misleading"), 1)
    (dual, bare), _ = judge_prompts(lm, pairs, form, both_views=True)
    assert isinstance(dual, JudgePrompt)
    assert (dual.prefix, dual.context_prefix) == ("query: red lamp\n", "query: red lamp\ncontext: lamp red\n")
    assert (dual.context_kind, bare.context_kind, bare.prefix) == ("misleading", "", bare.context_prefix)
    plain, _ = judge_prompts(lm, pairs, form)
    assert plain[0].prefix == dual.context_prefix and plain[0].suffix == dual.suffix  # RAG DPO and GRPO read the text
    assert (plain[0].completion or "").splitlines()[1] == "context ignore" == plain[0].steps["context"]
    assert plain[1].completion is None  # nobody wrote one
    (example, labelled), _ = judge_prompts(lm, pairs, form, label_completions=True)
    assert (example.prefix, example.completion) == (dual.context_prefix, plain[0].completion)
    assert labelled.completion == "1\n"  # SFT learns the label alone


def own_data(folder: Path, text: str = "lamp red") -> dict[str, Any]:
    nouns = ["kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock", "ladder"]
    rows = [(f"{noun} lamp", f"i{k}", "excellent" if k else "mismatch") for noun in nouns for k in (0, 1)]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(folder / "labels.csv")
    frame = {"id": ["i0", "i1"], "title": ["Cup", "Lamp"], "description": ["", "gives light"]}
    pl.DataFrame(frame).write_csv(folder / "items.csv")
    (folder / "texts.jsonl").write_text(json.dumps({"id": "t", "text": text, "kind": "helpful"}) + "\n")
    return {"catalog": str(folder / "items.csv"), "judgements": str(folder / "labels.csv")}


def judge_folder(folder: Path, count: int) -> Path:
    lm = causal_lm()
    lm.save(folder)
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    card = Card(scale="four_level", label_token_ids=tokens, stop_token_id=1, max_new_tokens=4, contexts=count)
    write_lm_card(folder, card)
    return folder


def test_data_names_a_file_or_the_catalogue_and_errors_name_row_and_column(tmp_path: Path) -> None:
    own = own_data(tmp_path)
    data = load_data(DataSettings(**own, contexts=str(tmp_path / "texts.jsonl")))
    assert data.contexts is not None and data.contexts.of("my lamp", 1).text == "lamp red"
    items = load_data(DataSettings(**own, contexts="items")).contexts
    assert items is not None and items.of("light", 1).text == "Lamp : gives light" and not items.graded
    own_data(tmp_path, text="")
    with pytest.raises(ValueError, match=r"texts.jsonl, row 1, column text: expected a text"):
        load_data(DataSettings(**own, contexts=str(tmp_path / "texts.jsonl")))
    with pytest.raises(FileNotFoundError, match="gone.csv"):
        load_data(DataSettings(**own, contexts=str(tmp_path / "gone.csv")))


def prompts(judge: Path, given: DataSettings, out: Path) -> list[JudgePrompt]:
    return judge_runs.policy_prompts(str(judge), load_data(given), out)


def test_texts_and_judges_have_to_fit(tmp_path: Path) -> None:
    own = own_data(tmp_path)
    with pytest.raises(ValueError, match=r"set format.contexts = 1"):
        require_text_reading("texts.jsonl", 0)
    with pytest.raises(ValueError, match=r"name a file of texts with data.contexts"):
        prompts(judge_folder(tmp_path / "reads", 1), DataSettings(**own), tmp_path / "a")
    named = DataSettings(**own, contexts=str(tmp_path / "texts.jsonl"))
    assert not (tmp_path / "a" / "data" / "settings.toml").exists()  # the same command with texts may use the folder
    with pytest.raises(ValueError, match=r"the judge reads no texts"):
        prompts(judge_folder(tmp_path / "plain", 0), named, tmp_path / "b")
    read = prompts(tmp_path / "reads", named, tmp_path / "c")
    assert {prompt.prefix.splitlines()[-1] for prompt in read} == {"context: lamp red"}


def test_the_recipe_gets_both_prompts_and_the_oracle_needs_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = own_data(tmp_path), []
    monkeypatch.setattr(judge_runs, "finished", lambda *given: given)
    recipe = get_recipe("judge_context")
    run = replace(recipe.run, train=lambda chosen, prompts, out, progress: seen.extend(prompts))
    chosen = judge_context.Settings(judge=str(judge_folder(tmp_path / "plain", 0)), gate="oracle")
    data = load_data(DataSettings(**own, contexts=str(tmp_path / "texts.jsonl")))
    run(chosen, data, tmp_path / "run", print)  # a judge that never saw a text may start, too
    assert {(p.prefix[:6], p.context_prefix[-18:], p.context_kind) for p in seen} == {
        ("query:", "context: lamp red\n", "helpful")
    }
    with pytest.raises(ValueError, match="no column kind"):
        run(chosen, load_data(DataSettings(**own, contexts="items")), tmp_path / "other", print)
    assert not (tmp_path / "other" / "data" / "settings.toml").exists()


def test_the_config_is_one_of_the_recipe() -> None:
    read = settings.load(settings_with_data("judge_context"), CONFIGS / "judge_context.toml", [])
    assert read.gate == "query" and read.contexts == 1 and read.rollouts.group_size == 16
    assert read.data.shop == ShopSettings(knowledge_share=0.4) and "judge_context" in train.RECIPES
    assert get_recipe("judge_context").run.train is judge_context.train


def test_the_shop_brings_its_own_texts() -> None:
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=60, knowledge_share=0.5)))
    pairs = with_contexts(data.pairs("dev")[::40], data.contexts, 1)
    assert data.contexts is not None
    uses = [data.contexts.of(pair.query, 1).use for pair in pairs]
    assert [pair.reason and pair.reason.context for pair in pairs] == uses and None not in uses
    assert any(pair.context for pair in pairs) and set(uses) <= {"use", "partly", "ignore"}


def test_goodrate_judge_finds_texts_for_a_judge_that_reads_them(tmp_path: Path) -> None:
    own_data(tmp_path)
    pairs, texts = tmp_path / "pairs.csv", str(tmp_path / "texts.jsonl")
    pairs.write_text("query,item_text,context\nlamp,cup,\nlamp,cup,own text\nzzz,cup,\n")
    reads, plain = str(judge_folder(tmp_path / "reads", 1)), str(judge_folder(tmp_path / "plain", 0))
    table = read_pair_file(pairs, ItemSource())
    known, without = noted_pairs(table, open_judge(reads, contexts=texts).notes)
    assert known == [
        Pair("lamp", text_item("cup"), context="lamp red"),
        Pair("lamp", text_item("cup"), context="own text"),
        Pair("zzz", text_item("cup")),
    ]
    assert without == 1
    bare, without = noted_pairs(table, open_judge(reads).notes)
    assert [pair.context or None for pair in bare] == [None, "own text", None] and without == 2
    with pytest.raises(ValueError, match="reads none"):
        open_judge(plain, contexts=texts)
