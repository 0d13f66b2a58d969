"""The judge: probabilities, tiers, reasons and failures, over a random model whose arithmetic is known."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from goodrate.models.causal_lm import CausalLM, Completion
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge, open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.lm_judge import Card, LmJudge, write_lm_card
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rulebook import DEFAULT_RULES, load_rulebook
from tiny_models import causal_lm

TEXTS = [f"lamp ; size {n}" + " ; color red" * n for n in range(6)]
PAIRS = [*(Pair("red lamp", text_item(text)) for text in TEXTS), Pair("chair", text_item("oak chair"))]
STEPS = "wants lamp ; color red must\nfound lamp ; color red\ncategory lamp : lamp same\nchecks color match\n"


def card(lm: CausalLM, **more: object) -> Card:
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    book = load_rulebook()
    facts = {"scale": "four_level", "label_token_ids": tokens, "rule_book_hash": book.hash, "stop_token_id": 1}
    return Card(**{**facts, "max_new_tokens": 8, **more})  # type: ignore[arg-type]


def judge(**more: object) -> CalibratedJudge:
    lm = causal_lm()
    described = card(lm, **more)
    return calibrated_judge(LmJudge(lm, described, "print", load_rulebook()), described)


def lm_of(j: CalibratedJudge) -> LmJudge:
    assert isinstance(j.inner, LmJudge)
    return j.inner


def prompt_of(pair: Pair) -> tuple[str, str]:
    return judge_prompt(pair.query, pair.item["text"], template="nano")


def writes(monkeypatch: pytest.MonkeyPatch, j: CalibratedJudge, text: str) -> list[list[int]]:
    """Make the model write this text; the prompts it was given are recorded."""
    seen: list[list[int]] = []

    def generate(prompts: list, max_new_tokens: int, stop: int) -> list[Completion]:
        seen.extend(model.prompt_ids(prompt) for prompt in prompts)
        return [Completion((*model.encode(text), stop), text, "stop") for _ in prompts]

    model = lm_of(j).model
    monkeypatch.setattr(model, "generate", generate)
    return seen


def test_probabilities_are_the_softmax_of_the_label_tokens() -> None:
    j = judge(temperature=2.0)
    lm = lm_of(j)
    rows = [lm.model.label_logits([prompt_of(p)], lm.card.label_token_ids)[0] for p in PAIRS]
    z = np.stack(rows).astype(float) / 2.0
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(j.pair_probabilities(PAIRS), expected, atol=1e-6)
    for row, verdict in zip(expected, j.pair_verdicts(PAIRS), strict=True):
        good, bad = row[2] + row[3] >= 0.5, row[0] > 0.5
        assert (verdict.label, verdict.status, verdict.reason) == (j.scale.labels[row.argmax()], "ok", None)
        assert verdict.tier == ("Good" if good else "Bad" if bad else "Mid")


def test_order_of_the_pairs_does_not_matter() -> None:
    j = judge()
    forward, backward = j.pair_probabilities(PAIRS), j.pair_probabilities(PAIRS[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_a_reason_follows_the_label_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge()
    plain = j.pair_verdicts(PAIRS[:1])[0]
    book = load_rulebook()
    by_label = {book.scale.index(rule.label): rule.id for rule in book.rules}
    given = book.scale.index(plain.label)
    for label, inconsistent in ((given, False), (3 - given, True)):
        seen = writes(monkeypatch, j, f"\n{STEPS}verdict {by_label[label]}\n")
        verdict = j.pair_verdicts(PAIRS[:1], reasons=True)[0]
        assert replace(verdict, explanation=None) == plain and verdict.explanation is not None
        assert verdict.reason == f"{STEPS}verdict {by_label[label]}"
        assert (verdict.explanation.status, verdict.explanation.inconsistent) == ("ok", inconsistent)
        because = book.rules[book.index(by_label[label])].because
        words = ["lamp; color red (required)", "lamp; color: red", "lamp for lamp: the same category", "color fits"]
        assert [step.text for step in verdict.explanation.steps] == [*words, because]
        model = lm_of(j).model
        assert seen[-1] == [*model.encode_pair(*prompt_of(PAIRS[0])), lm_of(j).card.label_token_ids[given]]


def test_an_unreadable_reason_is_named_and_the_label_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge()
    writes(monkeypatch, j, "\nwants lamp")
    verdict = j.pair_verdicts(PAIRS[:1], reasons=True)[0]
    assert verdict.status == "ok" and verdict.explanation is not None
    assert (verdict.explanation.status, verdict.explanation.inconsistent) == ("missing_found", None)
    assert verdict.label == j.pair_verdicts(PAIRS[:1])[0].label and verdict.reason == "wants lamp"


def test_reason_first_reads_the_label_where_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    j = judge(order="reason_first")
    rule = next(rule.id for rule in load_rulebook().rules if rule.label == "related")
    text = f"{STEPS}verdict {rule}\n3\n"
    seen = writes(monkeypatch, j, text)
    verdict = j.pair_verdicts(PAIRS[:1], reasons=True)[0]
    assert len(seen) == 1  # the reason is what was written on the way to the label: nothing is decoded twice
    lm = lm_of(j)
    ids = [*lm.model.encode_pair(*prompt_of(PAIRS[0])), *lm.model.encode(text)[:-2]]  # before "3" and its line end
    z = lm.model.label_logits([ids], lm.card.label_token_ids)[0].astype(float)
    np.testing.assert_allclose(verdict.probabilities, np.exp(z) / np.exp(z).sum(), atol=1e-6)
    assert verdict.reason == f"{STEPS}verdict {rule}"
    # "3" (related) was written, as the rule says, and another label is likelier: the verdict's label is contradicted
    assert z.argmax() != 2 and verdict.explanation is not None and verdict.explanation.inconsistent is True
    assert j.pair_verdicts(PAIRS[:1])[0] == verdict  # the steps come with the label, asked for or not
    assert lm.explain(PAIRS[:1], [int(z.argmax())]) == [verdict.explanation]
    writes(monkeypatch, j, STEPS)  # no label at all: a failure, not a low label
    failed = j.pair_verdicts(PAIRS[:1])[0]
    assert (failed.label, failed.tier, failed.status) == (None, None, "no_label")
    assert np.isnan(j.pair_probabilities(PAIRS[:1])).all()


def test_a_real_decoding_never_changes_the_probabilities() -> None:
    j = judge()
    plain, told = j.pair_verdicts(PAIRS), j.pair_verdicts(PAIRS, reasons=True)
    assert [v.probabilities for v in plain] == [v.probabilities for v in told]
    assert all(v.explanation is not None and v.explanation.status for v in told)


def test_long_items_are_cut_and_long_queries_fail() -> None:
    j = judge()  # 256 positions, 8 + 1 kept for the reason
    cut, fine, hopeless = j.pair_verdicts(
        [Pair("lamp", text_item("steel " * 400)), PAIRS[0], Pair("lamp " * 400, text_item("lamp"))]
    )
    assert cut.item_cut and cut.status == "ok" and not fine.item_cut
    assert (hopeless.status, hopeless.label, hopeless.tier) == ("prompt_too_long", None, None)


def test_a_judge_folder_survives_and_knows_its_rules(tmp_path: Path) -> None:
    lm = causal_lm()
    lm.save(tmp_path)
    own = tmp_path.parent / "own.toml"
    own.write_text(DEFAULT_RULES.read_text() + "\n# ours\n")
    described = card(lm, rule_book_hash=load_rulebook(own).hash, temperature=1.3, template="v1")
    write_lm_card(tmp_path, described, own)
    assert read_judge_card(tmp_path) == described
    loaded = LmJudge.load(tmp_path, precision="fp32")
    assert loaded.book is not None and loaded.because and loaded.scale.name == "four_level"
    before = LmJudge(lm, described, loaded.fingerprint)
    np.testing.assert_allclose(loaded.assess(PAIRS).probabilities, before.assess(PAIRS).probabilities, atol=1e-6)
    opened = open_judge(tmp_path)
    assert (opened.temperature, opened.beta_cum, opened.name, opened.folder) == (1.3, 0.5, tmp_path.name, tmp_path)
    (tmp_path / "rules.toml").unlink()
    # another book than the package's: nothing can be checked
    assert LmJudge.load(tmp_path, precision="fp32").book is None
    other = causal_lm(seed=1)
    other.save(tmp_path)
    assert LmJudge.load(tmp_path, precision="fp32").fingerprint != loaded.fingerprint
    with pytest.raises(ValueError, match="was trained on"):
        write_lm_card(tmp_path, described, DEFAULT_RULES)


def test_a_form_that_the_judge_was_not_trained_on_is_warned_of() -> None:
    plain = [f"a lamp of {n} cm" for n in range(8)]
    read = judge()
    with pytest.warns(
        UserWarning, match=r"8 of 8 \(100%\) item texts are not in the form .*listing.* a Catalog in Python"
    ):
        read.judge("red lamp", plain)
    with pytest.warns(UserWarning, match=r"6 of 20 \(30%\) item texts"):
        read.pair_verdicts([Pair("lamp", text_item(text)) for text in (*plain[:6], *TEXTS * 3)][:20])
    for items in (plain[:4], [*plain[:1], *TEXTS * 3], TEXTS, [{"title": text} for text in plain]):
        with warnings.catch_warnings():  # few, or in form, or rows that are brought into it
            warnings.simplefilter("error")
            read.judge("red lamp", items)
            judge(item_form="text").judge("red lamp", plain)


def test_many_failures_and_unreadable_reasons_are_warned_of_with_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Pair("lamp " * 400, text_item(TEXTS[0]))
    with pytest.warns(
        UserWarning, match=r"5 of 12 \(42%\) pairs have no verdict: prompt_too_long 5\. prompt_too_long:"
    ):
        judge().pair_verdicts([*PAIRS, *[long] * 5])
    silent = judge()
    writes(monkeypatch, silent, "nothing that is a step")
    with pytest.warns(
        UserWarning, match=r"6 of 6 \(100%\) reasons cannot be read: .* A judge that learned labels alone"
    ):
        silent.judge("red lamp", TEXTS, reasons=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge().pair_verdicts([*PAIRS, *[long] * 4])
