"""Context on the command line: texts for training pairs, for goodrate judge, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from goodrate import settings
from goodrate.cli import train, train_context
from goodrate.cli.context_input import Contexts, file_worth, require_reader, with_contexts
from goodrate.cli.judge_examples import read_dual, read_examples, read_prompts
from goodrate.cli.judge_input import Sources, read_input
from goodrate.cli.judge_stage import prepared
from goodrate.cli.training_data import DataSettings, LabelledPair, load_data
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.context import ContextText
from goodrate.relevance.judge import JudgeCard, Pair, write_judge_card
from goodrate.relevance.rationale import Rationale
from goodrate.shop.shop import ShopSettings
from tiny_models import causal_lm

STEPS = Rationale(3, "lamp", (), "lamp", (), "same", (), "all_met")
PAIRS = [LabelledPair("red lamp", "i0", "lamp", 3, rationale=STEPS), LabelledPair("zzz", "i1", "cup", 0)]
CONFIGS = Path(__file__).parents[1] / "configs"


def contexts(*kinds: str) -> Contexts:
    texts = [ContextText(f"t{n}", f"lamp red text {n}" if n else "lamp red", kind) for n, kind in enumerate(kinds)]
    return Contexts(lambda: texts, file_worth, graded=any(kinds))


def test_pairs_get_the_text_of_their_query_and_say_what_it_is_worth() -> None:
    first, second = with_contexts(PAIRS, contexts("helpful", "irrelevant"), 1)
    assert (first.context.text, first.context.kind, first.context.use) == ("lamp red", "helpful", "use")
    assert first.rationale == replace(STEPS, context="use") and second.rationale is None
    assert (second.context.text, second.context.use) == (None, "ignore")  # nothing was found
    assert with_contexts(PAIRS, contexts("misleading"), 1)[0].context.use == "ignore"
    assert with_contexts(PAIRS, contexts("irrelevant", "helpful"), 2)[0].context.kind == "helpful"  # the best of two
    unknown = with_contexts(PAIRS, contexts("", ""), 1)
    assert [pair.context.use for pair in unknown] == [None, None] and unknown[0].rationale == STEPS
    assert with_contexts(PAIRS, None, 0) == PAIRS


def test_a_share_of_the_pairs_hides_its_text() -> None:
    shown = with_contexts(PAIRS[:1] * 400, contexts("helpful"), 1, hidden=0.3, seed=1)
    hidden = [pair for pair in shown if pair.context.text is None]
    assert 90 < len(hidden) < 150 and {pair.context.use for pair in hidden} == {"ignore"}
    assert shown == with_contexts(PAIRS[:1] * 400, contexts("helpful"), 1, hidden=0.3, seed=1)


def test_prompts_with_and_without_the_text_differ_in_its_line_alone() -> None:
    lm, form = causal_lm(), JudgeFormat(template="nano", contexts=1, max_new_tokens=20)
    pairs = with_contexts(PAIRS, contexts("misleading"), 1)
    dual, bare = read_dual(lm, pairs, form)
    assert dual.completion is None and isinstance(dual, JudgePrompt)
    assert (dual.prefix, dual.context_prefix) == ("query: red lamp\n", "query: red lamp\ncontext: lamp red\n")
    assert (dual.context_kind, bare.context_kind, bare.prefix) == ("misleading", "", bare.context_prefix)
    plain = read_prompts(lm, pairs, form)
    assert plain[0].prefix == dual.context_prefix and plain[0].suffix == dual.suffix  # RAG DPO and GRPO read the text
    assert (plain[0].completion or "").splitlines()[1] == "context ignore" == plain[0].steps["context"]
    (example, _), _ = read_examples(lm, pairs, form)
    assert (example.prefix, example.completion) == (dual.context_prefix, plain[0].completion)


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
    write_judge_card(folder, JudgeCard("four_level", tokens, stop_token_id=1, max_new_tokens=4, contexts=count))
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


def test_texts_and_judges_have_to_fit(tmp_path: Path) -> None:
    own = own_data(tmp_path)
    with pytest.raises(ValueError, match=r"set format.contexts = 1"):
        require_reader("texts.jsonl", 0)
    with pytest.raises(ValueError, match=r"name a file of texts with data.contexts"):
        prepared(str(judge_folder(tmp_path / "reads", 1)), DataSettings(**own), tmp_path / "a")
    named = DataSettings(**own, contexts=str(tmp_path / "texts.jsonl"))
    assert not (tmp_path / "a" / "data" / "settings.toml").exists()  # the same command with texts may use the folder
    with pytest.raises(ValueError, match=r"the judge reads no texts"):
        prepared(str(judge_folder(tmp_path / "plain", 0)), named, tmp_path / "b")
    stage = prepared(str(tmp_path / "reads"), named, tmp_path / "c")
    assert {prompt.prefix.splitlines()[-1] for prompt in stage.prompts} == {"context: lamp red"}


def test_the_recipe_gets_both_prompts_and_the_oracle_needs_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = own_data(tmp_path), []
    monkeypatch.setattr(train_context.judge_context, "train", lambda told, prompts, out, progress: seen.extend(prompts))
    monkeypatch.setattr(train_context, "outcome", lambda *given: given)
    told = {"judge": str(judge_folder(tmp_path / "plain", 0)), "gate": "oracle"}
    given = train_context.Settings(**told, data={**own, "contexts": str(tmp_path / "texts.jsonl")})
    train_context.run(given, tmp_path / "run", print)  # a judge that never saw a text may start, too
    assert {(p.prefix[:6], p.context_prefix[-18:], p.context_kind) for p in seen} == {
        ("query:", "context: lamp red\n", "helpful")
    }
    with pytest.raises(ValueError, match="no column kind"):
        train_context.run(train_context.Settings(**told, data={**own, "contexts": "items"}), tmp_path / "other", print)
    assert not (tmp_path / "other" / "data" / "settings.toml").exists()


def test_the_config_is_one_of_the_recipe() -> None:
    read = settings.load(train_context.Settings, CONFIGS / "judge_context.toml", [])
    assert read.gate == "query" and read.contexts == 1 and read.rollouts.group_size == 16
    assert read.data.shop == ShopSettings(knowledge_share=0.4) and train.RECIPES["judge_context"].endswith("context")


def test_the_shop_brings_its_own_texts() -> None:
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=60, knowledge_share=0.5)))
    pairs = with_contexts(list(data.pairs("dev"))[::40], data.contexts, 1)
    assert all(pair.rationale is not None and pair.rationale.context == pair.context.use for pair in pairs)
    assert any(pair.context.text for pair in pairs) and {pair.context.use for pair in pairs} <= {
        "use",
        "partly",
        "ignore",
    }


def test_goodrate_judge_finds_texts_for_a_judge_that_reads_them(tmp_path: Path) -> None:
    own_data(tmp_path)
    pairs, texts = tmp_path / "pairs.csv", str(tmp_path / "texts.jsonl")
    pairs.write_text("query,item_text,context\nlamp,cup,\nlamp,cup,own text\nzzz,cup,\n")
    console = Console(quiet=True)
    reads, plain = str(judge_folder(tmp_path / "reads", 1)), str(judge_folder(tmp_path / "plain", 0))
    _, known = read_input(pairs, reads, Sources(contexts=texts), None, 0, console)
    assert known == [
        Pair("lamp", "cup", context="lamp red"),
        Pair("lamp", "cup", context="own text"),
        Pair("zzz", "cup"),
    ]
    _, without = read_input(pairs, reads, Sources(), None, 0, console)
    assert [pair.context or None for pair in without] == [None, "own text", None]
    with pytest.raises(ValueError, match="reads none"):
        read_input(pairs, plain, Sources(contexts=texts), None, 0, console)
