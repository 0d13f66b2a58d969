"""Giving visual states to the layers of a Hugging Face decoder through hooks: its own code runs as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goodrate.models.layer_states import decoder_blocks
from goodrate.models.vision_language.adapters import LayerwiseAdapters

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@contextmanager
def added_to_tokens(network: Any, adapters: LayerwiseAdapters, z: Tensor, places: slice) -> Iterator[None]:
    """Inside, H_l[places] += tanh(g_l) V_l in front of every layer but the first (injection A). z: (B, N_v, d_v)."""
    handles = []
    for layer, block in enumerate(decoder_blocks(network)):
        if layer:
            hook = _Adding(adapters, layer, z, places)
            handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Adding:
    """A hook in front of a layer."""

    def __init__(self, adapters: LayerwiseAdapters, layer: int, z: Tensor, places: slice) -> None:
        self._value = lambda: adapters.gate(layer) * adapters.state(layer, z)
        self._places = places

    def __call__(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        at, value = self._places, self._value().to(hidden.dtype)
        hidden = torch.cat([hidden[:, : at.start], hidden[:, at] + value, hidden[:, at.stop :]], dim=1)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})


@contextmanager
def attended_to(network: Any, adapters: LayerwiseAdapters, z: Tensor) -> Iterator[None]:
    """Inside, every layer's attention gets tanh(g_l) softmax(Q (W_k P_l)^T) (W_v P_l) on top (injection B).

    After LLaMA-Adapter V2; the second softmax is over P_l alone, and its queries are not rotated: P_l has no place.
    z: (B, N_v, d_v) of the rows that run inside.
    """
    handles = []
    for layer, attention in enumerate(attentions(network)):
        handles.append(attention.register_forward_hook(_Attending(adapters, layer, z), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Attending:
    """A hook behind a layer's attention."""

    def __init__(self, adapters: LayerwiseAdapters, layer: int, z: Tensor) -> None:
        self._adapters, self._layer, self._z = adapters, layer, z

    def __call__(self, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        prompt = self._adapters.state(self._layer, self._z)
        query = _heads(attention, attention.q_proj(hidden), "q_norm")
        key, value = _heads(attention, attention.k_proj(prompt), "k_norm"), _heads(attention, attention.v_proj(prompt))
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scaling = getattr(attention, "scaling", query.shape[-1] ** -0.5)
        weights = torch.softmax((query @ key.transpose(2, 3) * scaling).float(), -1).to(value.dtype)
        seen = weights @ value * self._adapters.gate(self._layer)[:, None, None].to(value.dtype)
        added = nn.functional.linear(seen.transpose(1, 2).flatten(2), attention.o_proj.weight)
        first = output[0] if isinstance(output, tuple) else output
        whole = first + added.to(first.dtype)
        return (whole, *output[1:]) if isinstance(output, tuple) else whole


def _heads(attention: Any, x: Tensor, norm: str = "") -> Tensor:
    """(B, T, H d) -> (B, H, T, d), normed where the model norms heads."""
    x = x.unflatten(-1, (-1, int(attention.head_dim)))
    own = getattr(attention, norm, None) if norm else None
    return (x if own is None else own(x)).transpose(1, 2)


def attentions(network: Any) -> list[Any]:
    """The attention of every layer. Raises ValueError for one without the four projections, which injection B needs."""
    found = []
    for block in decoder_blocks(network):
        own = [m for m in block.modules() if all(hasattr(m, name) for name in PROJECTIONS) and hasattr(m, "head_dim")]
        if len(own) != 1:
            raise ValueError(
                f"{type(network).__name__}: injection B needs an attention with {', '.join(PROJECTIONS)}; use A or C"
            )
        found += own
    return found
