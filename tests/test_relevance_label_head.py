"""Labels from a stack, held to the order of a sum: numbers by hand, folds that leak nothing, and a judge of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goodrate.recipes.ensemble_report import ENSEMBLE, System, _better_labels, _label_note, measured_report
from goodrate.recipes.label_stack import LabelStack, log_losses
from goodrate.recipes.score_sum import PROBE, LabelledPairs, Member, ScoreSums, probabilities_out_of_fold, probe_scores
from goodrate.recipes.untrained_members import COSINE, WORDS
from goodrate.relevance import ensemble_judge, probe_judge
from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import CARD_FILE
from goodrate.relevance.label_head import LabelHead, fit_multinomial
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.relevance.probe_head import ProbeHead
from goodrate.scale import ESCI
from tiny_models import causal_lm


def test_parts_by_hand_say_what_speaks_for_each_label() -> None:
    head = LabelHead(
        np.asarray([1.0]),
        np.asarray([2.0]),
        np.asarray([[1.0, -1.0]]),
        np.asarray([[0.0, 3.0], [0.0, 0.0]]),
        np.zeros(2),
    )
    # member 0: 10 * (0, 3), less the mean 15; the probe, member 1: z = 2, 2 * (1, -1)
    parts = head.parts(np.asarray([[5.0]]), np.asarray([[10.0, 7.0]]), probe=1)
    assert parts.tolist() == [[[-15.0, 15.0]], [[2.0, -2.0]]]


def test_the_multinomial_is_that_of_scikit_learn_and_takes_labels_that_never_occur() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = np.digitize(x @ [1.0, -2.0, 0.0] + rng.normal(size=400), [-1.0, 1.5])
    weights, bias = fit_multinomial(x, y, 3)
    peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, y)
    mine = np.exp(x @ weights + bias)
    np.testing.assert_allclose(mine / mine.sum(axis=1, keepdims=True), peer.predict_proba(x), atol=1e-3)
    weights, bias = fit_multinomial(x, np.where(y == 1, 2, y), 4)  # neither 1 nor 3
    p = np.exp(x @ weights + bias)
    assert (p / p.sum(axis=1, keepdims=True))[:, [1, 3]].max() < 0.02


def test_a_head_by_hand_is_read_as_it_was_written_and_others_are_refused(tmp_path: Path) -> None:
    head = LabelHead(
        np.asarray([1.0]),
        np.asarray([2.0]),
        np.asarray([[1.0, -1.0]]),
        np.asarray([[0.0, 3.0]]),
        np.asarray([0.5, 0.0]),
    )
    # z = (5 - 1) / 2 = 2: 0.5 + 2, -2 + 3 * 10
    assert head.logits(np.asarray([[5.0]]), np.asarray([[10.0]])).tolist() == [[2.5, 28.0]]
    path = tmp_path / "labels.safetensors"
    head.save(path)
    assert LabelHead.load(path, 1, 1, 2).digest == head.digest != replace(head, bias=np.zeros(2)).digest
    with pytest.raises(ValueError, match=r"has shapes .*; the judge's model, members and scale have"):
        LabelHead.load(path, 1, 2, 2)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="is not a label head"):
        LabelHead.load(path, 1, 1, 2)
    with pytest.raises(FileNotFoundError, match="the judge's card names a label head"):
        LabelHead.load(tmp_path / "none", 1, 1, 2)


def stack_of(turned: int | None = None) -> LabelStack:
    """24 queries of eight items with all labels. The features tell irrelevant from complement, the sum does not.

    turned: the fold whose labels are turned round.
    """
    things = ("lamp", "desk", "chair", "sofa", "mug", "rug")
    queries = [f"{colour} {thing}" for thing in things for colour in ("red", "blue", "green", "black")]
    pairs = [JudgedPair(query, {"id": f"{query}{i}"}, label=i % 4) for query in queries for i in range(8)]
    data = LabelledPairs(pairs, ESCI, folds=4)
    truth, rng = data.labels, np.random.default_rng(0)
    features = rng.normal(size=(len(pairs), 6))
    features[:, 1] += 3.0 * (truth >= 2)
    features[:, 0] += 4.0 * (truth == 1)
    members = {name: Member.of((truth >= 2) + rng.normal(size=len(truth))) for name in (COSINE, WORDS)}
    if turned is not None:
        each = zip(pairs, data.fold, strict=True)
        pairs = [replace(pair, label=3 - pair.label) if fold == turned else pair for pair, fold in each]
        data = LabelledPairs(pairs, ESCI, folds=4)
    members[PROBE] = Member.of(probe_scores(features, data), 0.75)
    return LabelStack(ScoreSums(data, members), features)


def test_a_label_head_tells_what_the_sum_cannot_and_is_kept() -> None:
    stack = stack_of()
    data, total = stack.sums.data, stack.sums.out_of_fold()
    odds = probabilities_out_of_fold(total, data)
    rows = stack.out_of_fold()
    assert (log_losses(odds, data) - log_losses(rows, data)).mean() > 0.2
    report = measured_report(stack.sums, {}, stack.features, with_curve=False)
    assert report.label_head and report.label_gain is not None and report.label_gain.low > 0
    np.testing.assert_array_equal(report.system(ENSEMBLE).probabilities, rows)
    np.testing.assert_array_equal(report.system(ENSEMBLE).scores, ESCI.expected_gain(rows))  # it orders by them, too
    assert set(report.weights) == set(stack.sums.members)
    assert any(note.startswith("labels, and by them the order, come of a label head") for note in report.notes)
    assert report.as_dict()["label_head"] is True


def test_a_label_head_that_knows_no_more_than_the_sum_is_not_kept() -> None:
    """Labels by proportional odds of the one member, and features that are noise."""
    data, rng = stack_of().sums.data, np.random.default_rng(1)
    cosine = Member.of(data.labels + rng.logistic(scale=0.5, size=len(data.labels)))
    stack = LabelStack(ScoreSums(data, {COSINE: cosine}), rng.normal(size=(len(data.labels), 40)))
    total = stack.sums.out_of_fold()
    by_odds = System("odds", data.ndcg(total), data.ndcg(total), total, probabilities_out_of_fold(total, data))
    system, kept, less = _better_labels(by_odds, stack)
    assert system is by_odds and not kept and less.low < 0.0
    assert _label_note(kept, less).startswith("labels come of the sum's odds: a label head is not surely better")


def test_a_fold_is_labelled_by_heads_that_never_saw_its_labels() -> None:
    """One fold's labels are turned round: neither its head may know nor those whose scores taught its stack."""
    plain, turned = stack_of(), stack_of(turned=0)
    assert plain.fitted(0).digest == turned.fitted(0).digest
    assert plain.fitted(1).digest != turned.fitted(1).digest


