"""Rules for a prompt: found by the query's words, the same for all items of a query, in the judge as in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from goodrate.examples.judge_prompts import judge_prompts
from goodrate.recipes.judge_folder import judge_card
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import LmJudge, write_lm_card
from goodrate.relevance.pairs import JudgedPair, Pair, text_item
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.rulebook import load_rulebook
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import ShopSettings, generate
from tiny_models import causal_lm

BOOK = load_rulebook()


def ids(query: str, count: int, facts: str = "") -> list[str]:
    return [rule.id for rule in RuleFinder(BOOK, count).find(query, facts)]


def test_rules_about_the_words_come_first_and_others_about_words_never() -> None:
    found = ids("curtain without leather", 20)
    assert set(found[:3]) == {"sibling_excluded", "excluded_value", "exclusion_unknown"}
    assert "not_cheaper" not in found and "preference_failed" not in found
    general = [rule.id for rule in BOOK.rules if not rule.query_words]
    assert found[3:] == general and ids("red lamp", 20) == general
    assert ids("red lamp", 2) == general[:2]
    assert "not_cheaper" in ids("lamp", 20, facts="cheaper than 40")  # facts are read too


def test_a_rarer_word_counts_more() -> None:
    # "if" is a word of preference_failed alone (1); "no" of three rules (1/3 each)
    assert ids("lamp no wool if possible", 1) == ["preference_failed"]


def test_most_deciding_rules_are_found_without_knowing_the_answer() -> None:
    shop = generate(ShopSettings(items=400, queries=120, judged=12))
    rows, items, _ = pairs_of(shop, "train")
    deciding = [BOOK.rules[int(shop.truth(q, np.asarray([i])).rule[0])].id for q, i in zip(rows, items, strict=True)]
    finder = RuleFinder(BOOK, 10)
    hits = [
        rule in {r.id for r in finder.find(shop.queries[q].text, shop.queries[q].facts)}
        for q, rule in zip(rows.tolist(), deciding, strict=True)
    ]
    # ten of thirteen rules drawn at random would hold 0.77
    assert np.mean(hits) > 0.95


def test_the_judge_reads_what_it_was_trained_on(tmp_path: Path) -> None:
    form = JudgeFormat(rules=4, rule_book_hash=BOOK.hash, max_new_tokens=20)
    model = causal_lm()
    pair = JudgedPair("lamp no wool", text_item("red lamp"), label=3)
    (trained,), _ = judge_prompts(model, [pair], form)
    assert trained.prefix.splitlines()[1].startswith("rules: sibling_excluded ; excluded_value ; exclusion_unknown ; ")
    model.save(tmp_path)
    write_lm_card(tmp_path, judge_card(model, form))
    judge = LmJudge.load(tmp_path)
    asked = Pair(pair.query, pair.item)
    assert judge._prompts([asked])[0] == [(trained.prefix, trained.suffix)]
    assert judge.identity["rules"] == 4
    assert judge.assess([asked]).probabilities.shape == (1, 4)


def test_pretrained_models_get_the_rules_in_words() -> None:
    finder = JudgeFormat(rules=1, template="v1").finder()
    assert finder is not None and finder.line("lamp no wool if possible") == "if it misses a preference: 3"


def test_a_judge_whose_rules_are_lost_is_refused(tmp_path: Path) -> None:
    model = causal_lm()
    model.save(tmp_path)
    card = replace(judge_card(model, JudgeFormat(rules=2, rule_book_hash="elsewhere")))
    write_lm_card(tmp_path, card)
    with pytest.raises(ValueError, match="no rules.toml with hash elsewhere, whose rules stand in its prompts"):
        LmJudge.load(tmp_path)
    with pytest.raises(ValueError, match="rules 2: expected 0, or a number of rules and the hash of their book"):
        judge_card(model, JudgeFormat(rules=2))
    with pytest.raises(ValueError, match="count is 0"):
        RuleFinder(BOOK, 0)
