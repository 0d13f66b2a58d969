"""Logits of a few label tokens behind many prompts, the query's part computed once for all items of a query.

Prefixes run once with a KV cache, the cache is given to their rows, and the suffixes run behind it padded on the right:
causality keeps every real token clear of the pads, so no mask is needed. Exact in fp32 (DESIGN section 4).

A pair's logits must not hang on what is judged beside it. In fp32 they do not; in bf16 a sum in another order is
another number, which moved probabilities by up to 0.02. Three things fix the order. A pair goes this way even when it
is alone. Prefixes are read side by side only when they are equally long, so that nothing but a prefix's own tokens
stands before its suffixes. Suffixes are padded until all keys together are a multiple of LANES, as many as attention's
softmax adds up at once: what was padded adds zeros, where a remainder would be added another way.
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
LANES = 16  # of a 512-bit register in fp32; a divisor of what other processors' kernels take
PROBED = 4  # prompts on which a model's own forward is compared with this one


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device, width: int = 0) -> Tensor:
    """Token ids (N, T) int64, short rows filled up on the right. T: the longest row's, at least width."""
    width = max(width, *(len(row) for row in rows))
    padded = [list(row) + [pad_id] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)


def last_hidden(states: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """The state (N, D) at the last real token of each row, from states (N, T, D)."""
    lengths = torch.tensor([len(row) for row in rows], device=states.device)
    return states[torch.arange(len(rows), device=states.device), lengths - 1]


def even_width(network: Any, rows: Sequence[Sequence[int]], start: int = 0) -> int:
    """The width to which rows behind `start` tokens are padded, so that no real key is a remainder (see above).

    A layer that sees a window of the tokens before keeps fewer keys than `start`; further pads then are the remainder.
    """
    width = max(len(row) for row in rows)
    window = getattr(network.config, "sliding_window", None) or start + 1
    even = width + -(start + width) % LANES
    return even + LANES if start >= window else even


def positions(start: int, width: int, device: torch.device, network: Any = None) -> Tensor:
    """Position ids (1, width) counting from start. network: its last position is that of all pads beyond it."""
    where = torch.arange(start, start + width, device=device)[None]
    most = getattr(network.config, "max_position_embeddings", None) if network is not None else None
    return where.clamp(max=most - 1) if most else where


def plain_logits(network: Any, rows: Sequence[Sequence[int]], token_ids: Tensor, pad_id: int) -> Tensor:
    """Label logits (N, L) of whole prompts through the model's own head over the vocabulary: the reference."""
    device = token_ids.device
    ids = pad_right(rows, pad_id, device, even_width(network, rows))
    out = network(input_ids=ids, position_ids=positions(0, ids.shape[1], device, network), use_cache=False)
    return last_hidden(out.logits, rows)[:, token_ids].float()


def unshared_logits(network: Any, rows: Sequence[Sequence[int]], token_ids: Tensor, pad_id: int) -> Tensor:
    """Label logits (N, L) of whole prompts, label rows of the head only."""
    device = token_ids.device
    ids = pad_right(rows, pad_id, device, even_width(network, rows))
    body = network.base_model
    out = body(input_ids=ids, position_ids=positions(0, ids.shape[1], device, network), use_cache=False)
    return head_logits(network, last_hidden(out.last_hidden_state, rows), token_ids).float()


def prefill(network: Any, prefixes: Sequence[Sequence[int]], device: torch.device) -> DynamicCache:
    """The KV cache of P prefixes of one length, batch P."""
    cache = DynamicCache(config=network.config)
    ids = torch.tensor([list(prefix) for prefix in prefixes], device=device)
    where = positions(0, ids.shape[1], device).expand(len(ids), -1)
    cached_states(network, cache, input_ids=ids, position_ids=where)
    return cache


def suffix_logits(
    network: Any, cache: DynamicCache, behind: Sequence[int], start: int, rows: Sequence[Sequence[int]],
    token_ids: Tensor, pad_id: int,
) -> Tensor:  # fmt: skip
    """Label logits (N, L) of suffixes, each behind one of P cached prefixes of `start` tokens. The cache stays.

    behind: (N,) the prefix of each row.
    """
    device = token_ids.device
    ids = pad_right(rows, pad_id, device, even_width(network, rows, start))
    chosen = copy.deepcopy(cache)  # the forward appends to it in place
    chosen.batch_select_indices(torch.tensor(list(behind), device=device))
    where = positions(start, ids.shape[1], device, network).expand(len(rows), -1)
    states = cached_states(network, chosen, input_ids=ids, position_ids=where)
    return head_logits(network, last_hidden(states, rows), token_ids).float()


def rows_at_once(device: torch.device, tokens: int) -> int:
    """How many prompts of at most so many tokens go through a device's forward together."""
    return max(CHUNK, min(GPU_CHUNK, GPU_TOKENS // max(1, tokens))) if device.type == "cuda" else CHUNK


def chunks_by_length(indices: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in chunks, neighbours in length together, so that little is padded. lengths: by index."""
    ordered = sorted(indices, key=lambda i: (lengths[i], i))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def blocks(prefixes: list[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    """Prefixes in lists of at most so many: the keys of a block are kept at once."""
    for start in range(0, len(prefixes), size):
        yield prefixes[start : start + size]


def by_prefix_length(pairs: Sequence[IdPair]) -> tuple[list[dict[tuple[int, ...], list[int]]], list[int]]:
    """Positions by prefix, for each length of prefixes, and the positions of pairs that have but one part."""
    groups: dict[int, dict[tuple[int, ...], list[int]]] = {}
    for position, (prefix, suffix) in enumerate(pairs):
        if prefix and suffix:
            groups.setdefault(len(prefix), {}).setdefault(prefix, []).append(position)
    return list(groups.values()), [i for i, (prefix, suffix) in enumerate(pairs) if not (prefix and suffix)]


def label_logits(
    network: Any, pairs: Sequence[IdPair], token_ids: Tensor, pad_id: int, share: bool = True, chunk: int | None = None
) -> Tensor:
    """Label logits (N, L) in the order of the pairs, float32 on the model's device. chunk None: what suits that.

    share: False reads every prompt as one piece, as a peer without shared prefixes does.
    """
    chunk = chunk or rows_at_once(token_ids.device, max((len(p) + len(s) for p, s in pairs), default=0))
    result = torch.empty(len(pairs), len(token_ids), device=token_ids.device)
    groups, rest = by_prefix_length(pairs) if share else ([], list(range(len(pairs))))
    whole = [prefix + suffix for prefix, suffix in pairs]
    for part in chunks_by_length(rest, [len(row) for row in whole], chunk):
        result[part] = unshared_logits(network, [whole[i] for i in part], token_ids, pad_id)
    lengths = [len(suffix) for _, suffix in pairs]
    for group in groups:
        for prefixes in blocks(list(group), chunk):
            cache = prefill(network, prefixes, token_ids.device)
            place = {prefix: number for number, prefix in enumerate(prefixes)}
            for part in chunks_by_length([i for prefix in prefixes for i in group[prefix]], lengths, chunk):
                behind, suffixes = [place[pairs[i][0]] for i in part], [pairs[i][1] for i in part]
                result[part] = suffix_logits(network, cache, behind, len(prefixes[0]), suffixes, token_ids, pad_id)
    return result
