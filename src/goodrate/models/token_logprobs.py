"""Log probabilities of chosen tokens from final states, without a tensor of all logits.

A batch of completions has millions of logits. Made whole, they are written and read half a dozen times, and a head over
152,000 words needs a gigabyte for 1,700 tokens. Here a tile, all rows by some words of the vocabulary, goes through
head, softmax and entropy at once; the tiles' sums are joined at the end. A tile of words touches its own rows of the
head alone, so the head's gradient is written once, whatever the tiles are. What the backward pass needs is the tiles'
probabilities: they are kept while they fit a budget of bytes, and the others are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goodrate.models.head import head_logits, tiled_head

TILE = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}  # bytes of a tile: few enough that threads seldom wait for one another
KEPT = 512 * 2**20  # bytes of probabilities that a forward pass keeps for its backward pass
NARROWEST = 256  # words in a tile, however many rows there are


@dataclass(frozen=True)
class _How:
    """softmax(cap * tanh(product / cap) / temperature), products in `exact` or autocast's precision `low`."""

    temperature: float
    cap: float | None
    low: torch.dtype | None
    exact: bool

    def logits(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Float32 logits (N, W) of some words, before the temperature."""
        if self.low and not self.exact:
            states, weight, bias = states.to(self.low), weight.to(self.low), None if bias is None else bias.to(self.low)
        with _fast_products(states.device, self.low is not None):
            logits = torch.nn.functional.linear(states, weight, bias)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


def token_logprobs(
    network: Any, states: Tensor, ids: Tensor, temperature: float, exact: bool = True
) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature) of ids (N,) from final states (N, D), and the softmax's entropy, both (N,).

    Float32. exact: the head in its own precision even under autocast, where a bf16 logit near 10 moves in steps of
    0.06 (on GPUs its products are then tf32); else in autocast's. The gradient's products run in autocast's precision.
    The entropy has no gradient. A head that is no plain matrix (an adapter on it) takes the long way.
    """
    head = tiled_head(network)
    if head is None:
        logits = head_logits(network, states, exact=exact).float() / temperature
        every = torch.log_softmax(logits, dim=-1)
        return every.gather(1, ids[:, None])[:, 0], -(every.exp() * every).sum(-1).detach()
    kind = states.device.type
    low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    states = head.before(states)
    with torch.autocast(kind, enabled=False):
        how = _How(temperature / head.scale, None if head.cap is None else head.cap / head.scale, low, exact)
        return _ChosenLogprobs.apply(states.to(head.weight.dtype), head.weight, head.bias, ids, how)


class _ChosenLogprobs(torch.autograd.Function):
    """d log p(i) / d logits = onehot(i) - p. The backward pass needs the p of the other tokens, tile by tile.

    The chosen token's own 1 - p(i) stands apart, in float32: rounded to bf16, a p near 1 would be 1.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, how: _How
    ) -> tuple[Tensor, Tensor]:
        keeps = any(ctx.needs_input_grad) and how.cap is None  # a cap's slope needs the logits themselves
        kept: list[Tensor] = []
        room, sums, means, chosen = KEPT, [], [], None
        for words in _tiles(states, weight):
            logits = how.logits(states, weight[words], None if bias is None else bias[words])
            logits = logits if how.temperature == 1 else logits.div_(how.temperature)
            inside, place = _inside(ids, words)
            own = logits.gather(1, place)[:, 0]
            chosen = own if chosen is None else torch.where(inside, own, chosen)
            p = torch.softmax(logits, -1)
            sums.append(logits.amax(-1) - p.amax(-1).log())
            means.append(logits.mul_(p).sum(-1))
            room -= p.numel() * (how.low or p.dtype).itemsize
            if keeps and room >= 0:
                kept.append(_without(p, inside, place).to(how.low or p.dtype))
        tile_totals = torch.stack(sums)
        total = tile_totals.logsumexp(0)
        entropy = total - ((tile_totals - total).exp_() * torch.stack(means)).sum(0)
        assert chosen is not None
        chosen = chosen - total
        ctx.whole = len(kept) == len(sums) == 1
        if ctx.whole:  # p - 1 of the chosen token can then stand in its place: four steps less in the backward pass
            kept[0].scatter_(1, ids[:, None], chosen.expm1()[:, None].to(kept[0].dtype))
        ctx.save_for_backward(states, weight, bias, ids, chosen, total, tile_totals, *kept)
        ctx.how = how
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return (*_gradients(ctx, gradient / ctx.how.temperature), None, None)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of states, weight and bias; None for one that needs none. Rows are scaled at the states, D wide, not at the
    probabilities, V wide.
    """
    states, weight, bias, ids, chosen, total, tile_totals, *kept = ctx.saved_tensors
    how, (wants_states, wants_weight, wants_bias, *_) = ctx.how, ctx.needs_input_grad
    low = how.low or weight.dtype
    to_states = torch.zeros_like(states, dtype=total.dtype) if wants_states else None
    to_weight = torch.empty_like(weight) if wants_weight else None
    to_bias = torch.empty_like(bias) if wants_bias and bias is not None else None
    to_chosen = gradient * -chosen.expm1()
    for number, words in enumerate(_tiles(states, weight)):
        if number < len(kept):
            p, scale = kept[number], -gradient * (tile_totals[number] - total).exp()
        else:
            logits = how.logits(states, weight[words], None if bias is None else bias[words])
            inside, place = _inside(ids, words)
            slope = None if how.cap is None else 1 - (logits / how.cap).square_()
            p, scale = _without(logits.div_(how.temperature).sub_(total[:, None]).exp_(), inside, place), -gradient
            if slope is not None:
                to_chosen = torch.where(inside, to_chosen * slope.gather(1, place)[:, 0], to_chosen)
                p = p.mul_(slope)
            p = p.to(low)
        if to_states is not None:
            to_states.addcmul_(scale[:, None], (p @ weight[words].to(low)).to(total.dtype))
        if to_weight is not None:
            _product_into(to_weight[words], p.T, (states * scale[:, None]).to(low))
        if to_bias is not None:
            to_bias[words] = p.T @ scale.to(low)
    if to_states is not None and not ctx.whole:
        to_states.addcmul_(to_chosen[:, None], weight[ids].to(total.dtype))
    if to_weight is not None and not ctx.whole:
        _add_rows(to_weight, ids, states * to_chosen[:, None])
    if to_bias is not None and not ctx.whole:
        _add_rows(to_bias, ids, to_chosen)
    return None if to_states is None else to_states.to(states.dtype), to_weight, to_bias


def _tiles(states: Tensor, weight: Tensor) -> Iterator[slice]:
    """The words of each tile."""
    room = TILE.get(states.device.type, TILE["cpu"]) // 4
    width = max(NARROWEST, room // max(1, len(states)))
    for start in range(0, len(weight), width):
        yield slice(start, min(start + width, len(weight)))


def _inside(ids: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Whether each token is one of a tile's words (N,), and its place among them (N, 1); any place where it is not."""
    inside = (ids >= words.start) & (ids < words.stop)
    return inside, (ids - words.start).clamp(0, words.stop - words.start - 1)[:, None]


def _without(p: Tensor, inside: Tensor, place: Tensor) -> Tensor:
    """Probabilities (N, W) with 0 at the chosen tokens, changed in place."""
    return p.scatter_(1, place, p.gather(1, place).masked_fill_(inside[:, None], 0.0))


def _product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out = left @ right, without a copy where the precisions are one."""
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def _add_rows(matrix: Tensor, rows: Tensor, values: Tensor) -> None:
    """matrix[rows] += values, rows that come twice twice, in an order that is always the same."""
    if matrix.is_cuda:
        matrix.index_put_((rows,), values.to(matrix.dtype), accumulate=True)
    else:
        matrix.index_add_(0, rows, values.to(matrix.dtype))


@contextmanager
def _fast_products(device: torch.device, wanted: bool) -> Iterator[None]:
    """tf32 products on GPUs where bf16 would do for the rest: ten times fp32's speed, steps of 0.005 near 10."""
    if device.type != "cuda" or not wanted:
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
