"""An encoder for searching: one query at a time, on one thread."""

from __future__ import annotations

import numpy as np

from goodrate.retrieval.indexing import ItemEncoder


class SingleQueryEncoder:
    """An encoder whose queries are read on one torch thread: several get into each other's way on a busy machine.

    A single query takes 12 ms on one thread; four took 600 ms on a busy machine. The number of threads is set for the
    call only: judges' batches and indexing use all of them.
    """

    def __init__(self, encoder: ItemEncoder) -> None:
        self._encoder = encoder
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension
        self.tokenizer = getattr(encoder, "tokenizer", None)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of queries."""
        from goodrate.models.precision import torch_threads

        with torch_threads(1):
            return self._encoder.encode_queries(texts)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of items."""
        return self._encoder.encode_items(texts)
