"""Updates from an endless stream of documents, resumable by the count of documents taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from goodrate.learning.records import Update
from goodrate.learning.source import bucketed_batches, seed_of
from goodrate.learning.token_examples import TokenExample, token_update

# stream(start) gives the documents from number `start` on; the same start gives the same documents.
DocumentStream = Callable[[int], Iterator[TokenExample]]


class DocumentSource:
    """Takes pools of documents from the stream and cuts each into shuffled batches of similar length."""

    def __init__(self, stream: DocumentStream, batch_size: int, max_tokens: int, seed: int, pool: int = 32) -> None:
        """pool: batches drawn at once. max_tokens: padded tokens of a micro-batch."""
        self._stream, self._batch_size, self._max_tokens, self._seed = stream, batch_size, max_tokens, seed
        self._pool_size = batch_size * pool
        self._taken, self._served = 0, 0  # documents before the current pool; batches of it already given
        self._documents: Iterator[TokenExample] | None = None
        self._pool: list[TokenExample] = []
        self._batches: list[list[int]] = []

    def next(self, step: int) -> Update | None:
        """The next batch; None when the stream ends. A last pool may be short."""
        if self._served >= len(self._batches):
            self._draw(self._taken + len(self._pool))
        if not self._pool:
            return None
        rows = self._batches[self._served]
        self._served += 1
        return token_update([self._pool[row] for row in rows], self._max_tokens)

    def _draw(self, start: int) -> None:
        if self._documents is None:
            self._documents = self._stream(start)
        self._pool = list(itertools.islice(self._documents, self._pool_size))
        self._taken, self._served = start, 0
        lengths = [len(document.token_ids) for document in self._pool]
        self._batches = bucketed_batches(lengths, self._batch_size, seed_of(self._seed, "pool", start), pool=32)

    def state_dict(self) -> dict[str, Any]:
        """Where in the stream and in the pool the next batch lies."""
        return {"taken": self._taken, "served": self._served, "batch_size": self._batch_size, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw the pool again and go to the batch. ValueError when batch size or seed differ."""
        if (state["batch_size"], state["seed"]) != (self._batch_size, self._seed):
            raise ValueError(f"the checkpoint was made with batch_size {state['batch_size']}, seed {state['seed']}")
        self._documents = None
        self._draw(int(state["taken"]))
        self._served = int(state["served"])
