"""What a judge needs of a language model: token ids, label logits behind shared prefixes, completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from goodrate.models.decoding import Completion

Prompt = str | tuple[str, str] | list[int]  # a text, (shared prefix, suffix), or token ids


class LanguageModel(Protocol):
    """The seam between judges and models: CausalLM is the one for Hugging Face folders, text alone."""

    @property
    def precision(self) -> str:
        """Of its arithmetic; a part of a judge's identity."""
        ...

    @property
    def max_length(self) -> int | None:
        """The most tokens of prompt and completion together; None where it is not known."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        ...

    def encode_pair(self, prefix: str, suffix: str) -> list[int]:
        """Token ids of two parts, with what stands around every prompt, tokenised apart and joined."""
        ...

    def label_logits(self, prompts: Sequence[Prompt], label_token_ids: Sequence[int]) -> np.ndarray:
        """Logits (N, L) float32 of the label tokens as the next token of each prompt."""
        ...

    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop_token_id: int | None
    ) -> list[Completion]:  # fmt: skip
        """Continue each prompt greedily. Raises ValueError for a prompt that leaves no room."""
        ...
