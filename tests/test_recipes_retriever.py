"""Contrastive training: who is a negative, what is learned, exact resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from goodrate.learning.contrastive import Pair, PairSource
from goodrate.learning.fit import FitSettings
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive as recipe

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


def test_training_finds_the_thing_and_resumes_exactly(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "start")
    fit = FitSettings(updates=40, precision="fp32", checkpoint_updates=7)
    settings = recipe.Settings(
        encoder=str(tmp_path / "start"), batch_size=3, random_negatives=4, learning_rate=1e-2, epochs=50, fit=fit
    )
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


def test_random_negatives_change_from_update_to_update(encoder: Encoder) -> None:
    # 6 pairs in one batch: the same 6 own items in each epoch, so what differs beyond their order is drawn
    whole = source(encoder, batch_size=6, random_negatives=3)
    drawn = [
        {tuple(row) for row in whole.next(n).micro_batches[0]["candidates"]["input_ids"].tolist()} for n in range(6)
    ]
    assert len({frozenset(rows) for rows in drawn}) > 1
