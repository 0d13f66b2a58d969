"""A judge from few labels: the choice over folds, the numbers by hand, and the whole way on a tiny catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from calling import Run, called
from goodrate.catalog.splits import query_folds, query_groups
from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from goodrate.recipes import ensemble_report, judge_unlabelled
from goodrate.recipes.score_sum import (
    PROBE,
    LabelledPairs,
    Member,
    ScoreSums,
    kept,
    probabilities_out_of_fold,
    probe_scores,
)
from goodrate.recipes.untrained_members import CONSTRAINTS, COSINE, WORDS
from goodrate.relevance import probe_judge
from goodrate.relevance.ensemble_judge import LABELS_FILE
from goodrate.relevance.feature_cache import FeatureCache, feature_key
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import CARD_FILE, read_judge_card
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.relevance.probe_head import ProbeHead, gain_targets, ridge_heads
from goodrate.scale import ESCI, FOUR_LEVEL, WANDS
from tiny_models import causal_lm, tokenizer_file

COLOURS, THINGS = ("red", "blue", "green", "black"), ("lamp", "desk", "chair", "sofa", "mug", "rug", "vase", "clock")


def test_ridge_by_hand() -> None:
    # x = 0, 2 -> z = -1, 1; y = 0, 1 -> y - 1/2; w = (z'y) / (z'z + alpha) = 1 / (2 + 2)
    (head,) = ridge_heads(np.asarray([[0.0], [2.0]]), np.asarray([0.0, 1.0]), [2.0])
    assert (head.mean.tolist(), head.spread.tolist(), head.bias) == ([1.0], [1.0], 0.5)
    assert head.weight.tolist() == [0.25]
    assert head.scores(np.asarray([[2.0], [1.0]])).tolist() == [0.75, 0.5]


@pytest.mark.parametrize("rows", [5, 40])  # fewer than features, and more
def test_ridge_is_that_of_scikit_learn(rows: int) -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(rows, 12)), rng.normal(size=rows)
    x[:, 3] = 7.0  # never changes
    for alpha, head in zip((0.5, 30.0), ridge_heads(x, y, (0.5, 30.0)), strict=True):
        peer = Ridge(alpha).fit((x - head.mean) / head.spread, y)
        np.testing.assert_allclose(head.scores(x), peer.predict((x - head.mean) / head.spread), atol=1e-9)
        assert abs(head.weight[3]) < 1e-12


def test_targets_are_gains_of_the_largest() -> None:
    assert gain_targets(np.asarray([0, 1, 2]), WANDS).tolist() == [0.0, 0.5, 1.0]
    assert gain_targets(np.asarray([3, 0]), FOUR_LEVEL).tolist() == [1.0, 0.0]


def test_a_head_is_read_as_it_was_written_and_another_is_refused(tmp_path: Path) -> None:
    head = ProbeHead(np.zeros(3), np.ones(3), np.asarray([1.0, 2.0, 3.0]), 0.5)
    head.save(tmp_path / "head.safetensors")
    assert ProbeHead.load(tmp_path / "head.safetensors", 3).weight.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"has shapes \[\(3,\)\]; the model's features have \(4,\)"):
        ProbeHead.load(tmp_path / "head.safetensors", 4)
    (tmp_path / "cut").write_bytes((tmp_path / "head.safetensors").read_bytes()[:40])
    with pytest.raises(ValueError, match="is not the head of a probe"):
        ProbeHead.load(tmp_path / "cut", 3)


def test_features_are_computed_once_and_kept_block_by_block(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute(places: list[int]) -> np.ndarray:
        if len(asked) + len(places) > 300:
            raise KeyboardInterrupt
        asked.extend(places)
        return np.asarray([[place, 1.0] for place in places])

    keys = [feature_key("item", str(place % 400)) for place in range(500)]
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path / "f.safetensors", 2).rows(keys, compute)
    assert len(asked) == 256  # the first block is on disk
    asked.clear()
    rows = FeatureCache(tmp_path / "f.safetensors", 2).rows(keys, compute)
    assert asked == list(range(256, 400)) and rows[450].tolist() == [50.0, 1.0]
    with pytest.raises(ValueError, match="expected .*; remove it"):
        FeatureCache(tmp_path / "f.safetensors", 3)


def test_folds_share_no_group_and_are_about_equal() -> None:
    queries = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS] + ["lamps red", "mug blue"]
    folds = query_folds(queries, 4, seed=1)
    for group in set(query_groups(queries)):
        members = [q for q, g in zip(queries, query_groups(queries), strict=True) if g == group]
        assert len({folds[query] for query in members}) == 1
    counts = np.bincount(list(folds.values()))
    assert len(counts) == 4 and counts.max() - counts.min() <= 2
    with pytest.raises(ValueError, match="9 folds of 2 groups"):
        query_folds(["lamp", "desk"], 9, 0)


def labelled(queries: int, seed: int = 0) -> LabelledPairs:
    """Six items for each query, three good."""
    words = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS][:queries]
    pairs = [JudgedPair(query, {"id": f"{query}{i}"}, label=3 if i < 3 else 0) for query in words for i in range(6)]
    return LabelledPairs(pairs, ESCI, folds=4, seed=seed)


def test_a_member_gets_weight_where_it_helps_and_none_where_it_is_wrong() -> None:
    data, rng = labelled(32), np.random.default_rng(0)
    truth = data.labels / 3.0
    cosine = Member.of(truth + rng.normal(scale=1.0, size=len(truth)))
    good = Member.of(truth + rng.normal(scale=0.5, size=len(truth)), 0.75)
    wrong = Member.of(-truth + rng.normal(scale=0.5, size=len(truth)), 0.75)
    weights = ScoreSums(data, {COSINE: cosine, PROBE: good}).fitted()
    assert weights[PROBE] > 0.75 * weights[COSINE] > 0.0, weights
    weights = ScoreSums(data, {COSINE: cosine, PROBE: wrong}).fitted()
    assert set(kept(weights)) == {COSINE}, weights
    data = labelled(32)
    loud = Member.of(-truth + rng.normal(scale=0.5, size=len(truth)), 4.0)  # the pull alone would keep it
    assert set(ScoreSums(data, {COSINE: good, WORDS: good, PROBE: loud}).fitted()) == {COSINE, WORDS}
    assert ScoreSums(data, {COSINE: cosine}).without(PROBE).fitted()[COSINE] > 0.0


def test_a_query_is_added_as_the_other_folds_say() -> None:
    """One fold's labels are turned round: its own weights must not know."""
    data, rng = labelled(32), np.random.default_rng(0)
    truth = data.labels / 3.0
    members = {name: Member.of(truth + rng.normal(scale=0.7, size=len(truth))) for name in (COSINE, WORDS)}
    turned = LabelledPairs(
        [
            JudgedPair(pair.query, pair.item, label=3 - pair.label if fold == 0 else pair.label)
            for pair, fold in zip(data.pairs, data.fold, strict=True)
        ],
        ESCI,
        folds=4,
    )
    inside = data.fold == 0
    before, after = (ScoreSums(one, members).out_of_fold() for one in (data, turned))
    np.testing.assert_array_equal(before[inside], after[inside])
    assert not np.array_equal(before[~inside], after[~inside])


