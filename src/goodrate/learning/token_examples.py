"""Token sequences with a loss on some of their tokens, and the model part that scores them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodrate.learning.losses import cross_entropy
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, split_by_tokens
from goodrate.models.token_logprobs import token_logprobs


@dataclass(frozen=True)
class TokenExample:
    """Token ids, and for each token the weight of its loss; 0 = only read. The first token is never predicted."""

    token_ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.weights) or len(self.token_ids) < 2:
            raise ValueError(f"{len(self.token_ids)} tokens, {len(self.weights)} weights; expected as many, at least 2")


def collate(examples: Sequence[TokenExample]) -> dict[str, Tensor]:
    """One right-padded micro-batch: input_ids (N, T), mask (N, T) bool on predicted tokens, weights (N, T)."""
    longest = max(len(example.token_ids) for example in examples)
    input_ids = torch.zeros(len(examples), longest, dtype=torch.long)
    weights = torch.zeros(len(examples), longest)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights[row, : len(example.weights)] = torch.tensor(example.weights)
    weights[:, 0] = 0.0
    return {"input_ids": input_ids, "mask": weights > 0, "weights": weights}


class TokenScorer(nn.Module):
    """forward: micro-batch -> {"logprobs": (N, T)}, log p(token | the tokens before it) where mask, 0 elsewhere.

    Logits are computed at masked-in positions only. Rows are padded on the right, where a causal network's real tokens
    cannot see: so no attention mask is passed, and the network must be causal.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        causal = self.network.get_base_model() if hasattr(self.network, "get_base_model") else self.network
        ids, predicted = batch["input_ids"], batch["mask"][:, 1:]
        hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
        scores, _ = token_logprobs(causal, hidden[:, :-1][predicted], ids[:, 1:][predicted], 1.0, exact=False)
        logprobs = torch.zeros(predicted.shape, dtype=scores.dtype, device=scores.device)
        return {"logprobs": F.pad(logprobs.masked_scatter(predicted, scores), (1, 0))}


def weighted_cross_entropy(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """Cross-entropy of every token times its weight; the denominator counts tokens, not weights."""
    return cross_entropy(outputs["logprobs"]) * batch["weights"]


LANGUAGE_TERM = Term("cross_entropy", weighted_cross_entropy, mask="mask", reduction="token_mean")


class Tokens(Protocol):
    """An example whose length is that of its tokens. Every other field is a row of numbers as well."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """What is read."""
        ...


E = TypeVar("E", bound=Tokens)


def in_parts(examples: Sequence[E], max_tokens: int) -> list[list[E]]:
    """The examples of an update, cut into micro-batches of at most max_tokens padded tokens."""
    lengths = [len(example.token_ids) for example in examples]
    return [[examples[row] for row in part] for part in split_by_tokens(range(len(examples)), lengths, max_tokens)]


def token_update(examples: Sequence[TokenExample], max_tokens: int) -> Update:
    """An update of the language term over these examples."""
    return Update([collate(part) for part in in_parts(examples, max_tokens)], [LANGUAGE_TERM])


def _fingerprint(examples: Sequence[Tokens]) -> str:
    """sha256 over all tokens and the numbers beside them."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(array("q", [len(example.token_ids), *example.token_ids]))
        for name, numbers in vars(example).items():
            if name != "token_ids":
                digest.update(array("d", numbers))
    return digest.hexdigest()


UpdateOf = Callable[[Sequence[Any], int], Update]


class TokenExampleSource:
    """Updates over a fixed list of examples, epoch by epoch, in batches of similar length."""

    def __init__(
        self, examples: Sequence[Any], batch_size: int, max_tokens: int, seed: int, epochs: int | None = None,
        update_of: UpdateOf = token_update,
    ) -> None:  # fmt: skip
        """examples: what update_of takes. max_tokens: padded, of a micro-batch; memory and speed, never the update."""
        self._examples, self._max_tokens, self._update_of = examples, max_tokens, update_of
        self._order = EpochOrder([len(example.token_ids) for example in examples], batch_size, seed, epochs)
        self._state = {"sha256": _fingerprint(examples), "seed": seed, "batch_size": batch_size}

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the examples."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch."""
        rows = self._order.rows(step)
        return None if rows is None else self._update_of([self._examples[row] for row in rows], self._max_tokens)

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on; the position is the update's number."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other data: ValueError naming what differs."""
        refuse_other_data(self._state, state)
