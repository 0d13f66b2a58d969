"""The cosine as a judge: labels by hand, the fit, what is guessed without labels, and the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.models.encoder import Encoder
from goodrate.relevance import text_vectors
from goodrate.relevance.encoder_judge import (
    Card,
    EncoderJudge,
    write_encoder_judge,
)
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.odds import cuts_without_labels, fit_odds, label_probabilities
from goodrate.relevance.pairs import Pair, text_item
from goodrate.scale import FOUR_LEVEL
from tiny_models import tokenizer_file

CARD = Card(scale="four_level", encoder="e", fingerprint="f", slope=10.0, cuts=(3.0, 5.0, 8.0))


class KnownVectors:
    """Stands for an encoder: unit vectors by text, and the texts that it was given."""

    precision = "fp32"
    vectors = {"lamp": (1.0, 0.0), "chair": (0.0, 1.0), "red lamp": (0.8, 0.6), "LED lamp ; Bright.": (0.6, 0.8)}

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.items: list[list[str]] = []

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        self.queries.append(texts)
        return np.asarray([self.vectors[text] for text in texts])

    def encode_items(self, texts: list[str]) -> np.ndarray:
        self.items.append(texts)
        return np.asarray([self.vectors[text] for text in texts])


ROW = {"id": "a", "title": "LED lamp", "description": "Bright.", "price": 3.0, "brand": "Kira", "attributes": "{}"}


def known() -> tuple[KnownVectors, EncoderJudge]:
    encoder: Any = KnownVectors()
    return encoder, EncoderJudge(encoder, CARD)


def test_label_probabilities_by_hand() -> None:
    # cosine 0.5: sigmoids of 5 - 3, 5 - 5, 5 - 8 = 0.8808, 0.5, 0.0474; the labels are their differences
    rows = label_probabilities(np.asarray([0.5]), 10.0, [3.0, 5.0, 8.0])
    assert rows[0] == pytest.approx([1 - 0.880797, 0.880797 - 0.5, 0.5 - 0.047426, 0.047426], abs=1e-6)


@given(
    slope=st.floats(0, 60),
    cuts=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
    cosines=st.lists(st.floats(-1, 1), min_size=2, max_size=2),
)
def test_a_larger_cosine_never_has_a_smaller_gain(slope: float, cuts: list[float], cosines: list[float]) -> None:
    rows = label_probabilities(np.sort(cosines), slope, sorted(cuts))
    assert rows.sum(axis=1) == pytest.approx([1, 1]) and rows.min() >= 0
    low, high = FOUR_LEVEL.expected_gain(rows)
    assert high >= low - 1e-12


def test_gains_order_as_cosines_do() -> None:
    cosines = np.linspace(-1, 1, 401)
    gains = FOUR_LEVEL.expected_gain(label_probabilities(cosines, 10.0, [3.0, 5.0, 8.0]))
    assert (np.diff(gains) > 0).all()


def test_the_fit_recovers_the_model_that_made_the_labels() -> None:
    slope, cuts = 8.0, (1.0, 3.0, 5.0)
    cosines = np.repeat(np.linspace(-0.2, 1.0, 121), 200)
    # in each group of 200 equal cosines every label has its share, to half a pair: no luck of a draw
    edges = np.cumsum(label_probabilities(cosines, slope, cuts), axis=1)
    place = (np.tile(np.arange(200), 121) + 0.5) / 200
    labels = (place[:, None] > edges[:, :-1]).sum(axis=1)
    found, found_cuts = fit_odds(cosines, labels, 4)
    assert found == pytest.approx(slope, rel=0.02) and found_cuts == pytest.approx(cuts, rel=0.03)


def test_labels_that_a_cosine_separates_stay_finite_and_one_label_is_refused() -> None:
    cosines = np.asarray([0.1, 0.2, 0.8, 0.9])
    slope, cuts = fit_odds(cosines, np.asarray([0, 0, 3, 3]), 4)
    assert np.isfinite([slope, *cuts]).all() and list(cuts) == sorted(cuts)
    assert label_probabilities(cosines, slope, cuts).argmax(axis=1).tolist() == [0, 0, 3, 3]
    with pytest.raises(ValueError, match="all 4 labels are one; labels that differ are needed"):
        fit_odds(cosines, np.asarray([2, 2, 2, 2]), 4)


def test_cuts_without_labels_by_hand() -> None:
    # 99 % of 0, 0.005 .. 0.5 lie up to 0.495; the median of alike is 0.8; three cuts, 0.1525 apart
    slope, cuts = cuts_without_labels(np.linspace(0, 0.5, 101), np.asarray([0.9, 0.8, 0.3]), 4)
    assert slope == pytest.approx(4 * 3 / 0.305)
    assert np.asarray(cuts) / slope == pytest.approx([0.495, 0.6475, 0.8])
    rows = label_probabilities(np.asarray([0.495, 0.8]), slope, cuts)
    assert (rows[0, 0], rows[1, 3]) == (pytest.approx(0.5), pytest.approx(0.5))
    slope, cuts = cuts_without_labels(np.asarray([0.9, 0.9]), np.asarray([0.1]), 2)  # an encoder without any skill
    assert slope == pytest.approx(4 / 0.001) and cuts == (pytest.approx(slope * 0.9),)


def test_verdicts_of_cosines_by_hand() -> None:
    encoder, judge = known()
    pairs = [Pair("lamp", text_item("lamp")), Pair("chair", text_item("red lamp")), Pair("lamp", ROW)]
    assert judge.cosines(pairs).tolist() == [1.0, 0.6, 0.6]
    assert judge.reads([ROW, text_item("a  b")]) == ["LED lamp ; Bright.", "a  b"]
    first, _, third = CalibratedJudge(judge).pair_verdicts(pairs)
    # sigmoids of 10 - 3, 5, 8 = 0.99909, 0.99331, 0.88080; of 6 - 3, 5, 8 = 0.95257, 0.73106, 0.11920
    assert first.probabilities == pytest.approx((0.00091, 0.00578, 0.11251, 0.8808), abs=1e-5)
    assert third.probabilities == pytest.approx((0.04743, 0.22151, 0.61186, 0.1192), abs=1e-5)
    assert [(one.label, one.tier) for one in (first, third)] == [("excellent", "Good"), ("related", "Good")]
    assert judge.assess([]).probabilities.shape == (0, 4)


def test_queries_and_items_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, judge = known()
    pairs = [Pair("lamp", text_item("lamp")), Pair("lamp", text_item("red lamp")), Pair("chair", text_item("lamp"))]
    judge.assess(pairs)
    judge.assess(pairs[:1])
    assert encoder.queries == [["lamp", "chair"], ["lamp"]] and encoder.items == [["lamp", "red lamp"]]
    monkeypatch.setattr(text_vectors, "REMEMBERED", 2)
    assert judge.cosines([Pair("lamp", ROW)]).tolist() == [0.6]  # there was no room: all others are forgotten
    assert list(judge.vectors._items) == ["LED lamp ; Bright."]
    assert judge.cosines(pairs).tolist() == [1.0, 0.8, 0.0] and encoder.items[1:] == [["LED lamp ; Bright."]] + [
        ["lamp", "red lamp"]
    ]


def test_an_explanation_names_the_cosine_and_the_words() -> None:
    _, judge = known()
    (why,) = judge.explain([Pair("red lamp", text_item("lamp"))], [3])
    assert why.text == "cosine 0.800\nshared lamp\nlacking red" and why.status == "ok" and why.inconsistent is None
    assert [(step.name, step.title, step.text) for step in why.steps] == [
        ("similarity", "Alike in meaning", "0.80 of 1"),
        ("shared", "Words in the item", "lamp"),
        ("lacking", "Words not in the item", "red"),
    ]


def test_the_identity_is_the_encoder_and_the_model_of_its_cosine() -> None:
    encoder, judge = known()
    assert judge.identity == {"encoder": "f", "precision": "fp32", "odds": [10.0, [3.0, 5.0, 8.0]]}
    assert EncoderJudge(encoder, replace(CARD, slope=9.0)).identity != judge.identity  # type: ignore[arg-type]


@pytest.mark.parametrize("beside", [True, False])
def test_a_folder_goes_there_and_back(tmp_path: Path, beside: bool) -> None:
    """The encoder by its path, or inside the judge's folder, which can then move."""
    folder = tmp_path / "judge"
    where = folder / "encoder" if beside else tmp_path / "encoder"
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(where)
    encoder = Encoder.load(where, precision="auto")
    card = replace(CARD, encoder="encoder" if beside else str(where), fingerprint=encoder.fingerprint, beta_cum=0.6)
    write_encoder_judge(folder, card)
    if beside:
        folder = folder.rename(tmp_path / "moved")
    opened = open_judge(folder)
    expected = CalibratedJudge(EncoderJudge(encoder, card), beta_cum=0.6)
    assert opened.judge("red lamp", ["lamp", "oak chair"]) == expected.judge("red lamp", ["lamp", "oak chair"])
    assert (opened.name, opened.beta_cum, opened.identity) == (folder.name, 0.6, expected.identity)


def test_another_encoder_is_refused_and_a_missing_one_is_named(tmp_path: Path) -> None:
    where, folder = tmp_path / "encoder", tmp_path / "judge"
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2, seed=1).save(where)
    write_encoder_judge(folder, replace(CARD, encoder=str(where)))
    with pytest.raises(ValueError) as error:
        open_judge(folder)
    assert str(error.value) == (f"{folder}: {where} is another encoder than this judge was made with; make it anew")
    write_encoder_judge(folder, replace(CARD, encoder=str(tmp_path / "gone")))
    with pytest.raises(FileNotFoundError) as missing:
        open_judge(folder)
    named = f"{folder / 'judge.json'} names an encoder that is missing: {tmp_path / 'gone'}: "
    assert str(missing.value).startswith(named)
