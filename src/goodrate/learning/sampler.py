"""Who writes the completions of a training's prompts: the policy itself, or a server that is given its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from goodrate.models.decoding import Completion


class Sampler(Protocol):
    """Continues prompts. models.causal_lm.CausalLM is one, with the weights that it has at the moment."""

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop_token_id: int | None, temperature: float = 0.0,
        seed: int | Sequence[int] = 0, batch_size: int = 64,
    ) -> list[Completion]:  # fmt: skip
        """A completion a prompt, in order: token ids with the stop token, and log softmax(logits / temperature) of
        each without any filter. seed: one a prompt, or one for all.
        """
        ...


@runtime_checkable
class TakesWeights(Protocol):
    """A sampler with weights of its own."""

    def take_weights(self) -> None:
        """Have the policy's weights as they are at this moment. All processes of a run call it."""
        ...
