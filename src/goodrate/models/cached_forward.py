"""A network's body run with a key-value cache, whatever the installed transformers calls that argument."""

from __future__ import annotations

import inspect
from functools import cache as remembered
from typing import Any

from torch import Tensor
from transformers import DynamicCache


@remembered
def cache_argument(body: type) -> str:
    """The name under which a body's forward takes its cache: transformers 5.40 drops `past_key_values`."""
    return "cache" if "cache" in inspect.signature(body.forward).parameters else "past_key_values"  # type: ignore[attr-defined]


def cached_states(network: Any, cache: DynamicCache, **inputs: Tensor) -> Tensor:
    """Final states (N, T, D) of tokens behind a cache, which gets their keys and values."""
    body = network.base_model
    name = cache_argument(type(body))  # type: ignore[arg-type]
    states: Tensor = body(**inputs, **{name: cache}, use_cache=True).last_hidden_state
    return states
