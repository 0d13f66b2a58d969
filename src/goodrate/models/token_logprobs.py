"""Log probabilities of chosen tokens from final states, without a tensor of all logits.

A batch of completions has millions of logits. Made whole, they are written and read half a dozen times, in blocks so
large that the allocator asks the system anew for each: half of an update's time at 8,192 words. Here a block of rows
that fits the processor's cache goes through head, softmax and entropy at once; only its probabilities are kept, and the
backward pass turns them into the gradient in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goodrate.models.head import head_logits, plain_head

BLOCK = 2**20  # logits in one block


def token_logprobs(network: Any, states: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature) of ids (N,) from final states (N, D), and the softmax's entropy, both (N,).

    Float32, the head in its own precision even under autocast: a bf16 logit near 10 moves in steps of 0.06. The
    gradient's products run in autocast's precision. The entropy has no gradient. Heads that do more than a linear map
    (soft caps, scales) take the long way.
    """
    head = plain_head(network)
    if head is not None:
        kind = states.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            weight, bias = head
            return _ChosenLogprobs.apply(states.to(weight.dtype), weight, bias, ids, temperature, low)
    logits = head_logits(network, states, exact=True).float() / temperature
    every = torch.log_softmax(logits, dim=-1)
    return every.gather(1, ids[:, None])[:, 0], -(every.exp() * every).sum(-1).detach()


class _ChosenLogprobs(torch.autograd.Function):
    """d log p(i) / d logits = onehot(i) - p: what the backward pass needs is p, block by block."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, temperature: float,
        low: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        wanted = any(ctx.needs_input_grad)
        chosen, entropy = torch.empty(len(ids), device=ids.device), torch.empty(len(ids), device=ids.device)
        rows = max(1, BLOCK // len(weight))
        kept = []
        for start in range(0, len(ids), rows):
            part = slice(start, start + rows)
            logits = torch.nn.functional.linear(states[part], weight, bias).float().div_(temperature)
            total = logits.logsumexp(-1)
            chosen[part] = logits.gather(1, ids[part, None])[:, 0] - total
            p = (logits - total[:, None]).exp_()
            entropy[part] = total - (logits.mul_(p)).sum(-1)
            if wanted:
                kept.append(p.to(low) if low else p)
        ctx.save_for_backward(states, weight, ids, *kept)
        ctx.temperature, ctx.low, ctx.has_bias = temperature, low, bias is not None
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, ids, *kept = ctx.saved_tensors
        wants_states, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        low = ctx.low or weight.dtype
        gradient = gradient / ctx.temperature
        to_states = torch.empty_like(states) if wants_states else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        to_bias = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device) if wants_bias else None
        low_weight, low_states, start = weight.to(low), states.to(low), 0
        for p in kept:
            part = slice(start, start + len(p))
            to_logits = p.to(low, copy=True).mul_(-gradient[part, None].to(low))
            to_logits.scatter_add_(1, ids[part, None], gradient[part, None].to(low))
            if to_states is not None:
                to_states[part] = to_logits @ low_weight
            if to_weight is not None:
                to_weight += to_logits.T @ low_states[part]
            if to_bias is not None:
                to_bias += to_logits.float().sum(0)
            start += len(p)
        return to_states, to_weight, to_bias, None, None, None