def test_scores_that_are_all_one_add_nothing_and_have_a_spread() -> None:
    assert (Member.of(np.full(5, 0.5)).mean, Member.of(np.full(5, 0.5)).spread) == (0.5, 1.0)


def test_a_pair_is_never_scored_by_a_head_that_saw_its_fold() -> None:
    data, rng = labelled(16), np.random.default_rng(0)
    features = rng.normal(size=(len(data.pairs), 200))  # noise, more of it than pairs: a head can learn it by heart
    scores = probe_scores(features, data, 1.0)
    assert abs(np.corrcoef(scores, data.labels)[0, 1]) < 0.35
    (own,) = ridge_heads(features, gain_targets(data.labels, data.scale), [1.0])
    assert np.corrcoef(own.scores(features), data.labels)[0, 1] > 0.99
    p = probabilities_out_of_fold(scores, data)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, labels of 16 queries, a tiny encoder and a tiny language model."""
    folder = tmp_path_factory.mktemp("fit")
    items = [{"id": f"{c}-{t}", "title": f"{c} {t}", "description": f"a {t} in {c}"} for c in COLOURS for t in THINGS]
    pl.DataFrame(items).write_csv(folder / "items.csv")
    rows = [
        {"query": f"{c} {t}", "item_id": f"{other}-{t2}", "label": "I" if t2 != t else "E" if other == c else "S"}
        for c, t in [(c, t) for c in COLOURS for t in THINGS][::2]
        for other in COLOURS
        for t2 in (t, THINGS[(THINGS.index(t) + 1) % 8])
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    Encoder.create(tokenizer_file(folder), hidden=16, layers=1, heads=2).save(folder / "encoder")
    causal_lm().save(folder / "lm")
    return folder


@pytest.fixture
def fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Path
) -> Callable[..., tuple[int, str, str]]:
    """Call goodrate fit-judge on the made files; gives (exit code, stdout, stderr with its wrapping undone)."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*more: object) -> tuple[int, str, str]:
        given = ("fit-judge", made / "items.csv", "--judgements", made / "labels.csv", "--scale", "esci")
        return called(monkeypatch, capsys, *given, *more)

    return call


