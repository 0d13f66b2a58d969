"""States of words from a frozen encoder: their places, long texts, and a tagger that reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.models.encoder import Encoder
from goodrate.models.word_states import WordReader
from goodrate.understanding.candidates import find_spans, phrases_of
from goodrate.understanding.span_vectors import phrase_means
from goodrate.understanding.tagger import Tagger, TaggerCard, held_states, new_network, reading, span_probabilities
from goodrate.understanding.words import Words, split_words
from tiny_models import tokenizer_file

TEXTS = ["red oak lamp", "", "!! blue", "a very long title of a green glass desk lamp for rooms"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    file = tokenizer_file(tmp_path_factory.mktemp("words"))
    return Encoder.create(file, hidden=16, layers=3, heads=2, max_length=64)


def states(reader: WordReader, words: Words) -> np.ndarray:
    return reader(words.texts.to_list(), words.start, words.begin)


def test_each_word_has_the_mean_state_of_its_tokens(encoder: Encoder) -> None:
    reader, words = WordReader(encoder), split_words(TEXTS)
    assert reader.layer == 2
    found = states(reader, words)
    batch = encoder.tokenizer(["red oak lamp"], return_tensors="pt", return_offsets_mapping=True)
    offsets = batch.pop("offset_mapping")[0]
    with torch.inference_mode():
        hidden = encoder.network(input_ids=batch["input_ids"], output_hidden_states=True).hidden_states[2][0]
    own = (offsets[:, 1] > offsets[:, 0]) & (offsets[:, 1] > 4) & (offsets[:, 1] <= 7)
    assert own.any() and found[1] == pytest.approx(hidden[own].mean(dim=0).numpy(), abs=2e-3)
    assert found.shape == (len(words), 16) and (np.abs(found).sum(axis=1) > 0).all()
    alone = split_words(TEXTS[:1])
    assert states(reader, alone) == pytest.approx(found[:3], abs=2e-3)


def test_long_texts_are_read_in_parts(encoder: Encoder) -> None:
    short = Encoder(encoder.network, encoder.tokenizer, replace(encoder.rules, max_length=6))
    words = split_words(["lamp " * 30])
    assert (np.abs(states(WordReader(short), words)).sum(axis=1) > 0).all()


def test_a_layer_that_is_not_there_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="layer 4: expected a number from 1 to 3"):
        WordReader(encoder, 4)


def test_a_tagger_reads_its_encoder_again(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "encoder")
    reader = WordReader(Encoder.load(tmp_path / "encoder"))
    card = TaggerCard(("color",), **reading(reader, tmp_path / "encoder"))
    network = new_network(card).eval()
    Tagger(card, network, reader).save(tmp_path / "tagger")
    words = split_words(TEXTS)
    spans = find_spans(words)
    held = span_probabilities(network, words, spans, held_states(words, states(reader, words)))
    assert Tagger.load(tmp_path / "tagger").probabilities(words, spans) == pytest.approx(held, abs=1e-3)
    Encoder.create(tmp_path / "encoder" / "tokenizer.json", hidden=16, layers=3, heads=2, seed=9).save(
        tmp_path / "encoder"
    )
    with pytest.raises(ValueError, match="another encoder than the tagger was trained with"):
        Tagger.load(tmp_path / "tagger")
    (tmp_path / "encoder").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"tagger.json: its encoder is not there"):
        Tagger.load(tmp_path / "tagger")


def test_phrases_have_the_mean_of_their_words() -> None:
    words = split_words(["red lamp", "red desk"])
    spans = find_spans(words)
    table = np.array([[1.0, 0], [0, 1], [3, 0], [0, 0]], dtype=np.float16)  # red, lamp, red, desk
    known = phrases_of(words, spans, ["red", "red lamp"])
    found = phrase_means(spans, np.array([known["red lamp"], known["red"]]), table)
    assert found.tolist() == [[0.5 - 1, 0.5 - 0.25], [2.0 - 1, 0 - 0.25]]
