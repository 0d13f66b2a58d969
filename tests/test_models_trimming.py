"""Trimmed vocabularies: the same tokens and logits for kept texts, others whole in smaller pieces, ids renumbered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from goodrate.api.trimming import Trimmed, trim
from goodrate.cli import trim as verb
from goodrate.models import trimming
from goodrate.models.causal_lm import CausalLM
from goodrate.models.chat_frame import chat_frame
from goodrate.models.trimmed_tokenizer import BytePairs
from goodrate.relevance.lm_judge import Card, LmJudge, write_lm_card
from goodrate.relevance.pairs import Pair, text_item
from tiny_models import causal_lm, chat_template, network, sentencepiece_tokenizer, tokenizer

TEXTS = ["query: red lamp for a desk", "item: lamp red steel 40 cm"]
SIDES = {"byte level": ("qwen3", tokenizer), "byte fallback": ("gemma3", sentencepiece_tokenizer)}


def saved(folder: Path, family: str = "qwen3", words: Any = None) -> CausalLM:
    words = words or tokenizer()
    model = CausalLM(network(family, len(words)), words, precision="fp32")
    model.save(folder)
    return model


def texts_file(folder: Path, lines: list[str] = TEXTS) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trimmed(
    folder: Path, family: str = "qwen3", words: Any = None, **options: Any
) -> tuple[CausalLM, CausalLM, Trimmed]:
    whole = saved(folder / "whole", family, words)
    done = trim(folder / "whole", [texts_file(folder)], folder / "out", **options)
    return whole, CausalLM.load(folder / "out", precision="fp32"), done


def by_hand(merges: list[tuple[str, str]], **options: Any) -> BytePairs:
    """A tokenizer of all bytes and the pieces that the merges make, in their order."""
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for piece in [*"abcd", *(a + b for a, b in merges)]:
        vocabulary.setdefault(piece, len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, **options))
    return BytePairs(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>"), "by hand")


def test_the_pieces_on_the_way_to_a_token_stay_and_no_others() -> None:
    # abcd is a, b, c, d -> ab -> ab, cd -> abcd; "bc" comes later in the list and is never on the way
    pairs = by_hand([("a", "b"), ("c", "d"), ("ab", "cd"), ("b", "c")])
    kept = pairs.with_pieces({pairs.vocab["abcd"]}) - set(range(257))
    assert {text for text, i in pairs.vocab.items() if i in kept} == {"a", "b", "c", "d", "ab", "cd", "abcd"}
    spec = pairs.cut(pairs.order(kept | set(range(257))))
    assert spec["model"]["merges"] == [["a", "b"], ["c", "d"], ["ab", "cd"]]
    again = Tokenizer.from_str(json.dumps(spec))
    assert again.encode("abcd").tokens == ["abcd"] and again.encode("bcab").tokens == ["b", "c", "ab"]


def test_a_token_that_no_merges_make_stays_alone() -> None:
    pairs = by_hand([("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")], ignore_merges=True)
    # a, b, c -> ab, c -> abc: the merge a + bc gives the same text and is not on the way
    assert pairs.with_pieces({pairs.vocab["abc"]}) == {pairs.vocab[text] for text in ("a", "b", "c", "ab", "abc")}
    pairs.vocab["dd"] = 999
    pairs._texts[999] = "dd"  # Llama 3 has such: a word that is looked up as a whole
    assert pairs.with_pieces({999}) == {999}


@pytest.mark.parametrize("side", SIDES)
def test_kept_texts_have_the_same_tokens_and_logits(side: str, tmp_path: Path) -> None:
    family, words = SIDES[side]
    whole, small, done = trimmed(tmp_path, family, words())
    before, after = done.vocabulary
    assert after < before == len(whole.tokenizer) and after == len(small.tokenizer) and done.share_kept == 1
    assert small.network.config.vocab_size == after == small.network.get_input_embeddings().num_embeddings
    names = small.tokenizer.convert_ids_to_tokens(range(after))
    places = whole.tokenizer.convert_tokens_to_ids(names)
    assert None not in places and len(set(places)) == after
    for text in TEXTS:
        old, new = whole.encode(text), small.encode(text)
        assert [places[i] for i in new] == old and small.tokenizer.decode(new) == text
        with torch.no_grad():
            expected = whole.network(torch.tensor([old])).logits[0][:, places]
            found = small.network(torch.tensor([new])).logits[0]
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6, rtol=1e-6)
        assert expected.std() > 0.01


@pytest.fixture(scope="module")
def small_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    made = {}
    for side, (family, words) in SIDES.items():
        whole, small, _ = trimmed(tmp_path_factory.mktemp("trim"), family, words())
        made[side] = whole.tokenizer, small.tokenizer
    return made


@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), min_size=1, max_size=30))
def test_any_other_text_is_read_whole_in_smaller_pieces(
    small_tokenizers: dict[str, tuple[Any, Any]], side: str, text: str
) -> None:
    whole, small = small_tokenizers[side]
    ids = small.encode(text, add_special_tokens=False)
    assert small.unk_token_id is None or small.unk_token_id not in ids
    assert small.decode(ids) == whole.decode(whole.encode(text, add_special_tokens=False))


def test_a_word_that_was_cut_falls_to_pieces(small_tokenizers: dict[str, tuple[Any, Any]]) -> None:
    for whole, small in small_tokenizers.values():
        before, after = (words.tokenize(" chair oak\n") for words in (whole, small))
        assert (
            len(after) > len(before)
            and small.decode(small.encode(" chair oak\n", add_special_tokens=False)) == " chair oak\n"
        )


def test_special_ids_are_renumbered_everywhere(tmp_path: Path) -> None:
    words = sentencepiece_tokenizer()
    model = CausalLM(network("gemma3", len(words)), words, precision="fp32")
    pad, end, start, turn = (words.convert_tokens_to_ids(t) for t in ("<pad>", "<eos>", "<bos>", "<end_of_turn>"))
    model.network.config.update({"pad_token_id": pad, "eos_token_id": [end, turn], "bos_token_id": start})
    model.network.generation_config.update(eos_token_id=[end, turn], suppress_tokens=[turn, words.vocab["▁chair"]])
    model.save(tmp_path / "whole")
    trim(tmp_path / "whole", [texts_file(tmp_path)], tmp_path / "out")
    small = CausalLM.load(tmp_path / "out")
    new = {name: small.tokenizer.convert_tokens_to_ids(name) for name in ("<pad>", "<eos>", "<bos>", "<end_of_turn>")}
    config, generation = small.network.config, small.network.generation_config
    assert config.eos_token_id == generation.eos_token_id == [new["<eos>"], new["<end_of_turn>"]]
    assert (config.pad_token_id, config.bos_token_id) == (new["<pad>"], new["<bos>"])
    assert new["<end_of_turn>"] != turn and generation.suppress_tokens == [new["<end_of_turn>"]]
    assert small.network.get_input_embeddings().padding_idx == new["<pad>"]
    assert small.tokenizer.encode("lamp")[0] == new["<bos>"]  # the post-processor writes an id of its own
    assert "<unused0>" in words.get_vocab() and "<unused0>" not in small.tokenizer.get_vocab()


def test_untied_heads_and_their_biases_are_cut_too(tmp_path: Path) -> None:
    for family in ("llama", "phi"):
        (tmp_path / family).mkdir()
        whole, small, done = trimmed(tmp_path / family, family)
        head = small.network.get_output_embeddings()
        assert head.weight is not small.network.get_input_embeddings().weight
        assert head.weight.shape[0] == head.out_features == done.vocabulary[1]
        assert (head.bias is not None) == (family == "phi")
        places = whole.tokenizer.convert_tokens_to_ids(small.tokenizer.convert_ids_to_tokens(range(len(head.weight))))
        assert torch.equal(head.weight, whole.network.get_output_embeddings().weight[places])


def test_a_trimmed_judge_gives_the_same_probabilities(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", "gemma3", sentencepiece_tokenizer())
    labels = tuple(whole.encode(digit)[0] for digit in "1234")
    stop = whole.tokenizer.eos_token_id
    start = (whole.tokenizer.bos_token_id,)
    card = Card(
        scale="four_level", label_token_ids=labels, stop_token_id=stop, max_new_tokens=9, start_token_ids=start
    )  # fmt: skip
    write_lm_card(tmp_path / "whole", card)
    (tmp_path / "whole" / "trained_on.json").write_text("{}")
    trim(tmp_path / "whole", [texts_file(tmp_path)], tmp_path / "out")
    assert (tmp_path / "out" / "trained_on.json").read_text() == "{}"
    pairs = [Pair("red lamp for a desk", text_item("lamp red steel 40 cm")), Pair("lamp", text_item("red"))]
    before, after = (LmJudge.load(tmp_path / name, precision="fp32").assess(pairs) for name in ("whole", "out"))
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)
    told = json.loads((tmp_path / "out" / "judge.json").read_text())
    small = CausalLM.load(tmp_path / "out")
    assert told["start_token_ids"] == [small.tokenizer.bos_token_id]
    assert told["label_token_ids"] == [small.encode(digit)[0] for digit in "1234"] != list(labels)
    assert told["stop_token_id"] == small.tokenizer.eos_token_id


def test_the_words_of_a_chat_template_stay(tmp_path: Path) -> None:
    words = sentencepiece_tokenizer()
    words.chat_template = chat_template(system=True).replace("Help shoppers.", "chair oak")
    _, small, _ = trimmed(tmp_path, "gemma3", words)
    frame = chat_frame(small.tokenizer)
    assert "chair oak" in frame.opening and "▁oak" in small.tokenizer.get_vocab()
    kept = [len(one.encode(frame.opening, add_special_tokens=False)) for one in (small.tokenizer, words)]
    assert kept[0] == kept[1]


def test_rare_tokens_go_with_min_count(tmp_path: Path) -> None:
    saved(tmp_path / "whole")
    lines = texts_file(tmp_path, ["lamp lamp", "red lamp", "chair"])  # lamp: 2 lines, red and chair: 1
    done = trim(tmp_path / "whole", [lines], tmp_path / "out", min_count=2)
    small = CausalLM.load(tmp_path / "out")
    assert len(small.encode(" lamp")) == 1 < len(small.encode(" chair")) and done.share_kept < 1


def test_every_source_is_read_in_its_own_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "whole")
    catalog, ratings = tmp_path / "items.csv", tmp_path / "ratings.csv"
    catalog.write_text("id,title,color\n7,LAMP Steel,red\n8,chair oak,\n")
    ratings.write_text("query,item_id,label\nblue chair,8,4\nblue chair,7,1\n")
    verb.trim(str(tmp_path / "whole"), [catalog, ratings], tmp_path / "out")
    card = json.loads((tmp_path / "out" / "trim.json").read_text())
    assert card["read_as"] == {str(catalog): "2 items", str(ratings): "1 cells"}
    assert f"{card['vocabulary'][1]:,}" in capsys.readouterr().out
    small = CausalLM.load(tmp_path / "out")
    assert len(small.encode(" lamp")) == len(small.encode(" chair")) == 1 < len(small.encode(" desk"))
    assert "100.00%" in (tmp_path / "out" / "README.md").read_text()


def test_the_same_again_does_nothing_and_anything_else_is_refused(tmp_path: Path) -> None:
    _, _, done = trimmed(tmp_path)
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert trim(tmp_path / "whole", [tmp_path / "texts.txt"], tmp_path / "out") == done
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"out holds another trimmed model \(min_count 1, not 2\)"):
        trim(tmp_path / "whole", [tmp_path / "texts.txt"], tmp_path / "out", min_count=2)
    with pytest.raises(ValueError, match="whole is there and holds no trimmed model"):
        trim(tmp_path / "whole", [tmp_path / "texts.txt"], tmp_path / "whole")


def test_what_cannot_be_trimmed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    lines = texts_file(tmp_path)
    plain = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    )
    letters = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])))
    for number, (words, told) in enumerate(((plain, "is WordLevel; expected BPE"), (letters, "no token for bytes"))):
        saved(tmp_path / str(number), words=words)
        with pytest.raises(ValueError, match=told):
            trim(tmp_path / str(number), [lines], tmp_path / "out")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "0"}')
    with pytest.raises(ValueError, match="is an adapter.*merge it first"):
        trim(tmp_path / "adapter", [lines], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such file: .*nothing.csv"):
        trim(tmp_path / "0", [tmp_path / "nothing.csv"], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "adapter", "texts.txt"]


def test_a_network_with_rows_for_tokens_elsewhere_is_refused() -> None:
    model = causal_lm()
    model.network.extra = torch.nn.Embedding(len(model.tokenizer), 2)
    with pytest.raises(ValueError, match=r"extra.weight has \d+ rows, as its vocabulary"):
        trimming.trim_network(model.network, trimming.Vocabulary((0, 1), trimming.Counter()), "m")


def test_a_trim_that_went_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "whole")
    monkeypatch.setattr(BytePairs, "with_pieces", lambda self, ids: set(ids))  # the pieces on the way are lost
    with pytest.raises(ValueError, match="reads other tokens in"):
        trim(tmp_path / "whole", [texts_file(tmp_path)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
