"""The cosine to what a query finds: by hand, its folder, and vectors that are shared between judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goodrate.models.encoder import Encoder
from goodrate.relevance.encoder_judge import Card as CosineCard
from goodrate.relevance.encoder_judge import EncoderJudge, write_encoder_judge
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.neighbourhood_judge import (
    ITEMS_FILE,
    Card,
    NeighbourhoodJudge,
    nearest_means,
    sampled_vectors,
    write_neighbourhood_judge,
)
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.text_vectors import TextVectors
from tiny_models import tokenizer_file

CARD = Card(scale="four_level", encoder="e", fingerprint="f", slope=10.0, cuts=(3.0, 5.0, 8.0), nearest=2)
COSINE = CosineCard(scale="four_level", encoder="e", fingerprint="f", slope=10.0, cuts=(3.0, 5.0, 8.0))
ITEMS = np.asarray([(1.0, 0.0), (0.6, 0.8), (0.0, 1.0), (-1.0, 0.0)])


class KnownVectors:
    """Stands for an encoder: unit vectors by text, and the texts that it was given."""

    precision, dimension = "fp32", 2
    vectors = {"lamp": (0.8, 0.6), "chair": (-1.0, 0.0), "oak": (0.0, 1.0), "desk": (1.0, 0.0)}

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        return np.asarray([self.vectors[text] for text in texts])

    encode_items = encode_queries


def known(nearest: int = 2) -> tuple[KnownVectors, NeighbourhoodJudge]:
    encoder: Any = KnownVectors()
    return encoder, NeighbourhoodJudge(TextVectors(encoder), ITEMS, replace(CARD, nearest=nearest))


def test_scores_by_hand() -> None:
    _, judge = known()
    # nearest to lamp are (.6, .8) and (1, 0) with .96 and .8: their mean (.8, .4) has length .894
    mean = np.asarray([0.8, 0.4]) / np.hypot(0.8, 0.4)
    pairs = [Pair("lamp", text_item("oak")), Pair("lamp", text_item("desk")), Pair("chair", text_item("desk"))]
    scores = judge.scores(pairs)
    assert scores[:2] == pytest.approx(mean[::-1], abs=1e-3)  # the items are kept in half precision
    assert scores[2] < 0
    assert judge.scores([]).shape == (0,) and judge.assess([]).probabilities.shape == (0, 4)
    (why,) = judge.explain(pairs[1:2], [3])
    assert why.text == "neighbours 0.894\nlacking lamp"
    label = CalibratedJudge(judge).pair_verdicts(pairs[1:2])[0].label
    assert label == "excellent"  # sigmoid(8.94 - 8) is .72


@pytest.mark.parametrize("nearest", [4, 400])
def test_more_neighbours_than_items_are_all_items(nearest: int) -> None:
    _, judge = known(nearest)
    assert judge.query_means(["lamp"])[0] == pytest.approx(ITEMS.mean(axis=0) / np.hypot(*ITEMS.mean(axis=0)), abs=1e-3)


def test_nearest_means_equal_a_loop_over_sorted_cosines() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    for row, mean in zip(queries, nearest_means(queries, items, 6), strict=True):
        best = items[np.argsort(-(items @ row))[:6]].mean(axis=0)
        np.testing.assert_allclose(mean, best / np.linalg.norm(best), rtol=1e-5)


def test_filled_in_attributes_are_read_as_the_cosine_reads_them() -> None:
    encoder: Any = KnownVectors()
    encoder.vectors = {**encoder.vectors, "oak ; maybe color red": (0.6, 0.8)}
    card = replace(CARD, fields=("title", "inferred_attributes"))
    judge = NeighbourhoodJudge(TextVectors(encoder), ITEMS, card)
    told = '[{"attribute":"color","value":"red","confidence":0.9,"source":"probe","model":"1f"}]'
    judge.scores([Pair("lamp", {"id": "a", "title": "oak", "inferred_attributes": told})])
    assert encoder.asked[-1] == ["oak ; maybe color red"]
    with pytest.raises(ValueError, match="cannot render field 'colour'"):
        replace(CARD, fields=("title", "colour"))


def test_queries_are_compared_once() -> None:
    encoder, judge = known()
    judge.scores([Pair("lamp", text_item("oak"))])
    judge.scores([Pair("lamp", text_item("oak")), Pair("chair", text_item("oak"))])
    assert encoder.asked == [["lamp"], ["oak"], ["chair"]]


def test_a_large_catalogue_is_sampled_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.relevance.neighbourhood_judge.SAMPLE", 3)
    vectors: Any = TextVectors(KnownVectors())  # type: ignore[arg-type]
    items = [text_item(text) for text in KnownVectors.vectors]
    chosen = sampled_vectors(vectors, items, CARD)
    assert chosen.shape == (3, 2) and chosen.dtype == np.float16
    assert (chosen == sampled_vectors(vectors, items, CARD)).all()
    assert {tuple(row) for row in chosen.tolist()} < {tuple(np.float16(v).tolist() for v in one)
                                                      for one in KnownVectors.vectors.values()}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A judge's folder with its encoder in it."""
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "judge" / "encoder")
    encoder = Encoder.load(tmp_path / "judge" / "encoder", precision="auto")
    card = replace(CARD, encoder="encoder", fingerprint=encoder.fingerprint)
    write_neighbourhood_judge(tmp_path / "judge", card, encoder.encode_items(["lamp", "oak chair", "red desk"]))
    return tmp_path / "judge"


def test_a_folder_goes_there_and_back(folder: Path) -> None:
    opened = open_judge(folder)
    encoder = Encoder.load(folder / "encoder", precision="auto")
    vectors = TextVectors(encoder)
    made = NeighbourhoodJudge(vectors, vectors.items(["lamp", "oak chair", "red desk"]), opened.inner.card)  # type: ignore[attr-defined]
    assert opened.identity == CalibratedJudge(made).identity
    pairs = [Pair("red lamp", text_item("lamp")), Pair("oak", text_item("oak chair"))]
    np.testing.assert_array_equal(opened.pair_probabilities(pairs), CalibratedJudge(made).pair_probabilities(pairs))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "items.safetensors: no such file; the vectors of the judge's items are missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:30]), "items.safetensors holds no item vectors: "),
    ],
)
def test_missing_and_cut_vectors_are_named(folder: Path, damage: Any, reason: str) -> None:
    damage(folder / ITEMS_FILE)
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        open_judge(folder)


def test_vectors_of_another_length_are_refused(folder: Path) -> None:
    card = open_judge(folder).inner.card  # type: ignore[attr-defined]
    write_neighbourhood_judge(folder, card, np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"holds vectors \(3, 5\), expected \(items, 16\)"):
        open_judge(folder)


def test_judges_of_one_encoder_share_its_vectors(folder: Path, tmp_path: Path) -> None:
    first = open_judge(folder)
    fingerprint = Encoder.load(folder / "encoder").fingerprint
    write_encoder_judge(tmp_path / "cosine", replace(COSINE, encoder=str(folder / "encoder"), fingerprint=fingerprint))
    second = open_judge(tmp_path / "cosine")
    assert first.inner.vectors is second.inner.vectors  # type: ignore[attr-defined]
    own = EncoderJudge(Encoder.load(folder / "encoder"), COSINE)
    assert own.vectors is not first.inner.vectors  # type: ignore[attr-defined]
