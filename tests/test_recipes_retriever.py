"""Contrastive training: who is a negative, what is mined, cut vectors, what is learned, exact resume."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from goodrate.learning.contrastive import Pair, PairSource, TwoTower, matryoshka_terms
from goodrate.learning.fit import FitSettings, accumulate
from goodrate.learning.hard_negatives import HardNegatives
from goodrate.learning.records import Update
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive as recipe
from goodrate.recipes.hard_negatives import HardNegativeSettings, hard_negatives

torch.set_num_threads(1)
THINGS = ["cup", "hat", "shoe", "lamp", "sofa", "ring"]
ITEMS = {f"i{n}": f"{'red' if n < 6 else 'blue'} {THINGS[n % 6]}" for n in range(12)}
PAIRS = [Pair(f"buy {thing}", f"i{n}") for n, thing in enumerate(THINGS)]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    words = ["[PAD]", "[UNK]", "buy", "red", "blue", *THINGS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Encoder.create(tmp_path / "tokenizer.json", hidden=16, layers=1, heads=2, max_length=8)


def source(encoder: Encoder, **changes: object) -> PairSource:
    options = {"batch_size": 3, "random_negatives": 4, "temperature": 0.1, "seed": 1, **changes}
    return PairSource(PAIRS, ITEMS, {"buy cup": {"i6"}}, encoder.tokenize, **options)


def test_known_positives_are_nobodys_negative_for_their_query(encoder: Encoder) -> None:
    batch = source(encoder, batch_size=6, random_negatives=12).next(0).micro_batches[0]
    cup = next(row for row, column in enumerate(batch["positive"].tolist()) if batch["allowed"][row].sum() == 10)
    # 12 candidates: the cup's own item and the blue cup are not negatives (10 left); every other query masks 1
    assert sorted(batch["allowed"].sum(1).tolist()) == [10, 11, 11, 11, 11, 11]
    assert not batch["allowed"][cup, batch["positive"][cup]] and batch["candidates"]["input_ids"].shape[0] == 12


def test_a_batch_depends_on_its_number_only(encoder: Encoder) -> None:
    first, second = source(encoder), source(encoder)
    first.next(0), first.next(1)
    one, two = first.next(7).micro_batches[0], second.next(7).micro_batches[0]
    assert all(torch.equal(one[name], two[name]) for name in ("positive", "allowed", "weights"))
    assert torch.equal(one["candidates"]["input_ids"], two["candidates"]["input_ids"])


def test_what_the_source_refuses(encoder: Encoder) -> None:
    options = {"batch_size": 1, "random_negatives": 0, "temperature": 1.0, "seed": 0}
    with pytest.raises(ValueError, match="no text, the first: 'x9'"):
        PairSource([Pair("q", "x9")], ITEMS, {}, encoder.tokenize, **options)
    with pytest.raises(ValueError, match="seed differ"):
        source(encoder).load_state_dict(source(encoder, seed=2).state_dict())


MINED = {"source": "model", "per_pair": 2, "depth": 6, "every": 5}


@pytest.mark.parametrize("more", [{}, {"hard_negatives": MINED, "matryoshka": [4]}], ids=["plain", "mined and cut"])
def test_training_finds_the_thing_and_resumes_exactly(encoder: Encoder, tmp_path: Path, more: dict) -> None:
    encoder.save(tmp_path / "start")
    fit = FitSettings(updates=40, precision="fp32", checkpoint_updates=7)
    told = {"batch_size": 3, "random_negatives": 4, "learning_rate": 1e-2, "epochs": 50, "fit": fit, **more}
    settings = recipe.Settings(encoder=str(tmp_path / "start"), **told)
    seen: list[dict] = []
    folder = recipe.train(settings, PAIRS, ITEMS, tmp_path / "a", progress=seen.append)
    assert seen[-1]["info_nce"] < 0.2 * seen[0]["info_nce"]
    trained = Encoder.load(folder)
    scores = trained.encode_queries([p.query for p in PAIRS]) @ trained.encode_items(list(ITEMS.values())[:6]).T
    assert scores.argmax(1).tolist() == list(range(6))

    def kill(record: dict) -> None:
        if record["update"] == 17:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        recipe.train(settings, PAIRS, ITEMS, tmp_path / "b", progress=kill)
    again = Encoder.load(recipe.train(settings, PAIRS, ITEMS, tmp_path / "b"))
    assert again.fingerprint == trained.fingerprint
    assert np.array_equal(again.encode_items(["red cup"]), trained.encode_items(["red cup"]))
    if "matryoshka" in more:
        assert seen[-1]["info_nce@4"] < 0.5 * seen[0]["info_nce@4"]


def test_random_negatives_change_from_update_to_update(encoder: Encoder) -> None:
    # 6 pairs in one batch: the same 6 own items in each epoch, so what differs beyond their order is drawn
    whole = source(encoder, batch_size=6, random_negatives=3)
    drawn = [
        {tuple(row) for row in whole.next(n).micro_batches[0]["candidates"]["input_ids"].tolist()} for n in range(6)
    ]
    assert len({frozenset(rows) for rows in drawn}) > 1


class Vectors:
    """An encoder whose vectors stand in the batch."""

    network = torch.nn.Linear(1, 1)

    @staticmethod
    def embed_tokens(batch: torch.Tensor) -> torch.Tensor:
        return batch


def test_the_matryoshka_loss_by_hand() -> None:
    # unit vectors (0.6, 0.8) and (1, 0) against (1, 0) and (0, 1): cosines 0.6, 0.8 and 1, 0; cut to one float: 1, 0 in
    # both rows, since the first float of (0, 1) is 0 and stays 0
    batch = {
        "queries": torch.tensor([[0.6, 0.8], [1.0, 0.0]]), "candidates": torch.eye(2),
        "positive": torch.tensor([1, 0]), "allowed": torch.ones(2, 2, dtype=torch.bool),
        "weights": torch.tensor([1.0, 3.0]), "mask": torch.ones(2, dtype=torch.bool),
    }  # fmt: skip
    outputs = TwoTower(Vectors(), [1])(batch)  # type: ignore[arg-type]
    assert outputs["scores@1"].tolist() == [[1, 0], [1, 0]]
    update = Update([batch], matryoshka_terms(0.5, [1]))
    values = accumulate(TwoTower(Vectors(), [1]), update, lambda loss: None)  # type: ignore[arg-type]
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    whole = (softplus((0.6 - 0.8) / 0.5) + 3 * softplus((0 - 1) / 0.5)) / 2
    cut = (softplus((1 - 0) / 0.5) + 3 * softplus((0 - 1) / 0.5)) / 2
    assert values["loss"] == pytest.approx((whole + cut) / 2)
    assert matryoshka_terms(0.5, [])[0].weight == 1 and len(matryoshka_terms(0.5, [])) == 1


def test_a_hard_negative_is_never_known_to_answer_its_query_and_is_mined_anew(encoder: Encoder) -> None:
    asked: list[int] = []

    def mine() -> dict[str, list[str]]:
        asked.append(1)
        return {"buy cup": ["i0", "i6", "i1", "i7"], "buy hat": ["i1"]}

    hard = HardNegatives(mine, per_pair=2, seed=0, every=3)
    known = {"buy cup": {"i0", "i6"}, "buy hat": {"i1"}, "buy shoe": set()}
    for step in range(7):
        # the cup's two known items are left out of its four finds, the hat's only find is its own, the shoe has none
        assert sorted(hard.draw(["buy cup", "buy hat", "buy shoe"], known, step)) == ["i1", "i7"]
    assert len(asked) == 3  # before the updates 0, 3 and 6
    once = HardNegatives(mine, per_pair=1, seed=0)
    draws = {once.draw(["buy cup"], known, step)[0] for step in range(20)}
    assert draws == {"i1", "i7"} and len(asked) == 4

    batch = source(encoder, hard=HardNegatives(mine, 2, seed=0), random_negatives=0, batch_size=6).next(0)
    candidates = batch.micro_batches[0]["candidates"]["input_ids"].shape[0]
    assert candidates == 7  # the six pairs' own items, and i7 (i6 is known to answer the cup, i1 is the hat's own)


@pytest.mark.parametrize("kind", ["lexical", "model"])
def test_what_is_mined_is_what_the_search_finds_first(encoder: Encoder, tmp_path: Path, kind: str) -> None:
    told = HardNegativeSettings(source=kind, per_pair=99, depth=2, skip=1)  # type: ignore[arg-type]
    hard = hard_negatives(told, ["red lamp", "red lamp"], ITEMS, encoder, tmp_path / "words", seed=0)
    found = sorted(hard.draw(["red lamp"], {"red lamp": set()}, 0))
    if kind == "model":
        scores = encoder.encode_queries(["red lamp"]) @ encoder.encode_items(list(ITEMS.values())).T
        best = np.argsort(-scores[0], kind="stable")
        assert found == sorted(list(ITEMS)[place] for place in best[1:3])
    else:
        # i3 is both words and stands first; next are the items with one of them, the rarer lamp before any red thing
        assert len(found) == 2 and "i9" in found and "i3" not in found


def test_an_encoder_trained_at_several_lengths_is_cut_and_still_finds(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "start")
    fit = FitSettings(updates=40, precision="fp32")
    settings = recipe.Settings(
        encoder=str(tmp_path / "start"), batch_size=6, learning_rate=1e-2, epochs=50, matryoshka=[4], fit=fit
    )
    folder = recipe.train(settings, PAIRS, ITEMS, tmp_path / "run")
    whole, short = Encoder.load(folder), Encoder.load(folder, longest=4)
    queries = [pair.query for pair in PAIRS]
    vectors = short.encode_queries(queries)
    assert vectors.shape == (6, 4) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    first = whole.encode_queries(queries)[:, :4]
    assert np.allclose(vectors, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
    scores = vectors @ short.encode_items(list(ITEMS.values())[:6]).T
    assert (scores.argmax(1) == np.arange(6)).mean() > 1 / 2  # chance is 1 / 6
    assert short.fingerprint != whole.fingerprint == Encoder.load(folder, longest=999).fingerprint
    short.save(tmp_path / "short")
    again = Encoder.load(tmp_path / "short")
    assert again.dimension == 4 and again.fingerprint == short.fingerprint
    with pytest.raises(ValueError, match="cannot cut vectors of 4 floats to 5"):
        short.cut(5)
    with pytest.raises(ValueError, match=r"matryoshka = \[16\]: expected numbers from 1 to 15"):
        recipe.train(settings.model_copy(update={"matryoshka": [16]}), PAIRS, ITEMS, tmp_path / "other")
