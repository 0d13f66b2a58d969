"""Log probabilities of completions, each prompt computed once for all of its completions, with gradient.

Four ways to the same numbers (DESIGN section 4; papers' tools repeat the prompt):

plain    every completion behind its own copy of the prompt: the reference, and what any model takes.
split    the prompts run once, and their keys stay where they are: see shared_prefix. The default.
cache    the prompts run once, their key-value cache is copied to each completion's row: for other attention than sdpa.
packed   one row [prompt | completion | completion ...] under a block mask, completions counting on from the prompt's
         positions: for gradient checkpointing, which silently drops a cache.

All feed a completion without its last token, whose successor nobody asks for, and read the first token's probability
off the prompt's last state.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from goodrate.models.cached_forward import cached_states
from goodrate.models.label_forward import pad_right
from goodrate.models.shared_prefix import SharedPrefix, can_attend, prefill, states_behind
from goodrate.models.token_logprobs import token_logprobs

Sharing = Literal["plain", "cache", "packed", "split"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletionBatch:
    """P prompts and N completions behind them.

    prompts: P tuples of token ids. row: (N,) the prompt of each completion. ids: (N, T) completion tokens, padded on
    the right. mask: (N, T) bool, the tokens that are scored.
    """

    prompts: Sequence[tuple[int, ...]]
    row: Tensor
    ids: Tensor
    mask: Tensor


def completion_states(network: Any, batch: CompletionBatch, sharing: Sharing) -> Tensor:
    """The states (N, T, D) from which each completion token is predicted."""
    ways = {"plain": _plain, "cache": _cached, "packed": _packed, "split": _split}
    return ways[sharing](network, batch)


def completion_logprobs(
    network: Any, batch: CompletionBatch, temperature: float = 1.0, sharing: Sharing = "cache"
) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature) of every completion token, and the entropy of that softmax (no gradient).

    Both (N, T) float32, 0 outside the mask. Logits are computed at masked-in positions only: see token_logprobs.
    """
    states = completion_states(network, batch, sharing)
    chosen, entropy = token_logprobs(network, states[batch.mask], batch.ids[batch.mask], temperature)
    empty = torch.zeros(batch.mask.shape, dtype=chosen.dtype, device=chosen.device)
    return empty.masked_scatter(batch.mask, chosen), empty.masked_scatter(batch.mask, entropy)


def _lengths(batch: CompletionBatch) -> Tensor:
    return torch.tensor([len(prompt) for prompt in batch.prompts], device=batch.ids.device)


def _plain(network: Any, batch: CompletionBatch) -> Tensor:
    width = batch.ids.shape[1]
    device = batch.ids.device
    rows = batch.row.tolist()
    fed = batch.ids[:, :-1].tolist()
    ids = pad_right([(*batch.prompts[p], *tokens) for p, tokens in zip(rows, fed, strict=True)], 0, device)
    states = network.base_model(input_ids=ids, use_cache=False).last_hidden_state
    first = _lengths(batch)[batch.row] - 1
    where = first[:, None] + torch.arange(width, device=device)
    return states.gather(1, where[..., None].expand(-1, -1, states.shape[-1]))


def _split(network: Any, batch: CompletionBatch) -> Tensor:
    read = prefill(network, batch.prompts, 0, batch.ids.device)
    if batch.ids.shape[1] == 1:
        return read.last[batch.row][:, None]
    states = states_behind(network, SharedPrefix(read, batch.row), batch.ids[:, :-1], read.lengths[batch.row])
    return torch.cat([read.last[batch.row][:, None], states], dim=1)


def _cached(network: Any, batch: CompletionBatch) -> Tensor:
    device = batch.ids.device
    read = prefill(network, batch.prompts, 0, device)
    fed = batch.ids[:, :-1]
    if fed.shape[1] == 0:
        return read.last[batch.row][:, None]
    read.cache.batch_select_indices(batch.row)
    later = torch.arange(fed.shape[1], device=device)
    states = cached_states(
        network,
        read.cache,
        input_ids=fed,
        attention_mask=torch.cat([read.seen[batch.row], torch.ones_like(fed)], dim=1),
        position_ids=read.lengths[batch.row][:, None] + later,
    )
    return torch.cat([read.last[batch.row][:, None], states], dim=1)


