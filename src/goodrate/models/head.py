"""From final states to logits, for all of the vocabulary or a few of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def head_logits(network: Any, hidden: Tensor, token_ids: Tensor | None = None, exact: bool = False) -> Tensor:
    """Logits of final states (N, D): (N, V), or (N, L) with only the head's rows of token_ids (L,).

    exact: the head computes in its weights' precision and not in autocast's: log probabilities that are compared with
    one another (behaviour against policy) need it.

    Knows the heads of Hugging Face causal models: a linear layer, BERT's dense layer before it, Gemma's soft cap,
    Cohere's and Granite's scale. CausalLM checks the result against the model's own logits before it relies on it.
    """
    predictions = getattr(getattr(network, "cls", None), "predictions", None)
    if predictions is not None:
        hidden = predictions.transform(hidden)
    head = network.get_output_embeddings()
    weight, bias = head.weight, getattr(head, "bias", None)
    if token_ids is None and exact:
        with torch.autocast(hidden.device.type, enabled=False):
            return _scaled(network.config, torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias))
    if token_ids is None:
        return _scaled(network.config, torch.nn.functional.linear(hidden, weight, bias))
    # A bf16 logit near 10 moves in steps of 0.06, which ties items; L rows cost nothing in fp32.
    with torch.autocast(hidden.device.type, enabled=False):
        chosen = None if bias is None else bias[token_ids].float()
        return _scaled(network.config, torch.nn.functional.linear(hidden.float(), weight[token_ids].float(), chosen))


@dataclass(frozen=True)
class TiledHead:
    """cap * tanh(scale * (before(states) @ weight.T + bias) / cap); weight (V, D), no cap where it is None."""

    weight: Tensor
    bias: Tensor | None
    scale: float
    cap: float | None
    before: Callable[[Tensor], Tensor]


def tiled_head(network: Any) -> TiledHead | None:
    """A head whose words can be computed apart; None for one that is no matrix (an adapter, a quantised one)."""
    config, head = network.config, network.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        return None
    predictions = getattr(getattr(network, "cls", None), "predictions", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    before = predictions.transform if predictions is not None else lambda states: states
    return TiledHead(head.weight, head.bias, scale, cap, before)


def _scaled(config: Any, logits: Tensor) -> Tensor:
    """What some families do to logits after the head."""
    if getattr(config, "logit_scale", None) is not None:
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None) is not None:
        logits = logits / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap
