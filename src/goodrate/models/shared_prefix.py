"""Attention of many rows behind few prompts, whose keys and values are kept once and never copied to the rows.

A Hugging Face model runs its own forward; only the attention function is ours, registered as `shared_prefix`. Rows of
one prompt are scored against its keys in one matrix product, against their own keys in a second, and one softmax runs
over both. Without a `SharedPrefix` the function is Hugging Face's sdpa. DESIGN section 4 calls this the split kernel.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from goodrate.models.cached_forward import cached_states
from goodrate.models.label_forward import pad_right

NAME = "shared_prefix"
log = logging.getLogger(__name__)
UNKNOWN = ("softcap", "s_aux", "position_bias")  # what changes attention in ways not computed here


@dataclass(frozen=True)
class Prefill:
    """P prompts that were read: final state (P, D) of each, key-value cache, lengths (P,), real tokens (P, L) int64."""

    last: Tensor
    cache: DynamicCache
    lengths: Tensor
    seen: Tensor


def prefill(network: Any, prompts: Sequence[tuple[int, ...]], pad_id: int, device: torch.device) -> Prefill:
    """Read prompts side by side, padded on the right; with gradient where that is on."""
    inputs, lengths = side_by_side(prompts, pad_id, device)
    cache = whole_cache(network.config)
    states = cached_states(network, cache, **inputs)
    last = states[torch.arange(len(lengths), device=device), lengths - 1]
    return Prefill(last, cache, lengths, inputs["attention_mask"])


def side_by_side(
    prompts: Sequence[tuple[int, ...]], pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """What a network's forward takes of P prompts padded on the right, and their lengths (P,)."""
    ids = pad_right(prompts, pad_id, device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    where = torch.arange(ids.shape[1], device=device)
    seen = (where[None] < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": seen, "position_ids": where[None].expand_as(ids)}, lengths


def whole_cache(config: Any) -> DynamicCache:
    """A cache that holds every key. A model's own one keeps a layer's last window of columns, which are pads where a
    prompt is shorter than its neighbours.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    return DynamicCache() if kinds <= {"full_attention", "sliding_attention"} else DynamicCache(config=config)


class _Slots:
    """Where the rows stand in a rectangle of P prompts x G rows: matrix products want groups of one size."""

    def __init__(self, row: Tensor, prompts: int) -> None:
        order = torch.argsort(row, stable=True)
        sizes = torch.bincount(row, minlength=prompts)
        rank = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row[order]]
        self.size = int(sizes.max())
        self.prompts = prompts
        self._slot = torch.empty_like(row).index_copy_(0, order, row[order] * self.size + rank)
        self._whole = torch.equal(self._slot, torch.arange(prompts * self.size, device=row.device))

    def spread(self, x: Tensor) -> Tensor:
        """(N, ...) -> (P, G, ...), empty places zero."""
        if not self._whole:
            x = x.new_zeros(self.prompts * self.size, *x.shape[1:]).index_copy(0, self._slot, x)
        return x.view(self.prompts, self.size, *x.shape[1:])

    def gather(self, x: Tensor) -> Tensor:
        """(P, G, ...) -> (N, ...)."""
        x = x.reshape(self.prompts * self.size, *x.shape[2:])
        return x if self._whole else x[self._slot]


class SharedPrefix:
    """Keys and values of P prompts by layer, and N rows behind them.

    row: (N,) the prompt of each row. room: tokens that the rows will write one after the other; their keys are then
    kept here. 0: a forward holds all of its rows' tokens.
    """

    def __init__(self, read: Prefill, row: Tensor, room: int = 0) -> None:
        layers: Any = read.cache.layers
        kind = row.device.type
        cast = torch.is_autocast_enabled(kind) and not room  # products with one token a row are slow in bf16 on CPUs
        dtype = torch.get_autocast_dtype(kind) if cast else layers[0].keys.dtype
        self._keys: list[Tensor] = [layer.keys.to(dtype) for layer in layers]
        self._values: list[Tensor] = [layer.values.to(dtype) for layer in layers]
        self._hidden = (read.seen == 0) if bool((read.seen == 0).any()) else None
        self._lengths = read.lengths
        self._slots = _Slots(row, len(read.seen))
        self.row = row
        self._room, self._written = room, 0
        self._own: list[tuple[Tensor, Tensor]] = [
            (k.new_empty(len(row), k.shape[1], room, k.shape[3]), k.new_empty(len(row), k.shape[1], room, v.shape[3]))
            for k, v in zip(self._keys, self._values, strict=True)
            if room
        ]

    def keep(self, index: Tensor) -> None:
        """Drop all rows but index (n,). A prompt without rows stays: it costs a product with nothing in it."""
        self.row = self.row[index]
        self._slots = _Slots(self.row, self._slots.prompts)
        used = self._written
        for layer, (k, v) in enumerate(self._own):
            keys, values = k.new_empty(len(index), *k.shape[1:]), v.new_empty(len(index), *v.shape[1:])
            keys[:, :, :used], values[:, :, :used] = k[index, :, :used], v[index, :, :used]
            self._own[layer] = keys, values

    def advance(self) -> None:
        """A token of every row was fed through all layers."""
        self._written += 1

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float = 0.0,
        window: int | None = None,
    ) -> Tensor:  # fmt: skip
        """query (N, H, T, d), key and value (N, Hkv, T, d) of the new tokens -> (N, T, H, d).

        dropout: share of the attention weights that are dropped, in training. window: the tokens that one sees, itself
        included; None for all.
        """
        keys, values = self._keys[layer], self._values[layer]
        num, heads, new, width = query.shape
        kv_heads = keys.shape[1]
        own_keys, own_values = self._with_own(layer, key.to(keys.dtype), value.to(keys.dtype))
        # (N, Hkv, R, d): query heads that share a key head stand beside one another as further rows.
        asked = (query.to(keys.dtype) * scaling).reshape(num, kv_heads, -1, width)
        own = asked @ own_keys.transpose(2, 3)
        inside = self._grouped(asked) @ keys.transpose(2, 3)
        if self._hidden is not None:
            inside = inside.masked_fill(self._hidden[:, None, None, :], float("-inf"))
        if window is not None and keys.shape[2] + own.shape[3] <= window:
            window = None  # nothing is that far away
        if window is not None:
            inside = inside.masked_fill(self._grouped(self._left_behind(window, new, heads)), float("-inf"))
        if new > 1 or window is not None:
            own = own.view(num, kv_heads, -1, new, own.shape[3]) + _causal(new, own, window)
        own = self._grouped(own.reshape(num, kv_heads, asked.shape[2], -1))
        weights = torch.softmax(torch.cat([inside, own], -1), -1, dtype=torch.float32).to(values.dtype)
        weights = torch.nn.functional.dropout(weights, dropout) if dropout else weights
        prompt = keys.shape[2]
        inside_out = self._ungrouped(weights[..., :prompt] @ values, asked.shape[2])
        own_out = self._ungrouped(weights[..., prompt:], asked.shape[2]) @ own_values
        return (inside_out + own_out).reshape(num, heads, new, -1).transpose(1, 2)

    def _left_behind(self, window: int, new: int, heads: int) -> Tensor:
        """(N, Hkv, R, L): the prompt's tokens that a new token, `window` or more behind them, no longer sees."""
        device = self.row.device
        where = self._lengths[self.row][:, None] + self._written + torch.arange(new, device=device)
        columns = torch.arange(self._keys[0].shape[2], device=device)
        gone = where[..., None] - columns >= window
        kv_heads = self._keys[0].shape[1]
        return gone[:, None].repeat(1, kv_heads, heads // kv_heads, 1)

    def _with_own(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all own tokens so far, the new ones last."""
        if not self._room:
            return key, value
        keys, values = self._own[layer]
        end = self._written + key.shape[2]
        keys[:, :, self._written : end], values[:, :, self._written : end] = key, value
        return keys[:, :, :end], values[:, :, :end]

    def _grouped(self, x: Tensor) -> Tensor:
        """(N, Hkv, R, w) -> (P, Hkv, G * R, w)."""
        spread = self._slots.spread(x).transpose(1, 2)
        return spread.reshape(spread.shape[0], spread.shape[1], -1, x.shape[-1])

    def _ungrouped(self, x: Tensor, rows: int) -> Tensor:
        """(P, Hkv, G * R, w) -> (N, Hkv, R, w)."""
        split = x.view(x.shape[0], x.shape[1], self._slots.size, rows, x.shape[-1])
        return self._slots.gather(split.transpose(1, 2))


def _causal(new: int, like: Tensor, window: int | None = None) -> Tensor:
    """Additive mask (T, K) of the last T of K tokens: one sees itself and those before it, `window` in all."""
    every = like.shape[-1]
    distance = torch.arange(every - new, every, device=like.device)[:, None] - torch.arange(every, device=like.device)
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(new, every, dtype=like.dtype, device=like.device).masked_fill(hidden, float("-inf"))


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    shared_prefix: SharedPrefix | None = None, scaling: float | None = None, dropout: float = 0.0, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What a model's attention layers call; see transformers.AttentionInterface."""
    if shared_prefix is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )  # fmt: skip
    unknown = [name for name in UNKNOWN if more.get(name) is not None]
    if unknown:
        raise NotImplementedError(f"attention with {', '.join(unknown)}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = more.get("sliding_window")
    with torch.autocast(query.device.type, enabled=False):
        found = shared_prefix.attend(module.layer_idx, query, key, value, scaling, dropout, window)
    return found.to(query.dtype), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def can_attend(network: Any) -> bool:
    """Make a network that attends by sdpa take a SharedPrefix. False for one that attends otherwise."""
    if network.config._attn_implementation == "sdpa":
        with contextlib.suppress(ValueError, AttributeError):
            network.set_attn_implementation(NAME)
    return bool(network.config._attn_implementation == NAME)


def states_behind(network: Any, prefix: SharedPrefix, ids: Tensor, start: Tensor) -> Tensor:
    """Final states (N, T, D) of tokens (N, T) at positions from start (N,), behind the prefix.

    NotImplementedError for a network that attends otherwise: it would not look at the prefix at all.
    """
    if not can_attend(network):
        raise NotImplementedError(f"attention {network.config._attn_implementation!r} takes no shared prefix")
    where = start[:, None] + torch.arange(ids.shape[1], device=ids.device)
    return network.base_model(
        input_ids=ids, position_ids=where, use_cache=False, shared_prefix=prefix
    ).last_hidden_state


_FITS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def fits(network: Any, device: torch.device) -> bool:
    """Whether a network behind a SharedPrefix computes its own states: tried once, on a few tokens, without autocast.

    The network must be in evaluation mode.
    """
    if network not in _FITS:
        _FITS[network] = can_attend(network) and _same_states(network, device)
    return _FITS[network]


def _same_states(network: Any, device: torch.device) -> bool:
    """Two prompts of unequal length, three rows of two tokens, against each row alone."""
    prompts, row = [(1, 2, 3), (4,)], torch.tensor([0, 1, 0], device=device)
    ids = torch.tensor([[2, 1], [3, 2], [1, 4]], device=device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            read = prefill(network, prompts, 0, device)
            states = states_behind(network, SharedPrefix(read, row), ids, read.lengths[row])
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
            log.warning("%s: no shared prefix (%s); it is copied", type(network).__name__, error)
            return False
        whole = [torch.tensor([[*prompts[p], *ids[i].tolist()]], device=device) for i, p in enumerate(row.tolist())]
        alone = [network.base_model(input_ids=one, use_cache=False).last_hidden_state[0, -2:] for one in whole]
    expected = torch.stack(alone)
    gap = float((states - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if gap > (1e-3 if states.dtype in (torch.float32, torch.float64) else 0.1):
        log.warning("%s: states behind a shared prefix are off by %.2g; it is copied", type(network).__name__, gap)
        return False
    return True
