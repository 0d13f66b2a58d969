"""Reduction: the only division in learning.

A term's contribution from one micro-batch is weight * sum(values * w) / D. The element weights w come from that
micro-batch's mask; the denominator D counts units over the whole update, so that the sum over micro-batches (and over
ranks) does not depend on how the update was split.

reduction       w of an element                              unit that D counts
mean            1                                            a masked-in element
token_mean      1                                            a masked-in token
sequence_mean   1 / tokens of its row                        a row with tokens
step_mean       1 / (tokens of its step * steps of its row)  a row with tokens
fixed_length    1                                            `length` per row with tokens
"""

from __future__ import annotations

import torch
from torch import Tensor

from goodrate.learning.records import MicroBatch, Term, Update


def element_weights(term: Term, batch: MicroBatch, counted: Tensor) -> Tensor:
    """w of every element, of the mask's shape; 0 outside the term's mask. counted: the mask that D counts."""
    mask = batch[term.mask]
    if term.reduction in ("mean", "token_mean", "fixed_length"):
        return mask.float()
    if term.reduction == "sequence_mean":
        return mask / counted.sum(dim=1, keepdim=True).clamp(min=1)
    return mask * _step_weights(term, batch, counted)


def _step_weights(term: Term, batch: MicroBatch, counted: Tensor) -> Tensor:
    """1 / (tokens of the token's step * steps of its row); tokens of step -1 form one step of their own."""
    assert term.steps is not None, f"term {term.name}: step_mean needs the key of the step ids"
    steps = batch[term.steps].masked_fill(~counted, -2)
    same = steps[:, :, None] == steps[:, None, :]  # (N, T, T); step_mean is for short rationales
    in_step = same.sum(dim=2).clamp(min=1)
    num_steps = (counted / in_step).sum(dim=1, keepdim=True).round().clamp(min=1)
    return counted / (in_step * num_steps)


def units(term: Term, counted: Tensor) -> int:
    """How many units of the denominator a micro-batch holds."""
    if term.reduction in ("mean", "token_mean"):
        return int(counted.sum())
    rows = int(counted.any(dim=1).sum())
    if term.reduction == "fixed_length":
        assert term.length, f"term {term.name}: fixed_length needs a length"
        return rows * term.length
    return rows


def counted_mask(term: Term, update: Update, batch: MicroBatch) -> Tensor:
    """The mask that the denominator counts: the term's own, or the union over all terms that say "union"."""
    if term.denominator == "arm":
        return batch[term.mask]
    masks = [batch[other.mask] for other in update.terms if other.denominator == "union"]
    return torch.stack(masks).any(dim=0)


def denominators(update: Update) -> dict[str, int]:
    """D of every term over the whole update. It needs only masks, so it is known before any forward."""
    return {
        term.name: sum(units(term, counted_mask(term, update, batch)) for batch in update.micro_batches)
        for term in (*update.terms, *update.diagnostics)
    }


def reduced(term: Term, values: Tensor, update: Update, batch: MicroBatch, denominator: int) -> Tensor:
    """This micro-batch's part of the term, weight included: a scalar. A term that selects nothing anywhere is 0."""
    mask = batch[term.mask]
    if values.shape != mask.shape:
        raise ValueError(f"term {term.name}: values {tuple(values.shape)} but mask {tuple(mask.shape)}")
    weights = element_weights(term, batch, counted_mask(term, update, batch))
    selected = torch.where(mask, values, torch.zeros_like(values))
    return term.weight * (selected * weights).sum() / max(denominator, 1)
