"""Hard negatives: items that a search finds for a query and that nobody is known to call good."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from goodrate.learning.source import seed_of

Mine = Callable[[], Mapping[str, Sequence[str]]]  # query -> item ids that a search finds for it, best first


class HardNegatives:
    """What was mined, and draws from it. A draw depends on what was mined, the query and the update's number alone."""

    def __init__(self, mine: Mine, per_pair: int, seed: int, every: int = 0) -> None:
        """mine: asked before the first update, and again before every update that `every` divides; every 0 = once."""
        self._mine, self._per_pair, self._seed, self._every = mine, per_pair, seed, every
        self._mined: dict[str, list[str]] | None = None

    def draw(self, queries: Sequence[str], known: Mapping[str, AbstractSet[str]], step: int) -> list[str]:
        """per_pair items of every query's finds, as many as there are, none that is known to answer the query."""
        if self.mines(step):
            self._mined = {query: list(item_ids) for query, item_ids in self._mine().items()}
        assert self._mined is not None
        drawn: list[str] = []
        for row, query in enumerate(queries):
            left = [item for item in self._mined.get(query, []) if item not in known[query]]
            rng = random.Random(seed_of(self._seed, step, "hard", row))
            drawn += rng.sample(left, min(self._per_pair, len(left)))
        return drawn

    def mines(self, step: int) -> bool:
        """Whether the draw of that update asks for new finds."""
        return self._mined is None or bool(self._every and step % self._every == 0)

    def state_dict(self) -> dict[str, Any]:
        """What was mined last."""
        return {"mined": self._mined}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._mined = state["mined"]
