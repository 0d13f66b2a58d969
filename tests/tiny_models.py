"""Random models of a few thousand parameters, built in the test: what is tested is arithmetic, not skill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)  # fmt: skip

from goodrate.models.causal_lm import CausalLM

torch.set_num_threads(1)
CORPUS = [
    "query: red lamp for a desk\nitem: lamp red steel 40 cm\nanswer: 4\n",
    "query: blue chair\nitem: chair oak\nanswer: 2\n",
    "wants lamp ; color red must\nfound lamp ; color red\ncategory lamp : lamp same\n"
    "checks color match\nverdict exact\n",
    "1 2 3 4 facts: context:",
]


def tokenizer() -> Any:
    """Byte-level BPE over a few invented lines, with a pad and an end token."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet)
    words.train_from_iterator(CORPUS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")


def sentencepiece_tokenizer() -> Any:
    """BPE over letters with bytes to fall back on, spaces as "▁" and a start token, as Gemma has it."""
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.normalizer = normalizers.Replace(" ", "▁")
    splits = [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split("▁", "merged_with_next")]
    words.pre_tokenizer = pre_tokenizers.Sequence(splits)  # in training alone: no token spans words or lines
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<start_of_turn>", "<end_of_turn>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*specials[:5], *bytes_, *specials[5:]])
    words.train_from_iterator(CORPUS * 3, trainer)
    spec = json.loads(words.to_str())
    spec["model"]["byte_fallback"], spec["pre_tokenizer"] = True, None
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] in specials]
    words = Tokenizer.from_str(json.dumps(spec))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    words.decoder = decoders.Sequence(steps)
    words.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", words.token_to_id("<bos>"))]
    )
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **named)


def chat_template(strips: bool = True, system: bool = False) -> str:
    """A template as instruction-tuned models have it. strips: cuts spaces off messages. system: writes its own."""
    content = "message['content'] | trim" if strips else "message['content']"
    return (
        ("{{ '<start_of_turn>system\nHelp shoppers.<end_of_turn>\n' }}" if system else "")
        + "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ '<start_of_turn>' + message['role'] + '\n' }}{{ " + content + " }}{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    )


def network(family: str, vocabulary: int, seed: int = 0) -> Any:
    """A random network with init std 0.1, so that a fault shows in the logits."""
    torch.manual_seed(seed)
    size = {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 256, "initializer_range": 0.1}  # fmt: skip
    grouped = {**size, "num_key_value_heads": 2, "head_dim": 8}
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**grouped, tie_word_embeddings=True)).eval()
    if family in ("llama", "smollm"):
        return LlamaForCausalLM(LlamaConfig(**grouped, tie_word_embeddings=family == "smollm")).eval()
    if family == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**grouped, sliding_window=8, final_logit_softcapping=2.0)).eval()
    if family == "gemma3":
        kinds = ["sliding_attention", "full_attention"]
        return Gemma3ForCausalLM(Gemma3TextConfig(**grouped, sliding_window=8, layer_types=kinds)).eval()
    if family == "phi":
        return PhiForCausalLM(PhiConfig(**size)).eval()
    return BertLMHeadModel(BertConfig(**size, is_decoder=True)).eval()


def causal_lm(family: str = "qwen3", seed: int = 0) -> CausalLM:
    """A random causal LM in fp32 with the tokenizer above."""
    words = tokenizer()
    return CausalLM(network(family, len(words), seed), words, precision="fp32")


def tokenizer_file(folder: Path) -> Path:
    """The tokenizer above as a tokenizer.json."""
    path = folder / "tokenizer.json"
    path.write_text(tokenizer().backend_tokenizer.to_str(), encoding="utf-8")
    return path
