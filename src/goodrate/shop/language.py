"""The tokenizer of the shop's language: byte-level BPE, so that it reads any text, with the taxonomy's words whole."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from goodrate.shop.curriculum import BASE_SEEDS, stream
from goodrate.shop.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
END = "<end>"
PAD = "<pad>"


def corpus(num_documents: int = 20_000) -> list[str]:
    """Texts of base worlds, and every taxonomy word often enough to become one token, with and without a space."""
    documents = itertools.islice(stream(BASE_SEEDS), num_documents)
    texts = ["".join(d.read) + d.say for d in documents]
    words = sorted({word for surface in load_taxonomy().words() for word in surface.split()})
    numbers = [str(n) for n in range(10, 100)]
    return texts + [f"{word}\n {word}" for word in words + numbers for _ in range(200)]


def train_tokenizer(num_documents: int = 20_000, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE. Deterministic: the corpus comes from BASE_SEEDS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(num_documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)
