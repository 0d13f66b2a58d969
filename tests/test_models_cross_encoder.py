"""Two texts through one encoder: tokens, cutting, the same numbers whatever is read beside, and the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from goodrate.models.cross_encoder import HEAD_FILE, CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.models.precision import autocast

torch.set_num_threads(1)
WORDS = ("red", "blue", "lamp", "desk", "chair", "oak", "steel", "for", "a", "without", "cable")
SIZE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "initializer_range": 0.2,
}  # fmt: skip


def bert_folder(folder: Path, family: str = "bert", segments: bool = True) -> Path:
    """A random encoder whose tokenizer marks pairs: [CLS] a [SEP] b [SEP], as BERT's, or <s> a </s></s> b </s>."""
    first, last = ("[CLS]", "[SEP]") if family == "bert" else ("<s>", "</s>")
    vocabulary = {word: place for place, word in enumerate(["[PAD]", first, last, "[UNK]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    between = f"{last}:0" if family == "bert" else f"{last} {last}"
    second = "$B:1 [SEP]:1" if segments and family == "bert" else f"$B {last}"
    words.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {between} {second}", special_tokens=[(first, 1), (last, 2)]
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": first, "sep_token": last}
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if family == "bert" else ["input_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_input_names=inputs, **named)
    torch.manual_seed(0)
    rows = {**SIZE, "vocab_size": len(vocabulary), "pad_token_id": 0}
    network: Any = {
        "bert": lambda: BertModel(BertConfig(**rows, max_position_embeddings=64), add_pooling_layer=False),
        "roberta": lambda: RobertaModel(RobertaConfig(**rows, max_position_embeddings=66), add_pooling_layer=False),
        "mpnet": lambda: MPNetModel(MPNetConfig(**rows, max_position_embeddings=66)),
    }[family]()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cross_encoder(folder: Path, outputs: int = 4, max_tokens: int = 24, precision: str = "fp32") -> CrossEncoder:
    return CrossEncoder(Encoder.load(bert_folder(folder), precision=precision), outputs, max_tokens, seed=1).eval()


def test_tokens_of_a_pair_by_hand(tmp_path: Path) -> None:
    model = cross_encoder(tmp_path, max_tokens=14)
    whole, cut, none = model.tokenize(
        ["red lamp", "red lamp", "a red lamp for a desk"], ["blue desk", "chair " * 30, "lamp"]
    )
    # [CLS] red lamp [SEP] blue desk [SEP]
    assert whole is not None and whole.token_ids == (1, 4, 6, 2, 5, 7, 2)
    assert whole.segments == (0, 0, 0, 0, 1, 1, 1) and whole.of_text == (0, 1, 1, 0, 2, 2, 0) and not whole.cut
    assert cut is not None and cut.token_ids == (1, 4, 6, 2, *[8] * 9, 2) and cut.cut
    assert none is None  # 14 less 3 marks less 6 words of the query leaves 5 tokens: fewer than the 8 that it takes
    assert model.tokenize([], []) == []


@pytest.mark.parametrize(
    ("family", "product"), [("bert", True), ("bert", False), ("roberta", True), ("mpnet", True)]
)  # fmt: skip
def test_the_numbers_are_those_of_the_network_itself(family: str, product: bool, tmp_path: Path) -> None:
    """Of each family with its own marks; segments where it knows them."""
    encoder = Encoder.load(bert_folder(tmp_path, family), precision="fp32")
    model = CrossEncoder(encoder, 3, 24, seed=1, product=product).eval()
    queries, items = ["red lamp", "lamp without cable"], ["lamp red steel", "oak desk"]
    given = encoder.tokenizer(queries, items, padding=True, return_tensors="pt")
    assert ("token_type_ids" in given) == (family == "bert")
    with torch.no_grad():
        states = encoder.network(**given).last_hidden_state
        rows = []
        for place, query in enumerate(queries):
            ids = given["input_ids"][place].tolist()
            length = sum(given["attention_mask"][place].tolist())
            end = 1 + len(query.split())  # behind the first mark and the query's words, one token each
            item = [t for t in range(end, length) if ids[t] not in (1, 2)]
            first, second = states[place, 1:end].mean(0), states[place, item].mean(0)
            alike = 32 * first * second / (first.norm() * second.norm())  # the mean of its 32 numbers: the cosine
            rows.append(torch.cat([states[place, :length].mean(0), *([alike] if product else [])]))
        expected = model.head(torch.stack(rows))
    np.testing.assert_allclose(model.numbers(model.tokenize(queries, items)), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pair_has_its_numbers_whatever_is_read_beside_it(precision: str, tmp_path: Path) -> None:
    model = cross_encoder(tmp_path, max_tokens=64, precision=precision)
    items = [f"lamp {'red steel ' * n}" for n in range(24)]
    queries = ["red lamp"] * 12 + ["lamp without a cable"] * 12
    tokens = model.tokenize(queries, items)
    together = model.numbers(tokens)
    alone = np.concatenate([model.numbers([one]) for one in tokens])
    turned = model.numbers(tokens[::-1])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-4)
    np.testing.assert_allclose(turned, together, atol=1e-4)
    assert float(np.abs(together - together[0]).max()) > 1e-2  # pairs differ by more than that
    gap = model.numbers([tokens[0], None, tokens[1]])
    assert np.isnan(gap[1]).all() and not np.isnan(gap[[0, 2]]).any()


def test_a_batch_is_as_differentiable_as_it_is_served(tmp_path: Path) -> None:
    model = cross_encoder(tmp_path)
    tokens = [one for one in model.tokenize(["red lamp", "desk"], ["lamp steel red", "oak"]) if one is not None]
    model.train()  # dropout of the head; the networks above have their own, too
    with autocast("fp32", "cpu"):
        model(model.collate(tokens)).sum().backward()
    assert all(weight.grad is not None for weight in model.head.parameters())
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.network.parameters())
    served = model.numbers(tokens)
    assert model.training and np.array_equal(served, model.numbers(tokens))


def test_a_folder_goes_there_and_back_and_what_is_broken_is_named(tmp_path: Path) -> None:
    model = cross_encoder(tmp_path / "start")
    model.save(tmp_path / "out")
    tokens = model.tokenize(["red lamp"], ["lamp red"])
    again = CrossEncoder.load(tmp_path / "out", 4, 24, precision="fp32")
    np.testing.assert_array_equal(again.numbers(tokens), model.numbers(tokens))
    assert again.tokenize(["red lamp"], ["lamp red"]) == tokens
    assert not list((tmp_path / "out").glob("*.bin")) and (tmp_path / "out" / HEAD_FILE).is_file()
    with pytest.raises(ValueError, match=r"head.safetensors has .*\(4, 64\).*; expected .*\(3, 32\).*, or twice the"):
        CrossEncoder.load(tmp_path / "out", 3, 24)
    with pytest.raises(ValueError, match="max_tokens 65: expected 1 to 64, what the encoder reads"):
        CrossEncoder.load(tmp_path / "out", 4, 65)
    head = tmp_path / "out" / HEAD_FILE
    head.write_bytes(head.read_bytes()[:50])
    with pytest.raises(ValueError, match="head.safetensors: not a whole safetensors file"):
        CrossEncoder.load(tmp_path / "out", 4, 24)
    head.unlink()
    with pytest.raises(FileNotFoundError, match="head.safetensors: no such file; the head of the cross-encoder"):
        CrossEncoder.load(tmp_path / "out", 4, 24)


def test_a_new_head_follows_from_the_seed(tmp_path: Path) -> None:
    encoder = Encoder.load(bert_folder(tmp_path))
    torch.manual_seed(5)
    first = CrossEncoder(encoder, 4, 24, seed=3).head.weight
    assert torch.equal(first, CrossEncoder(encoder, 4, 24, seed=3).head.weight)
    assert not torch.equal(first, CrossEncoder(encoder, 4, 24, seed=4).head.weight)
