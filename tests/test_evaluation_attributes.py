"""Scores of attribute values with unknowns, and of captions."""

from __future__ import annotations

import pytest

from goodrate.evaluation.attribute_metrics import attribute_scores
from goodrate.evaluation.captions import caption_scores


def test_unknown_costs_recall_and_an_invented_value_costs_precision() -> None:
    truth = [{"color": "red"}, {"color": "blue"}, {"color": "unknown"}, {"color": None}, {"color": "teal"}]
    told = [{"color": "RED "}, {"color": "green"}, {"color": "red"}, {}, {"color": "unknown"}]
    found = attribute_scores(truth, told).micro
    # right: 1 (red). said: red, green, red = 3. known: red, blue, teal = 3. silent: the fourth.
    assert (found.right, found.said, found.known, found.silent, found.pairs) == (1, 3, 3, 1, 5)
    assert (found.precision, found.recall) == (1 / 3, 1 / 3)
    assert found.f1 == pytest.approx(2 / 6) and found.accuracy == pytest.approx(2 / 5)


def test_hallucination_does_not_pay() -> None:
    truth = [{"color": "red"}] * 5 + [{}] * 5
    silent = attribute_scores(truth, [{"color": "red"}] * 4 + [{}] * 6)
    guessing = attribute_scores(truth, [{"color": "red"}] * 10)
    assert silent.micro.f1 == pytest.approx(8 / 9) and guessing.micro.f1 == pytest.approx(10 / 15)


def test_attributes_count_alike_in_macro_f1_and_only_those_asked_for() -> None:
    truth = [{"Color": "red", "size": "M"}, {"color": "red"}]
    told = [{"color": "red", "size": "L"}, {"color": "red", "style": "old"}]
    found = attribute_scores(truth, told, ["COLOR", "size"])
    assert found.by_attribute["color"].f1 == 1.0 and found.by_attribute["size"].f1 == 0.0
    assert found.macro_f1 == 0.5 and found.micro.f1 == pytest.approx(2 * 2 / (3 + 3))
    assert "style" in attribute_scores(truth, told).by_attribute
    nothing = attribute_scores([{}], [{}], ["color"]).micro
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.accuracy) == (1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 items and 1 answers"):
        attribute_scores(truth, told[:1])


def test_captions_have_the_librarys_scores() -> None:
    pytest.importorskip("pycocoevalcap")  # of an extra apart, which the tests do not install
    references = [["a red oak lamp with a brass foot"], ["blue chair of steel , two seats"], ["a green rug"]]
    same = caption_scores([own[0].upper() for own in references], references)
    assert same["ROUGE-L"] == pytest.approx(1.0) and same["CIDEr"] > 5
    # of 4-grams, the third text has none: (8 + 7 + 3 - 3 * 3 + 1) of them, all right
    assert same["BLEU-4"] == pytest.approx(1.0, abs=1e-6)
    half = caption_scores(["a red oak lamp", "blue chair", "a green rug"], references)
    # ROUGE-L, beta 1.2, of "a red oak lamp": precision 1, recall 4/8: 2.44 * 0.5 / (0.5 + 1.44) = 0.6289
    assert caption_scores(["a red oak lamp"], [references[0]])["ROUGE-L"] == pytest.approx(0.62887, abs=1e-4)
    assert 0 < half["CIDEr"] < same["CIDEr"] and half["BLEU-4"] < 1
    wrong = caption_scores(["something else entirely"] * 3, references)
    assert wrong["CIDEr"] == pytest.approx(0.0, abs=1e-6) and wrong["BLEU-4"] < 1e-3


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [([], [], "no captions"), (["a"], [], "1 captions and 0 lists"), (["a"], [[]], "caption 0 has no reference")],
)
def test_captions_without_references_are_refused(
    captions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        caption_scores(captions, references)
