"""The judge: probabilities, tiers, reasons and failures, over a random model whose arithmetic is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from goodrate.models.causal_lm import CausalLM, Completion
from goodrate.relevance.judge import Judge, JudgeCard, Pair, read_judge_card, write_judge_card
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rulebook import DEFAULT_RULES, load_rulebook
from tiny_models import causal_lm

PAIRS = [Pair("red lamp", f"lamp ; size {n}" + " ; color red" * n) for n in range(6)] + [Pair("chair", "oak chair")]
STEPS = "wants lamp ; color red must\nfound lamp ; color red\ncategory lamp : lamp same\nchecks color match\n"


def card(lm: CausalLM, **more: object) -> JudgeCard:
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    book = load_rulebook()
    facts = {"scale": "four_level", "label_token_ids": tokens, "rule_book_hash": book.hash, "stop_token_id": 1}
    return JudgeCard(**{**facts, "max_new_tokens": 8, **more})  # type: ignore[arg-type]


def judge(**more: object) -> Judge:
    lm = causal_lm()
    book = load_rulebook()
    rules = {rule.id: book.scale.index(rule.label) for rule in book.rules}
    return Judge(lm, card(lm, **more), "print", rules)


def writes(monkeypatch: pytest.MonkeyPatch, j: Judge, text: str) -> list[list[int]]:
    """Make the model write this text; the prompts it was given are recorded."""
    seen: list[list[int]] = []

    def generate(prompts: list, max_new_tokens: int, stop: int) -> list[Completion]:
        seen.extend(j.model.prompt_ids(prompt) for prompt in prompts)
        return [Completion((*j.model.encode(text), stop), text, "stop") for _ in prompts]

    monkeypatch.setattr(j.model, "generate", generate)
    return seen


def test_probabilities_are_the_softmax_of_the_label_tokens() -> None:
    j = judge(temperature=2.0)
    prompts = [judge_prompt(p.query, p.item_text, template="nano") for p in PAIRS]
    z = np.stack([j.model.label_logits([p], j.card.label_token_ids)[0] for p in prompts]).astype(float) / 2.0
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(j.probabilities(PAIRS), expected, atol=1e-6)
    for row, verdict in zip(expected, j.judge(PAIRS), strict=True):
        good, bad = row[2] + row[3] >= 0.5, row[0] > 0.5
        assert (verdict.label, verdict.status, verdict.reason) == (row.argmax(), "ok", None)
        assert verdict.tier == ("Good" if good else "Bad" if bad else "Mid")


def test_order_of_the_pairs_does_not_matter() -> None:
    j = judge()
    forward, backward = j.probabilities(PAIRS), j.probabilities(PAIRS[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_a_reason_follows_the_label_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge()
    plain = j.judge(PAIRS[:1])[0]
    book = load_rulebook()
    by_label = {book.scale.index(rule.label): rule.id for rule in book.rules}
    for label, inconsistent in ((plain.label, False), (3 - plain.label, True)):  # type: ignore[operator]
        seen = writes(monkeypatch, j, f"\n{STEPS}verdict {by_label[label]}\n")
        verdict = j.judge(PAIRS[:1], reasons=True)[0]
        assert replace(verdict, reason=None, inconsistent=None, reason_status=None) == plain
        assert verdict.reason == f"{STEPS}verdict {by_label[label]}"
        assert (verdict.reason_status, verdict.inconsistent) == ("ok", inconsistent)
        prompt = judge_prompt(PAIRS[0].query, PAIRS[0].item_text, template="nano")
        assert seen[-1] == [*j.model.encode_pair(*prompt), j.card.label_token_ids[plain.label]]  # type: ignore[index]


def test_an_unreadable_reason_is_named_and_the_label_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge()
    writes(monkeypatch, j, "\nwants lamp")
    verdict = j.judge(PAIRS[:1], reasons=True)[0]
    assert (verdict.status, verdict.reason_status, verdict.inconsistent) == ("ok", "missing_found", None)
    assert verdict.label == j.judge(PAIRS[:1])[0].label and verdict.reason == "wants lamp"


def test_reason_first_reads_the_label_where_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge(order="reason_first")
    rule = load_rulebook().rules[0].id
    text = f"{STEPS}verdict {rule}\n3\n"
    writes(monkeypatch, j, text)
    verdict = j.judge(PAIRS[:1], reasons=True)[0]
    prompt = judge_prompt(PAIRS[0].query, PAIRS[0].item_text, template="nano")
    ids = [*j.model.encode_pair(*prompt), *j.model.encode(text)[:-2]]  # everything before "3" and its line end
    z = j.model.label_logits([ids], j.card.label_token_ids)[0].astype(float)
    np.testing.assert_allclose(verdict.probabilities, np.exp(z) / np.exp(z).sum(), atol=1e-6)
    assert verdict.reason == f"{STEPS}verdict {rule}"
    writes(monkeypatch, j, STEPS)  # no label at all: a failure, not a low label
    failed = j.judge(PAIRS[:1])[0]
    assert (failed.label, failed.tier, failed.status) == (None, None, "no_label")
    assert np.isnan(j.probabilities(PAIRS[:1])).all()


def test_a_real_decoding_never_changes_the_probabilities() -> None:
    j = judge()
    plain, told = j.judge(PAIRS), j.judge(PAIRS, reasons=True)
    assert [v.probabilities for v in plain] == [v.probabilities for v in told]
    assert all(v.reason is not None and v.reason_status for v in told)


def test_long_items_are_cut_and_long_queries_fail() -> None:
    j = judge()  # 256 positions, 8 + 1 kept for the reason
    cut, fine, hopeless = j.judge([Pair("lamp", "steel " * 400), PAIRS[0], Pair("lamp " * 400, "lamp")])
    assert cut.item_cut and cut.status == "ok" and not fine.item_cut
    assert (hopeless.status, hopeless.label, hopeless.tier) == ("prompt_too_long", None, None)


def test_a_judge_folder_survives_and_knows_its_rules(tmp_path: Path) -> None:
    lm = causal_lm()
    lm.save(tmp_path)
    own = tmp_path.parent / "own.toml"
    own.write_text(DEFAULT_RULES.read_text() + "\n# ours\n")
    described = card(lm, rule_book_hash=load_rulebook(own).hash, temperature=1.3, template="v1")
    write_judge_card(tmp_path, described, own)
    assert read_judge_card(tmp_path) == described
    loaded = Judge.load(tmp_path, precision="fp32")
    assert loaded.rules and loaded.scale.name == "four_level"
    before = Judge(lm, described, loaded.fingerprint)
    np.testing.assert_allclose(loaded.probabilities(PAIRS), before.probabilities(PAIRS), atol=1e-6)
    (tmp_path / "rules.toml").unlink()
    assert Judge.load(tmp_path, precision="fp32").rules == {}  # another book than the package's: nothing can be checked
    other = causal_lm(seed=1)
    other.save(tmp_path)
    assert Judge.load(tmp_path, precision="fp32").fingerprint != loaded.fingerprint
    with pytest.raises(ValueError, match="was trained on"):
        write_judge_card(tmp_path, described, DEFAULT_RULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_token_ids": [1, 2, 3]}, "expected 4 different ids"),
        ({"label_token_ids": [1, 2, 3, 3]}, "expected 4 different ids"),
        ({"order": "sideways"}, "order 'sideways' is not one of label_first"),
        ({"temperature": 0}, "must be positive"),
        ({"temprature": 1}, "unknown key 'temprature'"),
        ({"scale": "stars"}, "unknown scale 'stars'"),
    ],
)
def test_a_wrong_card_is_refused_with_its_file(tmp_path: Path, change: dict, message: str) -> None:
    write_judge_card(tmp_path, JudgeCard("four_level", (4, 5, 6, 7)))
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_judge_card(tmp_path)
    assert str(path) in str(error.value)


def test_a_folder_without_a_card_is_not_a_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="judge.json"):
        Judge.load(tmp_path)
