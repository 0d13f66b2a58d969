"""Logits of a few label tokens behind many prompts, the query's part computed once for all items of a query.

The prefix runs once with a KV cache, the cache is repeated over the rows, and the suffixes run behind it padded on the
right: causality keeps every real token clear of the pads, so no mask is needed. Exact in fp32 (DESIGN section 4).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from goodrate.models.cached_forward import cached_states
from goodrate.models.head import head_logits

IdPair = tuple[tuple[int, ...], tuple[int, ...]]  # prefix ids, suffix ids
# Rows in one forward: 100 were 1.4 times slower than 20 under bf16 on a CPU (notes/shared_prefix.md, section 5), 400
# 1.5 to 3.4 times faster on a GPU (docs/speed.md). Behind long prompts fewer: their keys are copied for each row.
CHUNK, GPU_CHUNK, GPU_TOKENS = 20, 400, 80_000
MIN_SHARED = 4  # smaller groups run faster together with other queries than alone behind a shared prefix


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Tensor:
    """Token ids (N, T) int64, short rows filled up on the right."""
    width = max(len(row) for row in rows)
    padded = [list(row) + [pad_id] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)


def last_hidden(states: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """The state (N, D) at the last real token of each row, from states (N, T, D)."""
    lengths = torch.tensor([len(row) for row in rows], device=states.device)
    return states[torch.arange(len(rows), device=states.device), lengths - 1]


def positions(start: int, width: int, device: torch.device) -> Tensor:
    """Position ids (1, width) counting from start."""
    return torch.arange(start, start + width, device=device)[None]


def plain_logits(network: Any, rows: Sequence[Sequence[int]], token_ids: Tensor, pad_id: int) -> Tensor:
    """Label logits (N, L) of whole prompts through the model's own head over the vocabulary: the reference."""
    device = token_ids.device
    ids = pad_right(rows, pad_id, device)
    out = network(input_ids=ids, position_ids=positions(0, ids.shape[1], device), use_cache=False)
    return last_hidden(out.logits, rows)[:, token_ids].float()


def unshared_logits(network: Any, rows: Sequence[Sequence[int]], token_ids: Tensor, pad_id: int) -> Tensor:
    """Label logits (N, L) of whole prompts, label rows of the head only."""
    device = token_ids.device
    ids = pad_right(rows, pad_id, device)
    body = network.base_model
    out = body(input_ids=ids, position_ids=positions(0, ids.shape[1], device), use_cache=False)
    return head_logits(network, last_hidden(out.last_hidden_state, rows), token_ids).float()


def prefill(network: Any, prefix: Sequence[int], device: torch.device) -> DynamicCache:
    """The KV cache of one prefix, batch 1."""
    cache = DynamicCache(config=network.config)
    ids = torch.tensor([list(prefix)], device=device)
    cached_states(network, cache, input_ids=ids, position_ids=positions(0, len(prefix), device))
    return cache


def suffix_logits(
    network: Any, cache: DynamicCache, start: int, rows: Sequence[Sequence[int]], token_ids: Tensor, pad_id: int
) -> Tensor:
    """Label logits (N, L) of suffixes behind one cached prefix of `start` tokens. The cache is left as it is."""
    device = token_ids.device
    ids = pad_right(rows, pad_id, device)
    repeated = copy.deepcopy(cache)  # the forward appends to it in place
    repeated.batch_repeat_interleave(len(rows))
    where = positions(start, ids.shape[1], device).expand(len(rows), -1)
    states = cached_states(network, repeated, input_ids=ids, position_ids=where)
    return head_logits(network, last_hidden(states, rows), token_ids).float()


def rows_at_once(device: torch.device, tokens: int) -> int:
    """How many prompts of at most so many tokens go through a device's forward together."""
    return max(CHUNK, min(GPU_CHUNK, GPU_TOKENS // max(1, tokens))) if device.type == "cuda" else CHUNK


def chunks_by_length(indices: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in chunks, neighbours in length together, so that little is padded. lengths: by index."""
    ordered = sorted(indices, key=lambda i: (lengths[i], i))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def shared_groups(
    pairs: Sequence[IdPair], smallest: int = MIN_SHARED
) -> tuple[dict[tuple[int, ...], list[int]], list[int]]:
    """Positions by prefix for the groups worth sharing, and the positions that are left for the plain forward."""
    by_prefix: dict[tuple[int, ...], list[int]] = {}
    for position, (prefix, _) in enumerate(pairs):
        by_prefix.setdefault(prefix, []).append(position)
    shared = {p: [i for i in rows if pairs[i][1]] for p, rows in by_prefix.items() if p and len(rows) >= smallest}
    taken = {i for rows in shared.values() for i in rows}
    return {p: rows for p, rows in shared.items() if rows}, [i for i in range(len(pairs)) if i not in taken]


def label_logits(
    network: Any, pairs: Sequence[IdPair], token_ids: Tensor, pad_id: int, share: bool = True, chunk: int | None = None
) -> Tensor:
    """Label logits (N, L) in the order of the pairs, float32 on the model's device. chunk None: what suits that."""
    chunk = chunk or rows_at_once(token_ids.device, max((len(p) + len(s) for p, s in pairs), default=0))
    result = torch.empty(len(pairs), len(token_ids), device=token_ids.device)
    groups, rest = shared_groups(pairs) if share else ({}, list(range(len(pairs))))
    whole = [prefix + suffix for prefix, suffix in pairs]
    for part in chunks_by_length(rest, [len(row) for row in whole], chunk):
        result[part] = unshared_logits(network, [whole[i] for i in part], token_ids, pad_id)
    suffix_lengths = [len(suffix) for _, suffix in pairs]
    for prefix, rows in groups.items():
        cache = prefill(network, prefix, token_ids.device)
        for part in chunks_by_length(rows, suffix_lengths, chunk):
            suffixes = [pairs[i][1] for i in part]
            result[part] = suffix_logits(network, cache, len(prefix), suffixes, token_ids, pad_id)
    return result