def _packed(network: Any, batch: CompletionBatch) -> Tensor:
    device, width = batch.ids.device, batch.ids.shape[1] - 1
    members = [(batch.row == p).nonzero()[:, 0] for p in range(len(batch.prompts))]
    fed = batch.ids[:, :-1].tolist()
    rows, blocks, places = [], [], []
    for prompt, rollouts in zip(batch.prompts, members, strict=True):
        rows.append([*prompt, *(token for r in rollouts.tolist() for token in fed[r])])
        blocks.append([0] * len(prompt) + [1 + i for i in range(len(rollouts)) for _ in range(width)])
        places.append([*range(len(prompt)), *[len(prompt) + t for _ in rollouts for t in range(width)]])
    ids, block, place = (pad_right(part, fill, device) for part, fill in ((rows, 0), (blocks, -1), (places, 0)))
    states = network.base_model(
        input_ids=ids, attention_mask=_block_mask(network, block), position_ids=place, use_cache=False
    ).last_hidden_state
    result = states.new_empty(len(batch.row), width + 1, states.shape[-1])
    for p, rollouts in enumerate(members):
        start = len(batch.prompts[p])
        own = states[p, start : start + len(rollouts) * width].view(len(rollouts), width, states.shape[-1])
        result = result.index_copy(0, rollouts, torch.cat([states[p, start - 1].expand(len(rollouts), 1, -1), own], 1))
    return result


def _block_mask(network: Any, block: Tensor) -> Tensor:
    """Additive mask (P, 1, L, L): a token sees what stands before it in the prompt (block 0) and in its own block."""
    order = torch.arange(block.shape[1], device=block.device)
    allowed = (block[:, None, :] == block[:, :, None]) | (block[:, None, :] == 0)
    allowed = allowed & (order[None, :] <= order[:, None])
    dtype = next(network.parameters()).dtype
    return torch.zeros(allowed.shape, dtype=dtype, device=block.device).masked_fill(~allowed, torch.finfo(dtype).min)[
        :, None
    ]


def choose_sharing(network: Any, batch: CompletionBatch, wanted: Sharing | None = None) -> Sharing:
    """The way that gives this network's own values and gradients; tried on a real batch, without autocast.

    wanted: None = packed under gradient checkpointing, else split, else cache. Falls back to plain, with a warning that
    says why.
    """
    checkpointed = _checkpointed(network)
    usual: list[Sharing] = ["packed"] if checkpointed else ["split", "cache"] if can_attend(network) else ["cache"]
    for chosen in [wanted] if wanted else usual:
        problem = _problem(network, batch, chosen, checkpointed)
        if problem is None:
            return chosen
        log.warning("%s: %s sharing does not fit (%s)", type(network).__name__, chosen, problem)
    log.warning("%s: each prompt is copied", type(network).__name__)
    return "plain"


def _problem(network: Any, batch: CompletionBatch, way: Sharing, checkpointed: bool) -> str | None:
    """Why a way does not do; None when it does."""
    if way == "plain":
        return None
    if way == "split" and not can_attend(network):
        return f"attention {network.config._attn_implementation!r}"
    if way in ("split", "cache") and checkpointed:
        return "gradient checkpointing drops the cache"
    training = network.training
    network.eval()  # with dropout two forwards differ; checkpointing is then off too
    try:
        return _difference(network, batch, way)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        network.train(training)


def _checkpointed(network: Any) -> bool:
    """Whether activations are recomputed in the backward pass; transformers 5 has a new name for it."""
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")  # of transformers 5 and before
    return next((bool(getattr(network, name)) for name in names if hasattr(network, name)), False)


def _difference(network: Any, batch: CompletionBatch, sharing: Sharing, tolerance: float = 1e-3) -> str | None:
    """What differs from the plain forward, in values or gradients; None when nothing does."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    found = []
    with torch.enable_grad(), torch.autocast(batch.ids.device.type, enabled=False):
        for way in ("plain", sharing):
            values, _ = completion_logprobs(network, batch, sharing=way)  # type: ignore[arg-type]
            # Squares give each token its own weight: a sum would hide tokens that were exchanged.
            gradients = torch.autograd.grad(values.square().sum(), parameters, allow_unused=True)
            flat = [g.detach().float().flatten() for g in gradients if g is not None]
            found.append((values.detach(), torch.cat(flat) if flat else values.new_zeros(1)))
    (values, gradient), (other_values, other_gradient) = found
    gap = float((values - other_values).abs().max())
    if gap > tolerance * max(1.0, float(values.abs().max())):
        return f"log probabilities differ by {gap:.2g}"
    if other_gradient.shape != gradient.shape:
        return "gradients reach other weights"
    relative = float((gradient - other_gradient).norm() / gradient.norm().clamp(min=1e-30))
    return None if relative <= tolerance else f"gradients differ by {relative:.2g} of their norm"
