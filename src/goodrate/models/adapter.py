"""LoRA: a network whose weights stay as they are and whose linear layers get small matrices that train (2106.09685)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.models.precision import evaluating
from goodrate.models.quiet import no_old_names


class LoraSettings(BaseModel):
    """The adapter: W x + alpha / rank * B A x, with A (rank, in) random and B (out, rank) zero at the start."""

    model_config = ConfigDict(extra="forbid")
    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0, description="the adapter's part is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on the adapter's input, in training")
    target_modules: list[str] | Literal["all-linear"] = Field(
        default="all-linear", description="ends of layer names (q_proj, v_proj, ...), or all linear layers but the head"
    )


class Adapter:
    """The LoRA adapter inside a network: the network itself keeps its class and its names, and uses the adapter in
    every forward. All other weights are frozen.
    """

    def __init__(self, network: Any, settings: LoraSettings, seed: int) -> None:
        """network: a Hugging Face model, changed in place. The same seed gives the same adapter.

        Raises ValueError when no layer has one of the names, and for the output head: it is read as a bare matrix.
        """
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,  # type: ignore[arg-type]
            target_modules=settings.target_modules, task_type="CAUSAL_LM",
        )  # fmt: skip
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with no_old_names():
                self._peft: Any = get_peft_model(network, config)
        heads = (network.get_output_embeddings(), network.get_input_embeddings())
        if any(hasattr(layer, "lora_A") for layer in heads):
            raise ValueError(f"lora.target_modules {settings.target_modules}: leave out the head and the embeddings")

    @contextmanager
    def off(self) -> Iterator[Any]:
        """The network as it was before the adapter, in evaluation mode and without a graph: the frozen start."""
        self._peft.base_model.disable_adapter_layers()
        try:
            with evaluating(self.network):
                yield self.network
        finally:
            self._peft.base_model.enable_adapter_layers()

    def save(self, folder: Path) -> None:
        """Write the adapter alone, as peft reads it; CausalLM.load(start, adapter=folder) is the same model."""
        self._peft.save_pretrained(str(folder))

    def merge(self) -> None:
        """Add the adapter to the weights it stands beside; the network is then a plain one again."""
        self._peft.merge_and_unload()


@contextmanager
def adapters_folded(network: Any, dtype: torch.dtype | None) -> Iterator[None]:
    """For the block, W + alpha / rank * B A as one matrix in every linear layer that has an adapter: what many short
    forwards want, which otherwise cost three products, and a cast of the frozen W, each.

    dtype: of those matrices; None for the weights' own. No gradient passes. The weights themselves stay as they are.
    """
    folded = [layer for layer in network.modules() if _folds(layer)]
    for layer in folded:
        layer.forward = _Folded(layer, dtype)
    try:
        yield
    finally:
        for layer in folded:
            del layer.forward


def _folds(layer: Any) -> bool:
    """Whether this is a linear layer with a plain adapter that is on and not in its weights."""
    base = getattr(layer, "base_layer", None)
    if type(base) is not torch.nn.Linear or not getattr(layer, "lora_A", None):
        return False
    return not (layer.disable_adapters or layer.merged or layer.lora_variant)


class _Folded:
    """A linear layer with its adapter inside the matrix."""

    def __init__(self, layer: Any, dtype: torch.dtype | None) -> None:
        with torch.no_grad(), torch.autocast(layer.base_layer.weight.device.type, enabled=False):
            weight = layer.base_layer.weight
            for name in layer.active_adapters:
                weight = weight + layer.get_delta_weight(name) if name in layer.lora_A else weight
            self._weight = weight.to(dtype or weight.dtype)
        self._bias = layer.base_layer.bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        casts = torch.is_autocast_enabled(x.device.type)
        return torch.nn.functional.linear(x, self._weight if casts else self._weight.to(x.dtype), self._bias)


def merged_state(network: Any) -> dict[str, torch.Tensor]:
    """The network's weights by the names that it has without an adapter, each with its adapter's part added.

    What `merge` would leave, while the network goes on training with its adapter.
    """
    state = dict(network.state_dict())
    for name, layer in network.named_modules():
        if not hasattr(layer, "base_layer") or not getattr(layer, "lora_A", None):
            continue
        state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        plain = dict(layer.base_layer.state_dict())
        with torch.no_grad():
            for active in layer.active_adapters:
                if active in layer.lora_A:
                    plain["weight"] = plain["weight"] + layer.get_delta_weight(active)
        state |= {f"{name}.{key}": value for key, value in plain.items()}
    return state


def add_adapter(network: Any, settings: LoraSettings | None, seed: int) -> Adapter | None:
    """The adapter of the settings, None when all weights are to train."""
    return None if settings is None else Adapter(network, settings, seed)
