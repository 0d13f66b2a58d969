"""Vectors of texts by one encoder, kept while a judge that needs them is loaded, and shared between judges."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from goodrate.catalog.normal_form import composed_text

if TYPE_CHECKING:
    from goodrate.models.encoder import Encoder

REMEMBERED = 200_000  # item vectors that are kept


class TextVectors:
    """Of one encoder, from any thread."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._items: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def queries(self, queries: Sequence[str]) -> np.ndarray:
        """Vectors (Q, D) of queries."""
        return self.encoder.encode_queries([composed_text(query) for query in queries])

    def items(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (N, D) of item texts; those of the last REMEMBERED ones are kept."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._items]
            if len(self._items) + len(new) > REMEMBERED:
                self._items.clear()
                new = list(dict.fromkeys(texts))
            if new:
                self._items.update(zip(new, self.encoder.encode_items(new), strict=True))
            return np.stack([self._items[text] for text in texts])


_OPEN: WeakValueDictionary[tuple[str, str], TextVectors] = WeakValueDictionary()


def shared_vectors(encoder: Encoder) -> TextVectors:
    """Those that are open of an encoder with the same weights and precision, which stay as they are; else new ones."""
    key = (encoder.fingerprint, encoder.precision)
    found = _OPEN.get(key)
    return found if found is not None else _OPEN.setdefault(key, TextVectors(encoder))
