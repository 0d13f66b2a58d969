"""An encoder for searching: one query at a time, on one thread."""

from __future__ import annotations

import numpy as np

from goodrate.models.worker import ENCODING, JUDGING, ModelWorker
from goodrate.retrieval.indexing import ItemEncoder

ITEMS_AT_ONCE = 64  # that are encoded while a query waits, where others search


class SingleQueryEncoder:
    """An encoder whose queries are read on one torch thread: several get into each other's way on a busy machine.

    A single query takes 12 ms on one thread; four took 600 ms on a busy machine. The number of threads is set for the
    call only: judges' batches and indexing use all of them. Safe from many threads: queries and items take turns, and
    queries go first.
    """

    def __init__(self, encoder: ItemEncoder) -> None:
        self._encoder, self.worker = encoder, ModelWorker()
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension
        self.tokenizer = getattr(encoder, "tokenizer", None)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of queries."""
        return self.worker.call(lambda: self._queries(texts), ENCODING)

    def _queries(self, texts: list[str]) -> np.ndarray:
        from goodrate.models.precision import torch_threads

        with torch_threads(1):
            return self._encoder.encode_queries(texts)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of items."""
        if not self.worker.started or len(texts) <= ITEMS_AT_ONCE:
            return self.worker.call(lambda: self._encoder.encode_items(texts), JUDGING)
        parts = [texts[at : at + ITEMS_AT_ONCE] for at in range(0, len(texts), ITEMS_AT_ONCE)]
        return np.concatenate([self.encode_items(part) for part in parts])