def test_one_command_fits_a_judge_that_opens_and_says_what_it_is_worth(
    fit: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_folder = tmp_path / "run"
    options = ("--encoder", made / "encoder", "--model", made / "lm", "--out", out_folder, "--layers", "1,2")
    code, out, err = fit(*options)
    assert code == 0, err
    report = json.loads((out_folder / "fit.json").read_text())
    assert [*report["systems"]] == [
        "constant", "random order", "bm25", "cosine", "words", "untrained sum", "probe", "ensemble"
    ]  # fmt: skip
    assert [*report["adds"]] == ["cosine", "words", "constraints", "probe"]
    assert "adds to nDCG@10" in out and report["over_cosine"]["units"] == 16
    assert "of 128 pairs" in err and report["pairs"] == 128 and report["queries"] == 16
    for name in report["systems"]:
        assert name in out
    judge = open_judge(out_folder / "judge")
    card = read_judge_card(out_folder / "judge")
    assert card.kind == "ensemble" and (report["gain"]["low"] > 0) == (not card.warnings)
    assert all(warning in err for warning in card.warnings)
    verdicts = judge.judge("red lamp", ["red lamp ; a lamp in red", "blue rug"], reasons=True)
    assert verdicts[0].explanation is not None and "Words in the item" in [
        s.title for s in verdicts[0].explanation.steps
    ]
    names = [step.name for step in verdicts[0].explanation.steps]
    assert names[: len(card.members)] == list(card.members)

    before = (out_folder / "judge" / CARD_FILE).read_text()
    assert fit(*options)[0] == 0 and (out_folder / "judge" / CARD_FILE).read_text() == before  # the same again
    assert (out_folder / "judge" / LABELS_FILE).exists() == report["label_head"]
    monkeypatch.setattr(ensemble_report, "_adds", lambda *_: {})  # a random network's probe would be left out
    answers = iter([1.0, 0.0])  # surely better labels, and no surely worse order
    monkeypatch.setattr(ensemble_report, "surely", lambda _: next(answers))
    code, _, err = fit(*options[:4], "--out", tmp_path / "more", "--layers", "1,2", "--features", out_folder)
    assert code == 0 and "of 128 pairs" not in err, err  # nothing is read again
    assert "labels, and by them the order, come of a label head: log loss out of fold" in err
    headed: Any = open_judge(tmp_path / "more" / "judge").inner
    assert PROBE in headed.members and headed.label_head.digest == headed.card.label_head
    pairs = [Pair("red lamp", {"title": "red lamp"}), Pair("red lamp", {"title": "blue rug"})]
    by_odds = label_probabilities(headed.scores(pairs), headed.card.slope, headed.card.cuts)
    rows = headed.assess(pairs).probabilities
    assert not np.allclose(rows, by_odds)
    code, _, err = fit(*options[:4], "--out", tmp_path / "none", "--features", tmp_path)
    assert code == 2 and "no features.safetensors there" in err
    code, _, err = fit(*options[:-2])
    assert code == 2 and "holds another run (layers" in err


def test_what_a_query_finds_is_a_member_where_it_is_asked_for(
    fit: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = fit("--encoder", made / "encoder", "--out", tmp_path / "run", "--neighbours")
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert [*report["adds"]] == ["cosine", "neighbours", "words", "constraints"] and "neighbours" in out
    inner: Any = open_judge(tmp_path / "run" / "judge").inner
    if {"cosine", "neighbours"} <= set(inner.members):
        assert inner.members["neighbours"].vectors is inner.members["cosine"].vectors
    given = ("fit-judge", made / "items.csv", "--no-labels", "--neighbours", "--out", tmp_path / "no")
    code, _, err = called(monkeypatch, capsys, *given)
    assert code == 2 and "--neighbours goes with --judgements" in err


def test_words_order_this_catalogue_and_the_judge_is_not_called_better_than_them(
    fit: Run, made: Path, tmp_path: Path
) -> None:
    """Random networks know nothing: the words of the queries are those of the titles."""
    code, _, err = fit("--encoder", made / "encoder", "--out", tmp_path / "run")
    assert code == 0
    report = json.loads((tmp_path / "run" / "fit.json").read_text())
    systems = report["systems"]
    assert report["rival"] == "bm25" and systems["bm25"]["ndcg@10"] == pytest.approx(1.0)
    assert "not shown to order better than bm25, which nobody trained" in err
    assert systems["ensemble"]["ndcg@10"] > systems["cosine"]["ndcg@10"] and report["over_cosine"]["low"] > 0
    card: Any = read_judge_card(tmp_path / "run" / "judge")
    assert "probe" not in systems and set(card.members) <= {COSINE, WORDS, CONSTRAINTS} and WORDS in card.members


def test_what_a_query_excludes_is_put_last(fit: Run, made: Path, tmp_path: Path) -> None:
    assert fit("--encoder", made / "encoder", "--out", tmp_path / "run")[0] == 0
    judge = open_judge(tmp_path / "run" / "judge")
    texts = ["red lamp with straw ; red lamp", "red lamp, no straw"]
    violated, met = (verdict.expected_gain for verdict in judge.judge("red lamp without straw", texts))
    plain = [verdict.expected_gain for verdict in judge.judge("red lamp", texts)]
    assert met - violated > 0.1 + abs(plain[1] - plain[0])  # type: ignore[operator]
    code, _, err = fit("--encoder", made / "encoder", "--out", tmp_path / "fi", "--language", "fi")
    assert code == 0 and CONSTRAINTS not in read_judge_card(tmp_path / "fi" / "judge").members  # type: ignore[attr-defined]
    code, _, err = fit("--encoder", made / "encoder", "--out", tmp_path / "xx", "--language", "xx")
    assert code == 2 and "unknown language 'xx'" in err


def test_without_labels_and_without_a_language_model_the_usual_sum_is_made(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("fit-judge", made / "items.csv", "--no-labels", "--encoder", made / "encoder", "--scale", "esci")
    code, _, err = called(monkeypatch, capsys, *given, "--out", tmp_path / "run")
    assert code == 0 and "titles stood for queries" in err
    judge = open_judge(tmp_path / "run" / "judge")
    card: Any = read_judge_card(tmp_path / "run" / "judge")
    assert (card.members, card.weights) == ((COSINE, WORDS, CONSTRAINTS), (1.0, 0.5, 2.0))
    verdicts = judge.judge("red lamp", ["red lamp", "blue rug"])
    assert verdicts[0].expected_gain > verdicts[1].expected_gain and judge.warnings  # type: ignore[operator]


def test_without_labels_the_language_model_writes_queries(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    wishes = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    monkeypatch.setattr(judge_unlabelled, "written_queries", lambda model, opening, texts, *_: wishes[: len(texts)])
    settings = judge_unlabelled.Settings(
        catalog=str(made / "items.csv"), encoder=str(made / "encoder"), language_model=str(made / "lm"), queries=20
    )
    result = judge_unlabelled.run(settings, None, tmp_path / "run", lambda record: None)
    assert result.notes[0].startswith("20 queries were written, such as 'red lamp'")
    judge = open_judge(result.folder)
    assert judge.warnings == ("no label was read: trust the order, not the tiers",)
    verdicts = judge.judge("red lamp", ["red lamp", "blue rug"])
    assert all(verdict.label is not None for verdict in verdicts)
    monkeypatch.setattr(judge_unlabelled, "written_queries", lambda model, opening, texts, *_: [""] * len(texts))
    with pytest.raises(ValueError, match="wrote 0 queries that can be used, of 32 items"):
        judge_unlabelled.run(settings, None, tmp_path / "other", lambda record: None)


def test_written_queries_are_one_line_and_none_is_the_item(made: Path) -> None:
    model = CausalLM.load(made / "lm")
    found = judge_unlabelled.written_queries(model, "log\n", ["red lamp", "blue rug"], [1, 2], 0.8)
    assert len(found) == 2 and not any("\n" in one for one in found)
    assert found == judge_unlabelled.written_queries(model, "log\n", ["red lamp", "blue rug"], [1, 2], 0.8)
    assert judge_unlabelled._usable("Red  Lamp ", "red lamp") == "" == judge_unlabelled._usable("ab", "red lamp")
    assert judge_unlabelled._usable(" desk  lamp ", "red lamp") == "desk lamp"


def test_what_is_wrong_is_said_before_anything_is_read(fit: Run, made: Path, tmp_path: Path) -> None:
    code, _, err = fit("--out", tmp_path / "a")
    assert code == 2 and "no text encoder: name one with --encoder FOLDER" in err
    code, _, err = fit("--encoder", made / "encoder", "--out", tmp_path / "b", "--folds", 40)
    assert code == 2 and "40 folds of" in err
    code, _, err = fit("--encoder", made / "encoder", "--out", tmp_path / "c", "--layers", "one")
    assert code == 2 and "--layers 'one': expected whole numbers such as 9,12" in err
    code, _, err = fit("--encoder", made / "encoder", "--model", made / "lm", "--out", tmp_path / "d", "--layers", "77")
    assert code == 2 and "layers [77]: expected numbers from 1 to" in err
    code, _, err = fit("--encoder", made / "encoder", "--model", made / "lm", "--out", tmp_path / "e", "--no-labels")
    assert code == 2 and "give --judgements FILE, or --no-labels" in err
    assert not (tmp_path / "a").exists()


def test_a_probe_judge_is_read_back_and_refused_over_another_model(tmp_path: Path) -> None:
    model = causal_lm(seed=1)
    model.save(tmp_path / "lm")
    card = probe_judge.Card(
        scale="esci", language_model=str(tmp_path / "lm"), fingerprint=probe_judge.model_fingerprint(model),
        layers=(1,), opening="log\n", slope=4.0, cuts=(1.0, 2.0, 3.0),
    )  # fmt: skip
    width = model.network.config.hidden_size
    head = ProbeHead(np.zeros(width), np.ones(width), np.eye(width)[0], 0.25)
    probe_judge.write_probe_judge(tmp_path / "judge", card, head)
    judge = open_judge(tmp_path / "judge")
    pairs = [Pair("red lamp", {"title": "lamp"}), Pair("lamp " * 400, {"title": "lamp"})]
    states = judge.inner.reader.features(pairs[:1])  # type: ignore[attr-defined]
    short, long = judge.inner.scores(pairs)  # type: ignore[attr-defined]
    assert short == pytest.approx(0.25 + states[0, 0]) and np.isnan(long)
    verdicts = judge.pair_verdicts(pairs)
    assert verdicts[0].label is not None and (verdicts[1].label, verdicts[1].tier) == (None, None)
    causal_lm(seed=2).save(tmp_path / "lm")
    with pytest.raises(ValueError, match="is another model than this judge was made with; fit it anew"):
        open_judge(tmp_path / "judge")


def test_a_members_part_and_its_sum_by_hand(fit: Run, made: Path, tmp_path: Path) -> None:
    assert fit("--encoder", made / "encoder", "--out", tmp_path / "run")[0] == 0
    judge: Any = open_judge(tmp_path / "run" / "judge").inner
    pairs = [Pair("red lamp", {"title": "red lamp"}), Pair("red lamp", {"title": "blue rug"})]
    card = judge.card
    each = zip(judge.members.values(), card.weights, card.means, card.spreads, strict=True)
    expected = [weight * (member.scores(pairs) - mean) / spread for member, weight, mean, spread in each]
    np.testing.assert_allclose(judge.parts(pairs), expected)
    np.testing.assert_allclose(judge.scores(pairs), np.sum(expected, axis=0))