def test_the_map_is_the_heads_and_the_stack_in_one() -> None:
    """A feature that no label hangs on changes nothing; one that tells a label raises that label's logit."""
    stack = stack_of()
    head = stack.fitted()
    assert head.members[2].tolist() == [0.0] * 4 and head.weight.shape == (6, 4)
    assert head.weight[0].argmax() == 1 and np.abs(head.weight[0]).max() > 5 * np.abs(head.weight[5]).max()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ensemble of a probe over a tiny language model, with a label head."""
    model = causal_lm(seed=1)
    model.save(tmp_path / "lm")
    width = model.network.config.hidden_size
    odds: dict[str, Any] = {"slope": 4.0, "cuts": (1.0, 2.0, 3.0)}
    probe = probe_judge.Card(
        scale="four_level", language_model=str(tmp_path / "lm"), layers=(1,), opening="log\n",
        fingerprint=probe_judge.model_fingerprint(model), **odds,
    )  # fmt: skip
    judge = tmp_path / "judge"
    probe_judge.write_probe_judge(
        judge / PROBE, probe, ProbeHead(np.zeros(width), np.ones(width), np.eye(width)[0], 0.2)
    )
    rng = np.random.default_rng(0)
    head = LabelHead(np.zeros(width), np.ones(width), rng.normal(size=(width, 4)), np.zeros((1, 4)), np.zeros(4))
    card = ensemble_judge.Card(
        scale="four_level", members=(PROBE,), weights=(1.0,), means=(0.1,), spreads=(0.5,), slope=2.0,
        cuts=(-1.0, 0.0, 1.0),
    )  # fmt: skip
    ensemble_judge.write_ensemble_judge(judge, card, head)
    return judge


def test_a_judge_labels_by_its_head_and_reads_features_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge: Any = open_judge(folder).inner
    pairs = [
        Pair(query, {"title": title}) for query in ("red lamp", "blue rug") for title in ("lamp", "rug", "red rug")
    ]
    features = judge.members[PROBE].reader.features(pairs)
    wished = softmax(features @ judge.label_head.weight)
    asked: list[int] = []
    real = type(judge.members[PROBE].reader).features
    monkeypatch.setattr(
        probe_judge.ProbeReader, "features", lambda reader, some: asked.append(len(some)) or real(reader, some)
    )
    found = judge.assess([*pairs, Pair("lamp " * 400, {"title": "lamp"})])
    assert asked == [len(pairs)]
    np.testing.assert_allclose(found.probabilities[:-1], wished, atol=1e-6)
    assert found.status[-1] != "ok" and np.isnan(found.probabilities[-1]).all()
    assert judge.assess([]).probabilities.shape == (0, 4)
    labels = wished.argmax(axis=1)
    (why, *_) = judge.explain(pairs, labels.tolist())
    own = np.log(wished[0])  # the one member says all: the label's log odds beside the mean of all labels
    assert why.steps[0].line == f"{PROBE} {own[labels[0]] - own.mean():+.2f}"


def test_a_folder_without_a_head_judges_by_odds_and_the_identities_differ(folder: Path) -> None:
    headed = open_judge(folder).inner
    card = json.loads((folder / CARD_FILE).read_text())
    del card["label_head"]  # as it was written before there were heads
    (folder / CARD_FILE).write_text(json.dumps(card))
    plain: Any = open_judge(folder).inner
    pairs = [Pair("red lamp", {"title": "lamp"}), Pair("red lamp", {"title": "rug"})]
    np.testing.assert_array_equal(
        plain.assess(pairs).probabilities, label_probabilities(plain.scores(pairs), 2.0, (-1.0, 0.0, 1.0))
    )
    assert "labels" in headed.identity and set(plain.identity) == {"members", "added"}


def test_another_head_than_the_cards_is_refused(folder: Path) -> None:
    path = folder / ensemble_judge.LABELS_FILE
    judge: Any = open_judge(folder).inner
    replace(judge.label_head, bias=np.ones(4)).save(path)
    with pytest.raises(ValueError, match="is another label head than"):
        open_judge(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="fit the judge anew"):
        open_judge(folder)
