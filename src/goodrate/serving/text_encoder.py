"""The encoder of an index as a service: vectors of any texts, as queries or as items."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

BATCH = 32  # texts for which searches wait


class TextEncoder:
    """name: what clients call it. Safe to call from many threads."""

    def __init__(self, name: str, encoder: Any) -> None:
        """encoder: gives vectors (N, D) of queries and of items; one that has turns (retrieval.query_encoder)."""
        self.name, self._encoder = name, encoder
        # Tokenizers refuse to be used by two threads at once, and searches use the encoder's own.
        self._tokenizer = copy.deepcopy(getattr(encoder, "tokenizer", None))
        self._counting = threading.Lock()

    def vectors(self, texts: Sequence[str], query: bool, dimensions: int | None) -> np.ndarray:
        """L2-normalised vectors (N, D) float32. dimensions: keep the first floats alone; None = all.

        Searches take their turns between batches. Raises ValueError when the encoder's vectors are shorter.
        """
        longest = int(self._encoder.dimension)
        if dimensions is not None and dimensions > longest:
            raise ValueError(f"dimensions {dimensions}: the vectors of this encoder have {longest}; ask for fewer")
        encode = self._encoder.encode_queries if query else self._encoder.encode_items
        parts = []
        for start in range(0, len(texts), BATCH):
            parts.append(np.asarray(encode(list(texts[start : start + BATCH])), dtype=np.float32))
        vectors = np.concatenate(parts)
        if dimensions is None or dimensions == longest:
            return vectors
        kept = vectors[:, :dimensions]
        return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)

    def tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have, before the encoder cuts them; 0 where it has no tokenizer to count with."""
        if self._tokenizer is None:
            return 0
        with self._counting:
            rows = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return sum(len(row) for row in rows)
