"""What flows through learning: prompts, rollouts, rankings, rewards, loss terms and updates.

Shapes: P prompts, N rollouts, T tokens, S reasoning steps, K candidates, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from goodrate.ragged import Ragged

View = Literal["plain", "hint", "context"]
Unit = Literal["token", "pair", "group", "update"]
Reduction = Literal["mean", "token_mean", "sequence_mean", "step_mean", "fixed_length"]
# One micro-batch: tensors by name. The model reads what it needs, every term reads its mask and its constants.
MicroBatch = Mapping[str, Any]
Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Prompts:
    """Token ids of P prompts and which view of the example they show. All views follow one template order:

    [instruction][query][rules of the query][context] | [item][rules of the item][hint][answer]

    so that prompts of one query share their prefix up to the bar.
    """

    example_ids: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    view: View = "plain"

    def __post_init__(self) -> None:
        assert len(self.example_ids) == len(self.token_ids)

    def __len__(self) -> int:
        return len(self.example_ids)


@dataclass(frozen=True)
class Rollout:
    """N sampled completions, right-padded to T tokens.

    example_id: (N,) row in `sampled_under`. group: (N,) rollouts compared with one another share an id; groups may be
    ragged. arm: (N,) which sampling arm (0 plain, 1 with hint or context). completion_ids: (N, T). mask: (N, T) bool,
    true on completion tokens. behaviour_logprobs: (N, T), unfiltered softmax at the sampling temperature, or None when
    no term needs them. finish_reason: N of "stop", "length".
    parsed: what the parser read from each completion, None where it failed.
    """

    example_id: Tensor
    group: Tensor
    arm: Tensor
    sampled_under: Prompts
    completion_ids: Tensor
    mask: Tensor
    behaviour_logprobs: Tensor | None
    finish_reason: tuple[str, ...]
    parsed: tuple[Any, ...]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        num = len(self.finish_reason)
        assert self.group.shape == self.arm.shape == self.example_id.shape == (num,) and len(self.parsed) == num
        assert self.completion_ids.shape == self.mask.shape and self.mask.dtype == torch.bool


@dataclass(frozen=True)
class Ranking:
    """The top K candidates of P queries, sampled from the live index: the rollout of a retriever.

    query: (P,). candidates: (P, K) item positions. behaviour_logprobs: (P, K), log softmax of the scores over those K
    candidates at the policy temperature; None where a ranking serves one step: old = new.detach(). group: (P,).
    mask: (P, K) bool, false where a filter left fewer than K.
    """

    query: Tensor
    candidates: Tensor
    behaviour_logprobs: Tensor | None
    group: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reward:
    """Rewards of N rollouts. NaN = the grader could not score: out of mean and spread, advantage 0.

    outcome: (N,). correct: (N,) 1, 0 or NaN: difficulty filters and gates read this and never the outcome.
    steps: (N, S) or None; a NaN step gives no step credit and keeps the outcome. failed: (N,) bool, a failure of the
    policy (unparsed, cut off): outcome 0, counted apart. parts: named summands for the log.
    """

    outcome: Tensor
    correct: Tensor
    failed: Tensor
    steps: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many rollouts were right, wrong, failed by the policy and unscorable; they add up to N."""
        unscorable = self.outcome.isnan() & ~self.failed
        right = self.correct.eq(1) & ~self.failed & ~unscorable
        wrong = ~(self.failed | unscorable | right)
        named = {"right": right, "wrong": wrong, "failed": self.failed, "unscorable": unscorable}
        return {name: int(rows.sum()) for name, rows in named.items()}


@dataclass(frozen=True)
class Term:
    """One summand of the loss: weight * reduce(values), values = loss(outputs, micro_batch), never reduced by itself.

    mask: key of a bool tensor in the micro-batch, of the shape of the values; it selects. denominator: "arm" divides
    by what this term's own mask holds; "union" by what the masks of all union terms of the update hold together.
    unit: what may not be torn apart by a split into micro-batches ("update": the term must see the whole update).
    steps: key of the step ids, for step_mean. length: the constant of fixed_length.
    """

    name: str
    loss: Callable[[Outputs, MicroBatch], Tensor]
    mask: str
    reduction: Reduction = "mean"
    denominator: Literal["arm", "union"] = "arm"
    weight: float = 1.0
    unit: Unit = "token"
    steps: str | None = None
    length: int | None = None


@dataclass(frozen=True)
class Update:
    """One optimizer step: micro-batches and the terms computed on each.

    facts: numbers for the log. diagnostics: terms that are reduced and logged the same way and are no part of the loss.
    """

    micro_batches: Sequence[MicroBatch]
    terms: Sequence[Term]
    facts: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Sequence[Term] = ()

    def __post_init__(self) -> None:
        if not self.micro_batches or not self.terms:
            raise ValueError("an update needs at least one micro-batch and one term")
        names = [term.name for term in (*self.terms, *self.diagnostics)]
        if len(set(names)) < len(names):
            raise ValueError(f"terms of one update need distinct names, got {names}")
        whole = [term.name for term in self.terms if term.unit == "update"]
        if whole and len(self.micro_batches) > 1:
            raise ValueError(f"term {whole[0]!r} must see the whole update, not {len(self.micro_batches)} parts of it")


def on_device(update: Update, device: torch.device) -> Update:
    """The update with its tensors on the device."""
    if device.type == "cpu":
        return update

    return replace(update, micro_batches=[_moved(batch, device) for batch in update.micro_batches])


def _moved(batch: MicroBatch, device: torch.device) -> dict[str, Any]:
    """Its tensors and ragged columns on the device, those of parts (a tokenizer's ids and mask) too."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor | Ragged):
            return value.to(device)
        return _moved(value, device) if isinstance(value, Mapping) else value

    return {name: one(value) for name, value in batch.items()}
