"""LoRA (arXiv 2106.09685) in the linear layers of any video network, by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goodrate.models.adapter import LoraSettings

ADAPTER = "default"
WEIGHTS = "lora.safetensors"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # as diffusers names them


def add_lora(network: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Put an adapter into the network in place; nothing else of it trains from then on. Same seed, same adapter.

    target_modules "all-linear": the attention's projections where the network has them by diffusers' names, else every
    linear layer. Raises ValueError when no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,  # type: ignore[arg-type]
        target_modules=_targets(network, settings),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network, ADAPTER)
    for name, weight in network.named_parameters():
        weight.requires_grad_("lora_" in name)


def _targets(network: nn.Module, settings: LoraSettings) -> list[str]:
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if settings.target_modules == "all-linear":
        return [name for name in linear if name.endswith(ATTENTION)] or linear
    named = list(settings.target_modules)
    if not any(name == end or name.endswith(f".{end}") for name in linear for end in named):
        ends = sorted({".".join(name.split(".")[-2:]) for name in linear})
        raise ValueError(f"lora.target_modules {named}: no linear layer ends so; such as {', '.join(ends[:8])}")
    return named


@contextmanager
def lora_off(network: nn.Module) -> Iterator[None]:
    """For the block, the network as it was before the adapter: the frozen reference of a preference loss."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
    trained = {weight: weight.requires_grad for weight in network.parameters()}
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for weight, needed in trained.items():  # switching an adapter on and off changes what trains
            weight.requires_grad_(needed)


def save_lora(network: nn.Module, folder: Path) -> None:
    """Write the adapter's weights alone."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, str(folder / WEIGHTS))


def load_lora(network: nn.Module, settings: LoraSettings, folder: Path) -> None:
    """Put the adapter of a folder into the network. ValueError when it is not one of this network."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    add_lora(network, settings, seed=0)
    weights = load_file(str(folder / WEIGHTS))
    wanted = sum("lora_" in name for name, _ in network.named_parameters())
    result: Any = set_peft_model_state_dict(network, weights, adapter_name=ADAPTER)
    if result.unexpected_keys or len(weights) != wanted:
        raise ValueError(f"{folder / WEIGHTS} is not an adapter of this network: {len(weights)} of {wanted} weights")
