"""A cap on what a paid endpoint may cost: tokens, money, or both."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Prices:
    """Money per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt: int, completion: int) -> float:
        """Money for some tokens.

        >>> Prices(prompt=2.0, completion=8.0).cost(500_000, 250_000)
        3.0
        """
        return (prompt * self.prompt + completion * self.completion) / 1e6


class Budget:
    """Counts what is spent, for many threads. A request reserves what it may cost before it is sent.

    max_tokens: prompt and completion together; max_cost: money by `prices`; None = no cap. Raises ValueError for a cap
    on money without prices.
    """

    def __init__(
        self, max_tokens: int | None = None, max_cost: float | None = None, prices: Prices | None = None
    ) -> None:
        if max_cost is not None and (prices is None or not (prices.prompt or prices.completion)):
            raise ValueError("a cap on money needs the prices per million tokens")
        self.max_tokens, self.max_cost, self.prices = max_tokens, max_cost, prices or Prices()
        self.prompt = self.completion = 0
        self._reserved_prompt = self._reserved_completion = 0
        self._lock = threading.Lock()

    def reserve(self, prompt: int, completion: int) -> bool:
        """Whether a request of at most so many tokens still fits; if so they are held until `settle`."""
        with self._lock:
            after = (
                self.prompt + self._reserved_prompt + prompt,
                self.completion + self._reserved_completion + completion,
            )
            if self.max_tokens is not None and sum(after) > self.max_tokens:
                return False
            if self.max_cost is not None and self.prices.cost(*after) > self.max_cost:
                return False
            self._reserved_prompt += prompt
            self._reserved_completion += completion
            return True

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Give back a reservation (prompt, completion) and count what was used."""
        with self._lock:
            self._reserved_prompt -= reserved[0]
            self._reserved_completion -= reserved[1]
            self.prompt += used[0]
            self.completion += used[1]

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens spent."""
        return self.prompt + self.completion

    @property
    def cost(self) -> float:
        """Money spent; 0 without prices."""
        return self.prices.cost(self.prompt, self.completion)
