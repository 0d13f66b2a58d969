"""How the state of a training lies on the processes of a run: a copy on each of them (DDP), or a share (FSDP2).

A sharded run trains a twin of the model, whose weights, gradients and optimizer states are spread by torch's
`fully_shard`, layer by layer. The model that the recipe holds is the place where weights are whole: it is empty while
the twin steps, and filled from the shares where somebody reads it (sampling, mining, evaluation, checkpoints, the
folder at the end). So a checkpoint is the file that one process writes, and any number of processes goes on from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from goodrate.learning import checkpoint
from goodrate.learning.layout import Layout, Settles, Sharding, exchange, refuse_spread, twin_of
from goodrate.learning.records import Update


def lay_out(
    accelerator: Any, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], how: Sharding, clip_norm: float
) -> Layout:
    """The layout of a run. One process has nothing to share out. Raises ValueError and MissingExtra."""
    if how in ("zero2", "zero3"):
        from goodrate.learning.zero import ZeroSharded

        return ZeroSharded(accelerator, model, optimizers, how, clip_norm)
    if how == "fsdp2" and accelerator.num_processes > 1:
        return FullySharded(accelerator, model, optimizers)
    return Replicated(accelerator, model, optimizers)


class Replicated:
    """Every process has everything; gradients are averaged (DDP). Or there is one process."""

    lockstep = False

    def __init__(self, accelerator: Any, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.bare = model
        self.model = accelerator.prepare(model)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]
        self._accelerator = accelerator
        self._trained = [p for p in self.model.parameters() if p.requires_grad]

    def begin(self, update: Update) -> None: ...

    def whole(self) -> AbstractContextManager[None]:
        return nullcontext()

    def adopt(self) -> None: ...

    def stateful(self, optimizer: torch.optim.Optimizer) -> checkpoint.Stateful:
        return optimizer

    def no_sync(self) -> AbstractContextManager[None]:
        return self._accelerator.no_sync(self.model)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip(self, limit: float) -> float:
        return float(self._accelerator.clip_grad_norm_(self._trained, limit))

    def finish(self) -> None: ...


class FullySharded:
    """Every process has a share of each weight, its gradient and its optimizer state (FSDP2, ZeRO stage 3)."""

    lockstep = True

    def __init__(self, accelerator: Any, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        refuse_spread(model, "fsdp2")
        self.bare = model.to(accelerator.device)
        twin = twin_of(model)
        shard_layers(twin)
        self.model: Any = twin
        self.optimizers = optimizers
        self._pairs: list[tuple[nn.Parameter, Any]] = list(zip(model.parameters(), twin.parameters(), strict=True))
        exchange(optimizers, self._pairs)
        self._trained = [shard for _, shard in self._pairs if shard.requires_grad]
        self._begun = False
        self._empty()

    def begin(self, update: Update) -> None:
        if isinstance(self.bare, Settles) and not self._begun:
            with self.whole():
                self.bare.settle(update.micro_batches[0])
            self.model.sharing = self.bare.sharing
        self._begun = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        self._fill()
        try:
            yield
        finally:
            self._empty()

    def _fill(self) -> None:
        for own, shard in self._pairs:
            own.data = shard.detach().full_tensor()

    def _empty(self) -> None:
        for own, _ in self._pairs:
            own.data = own.data.new_empty(0)

    def adopt(self) -> None:
        for own, shard in self._pairs:
            shard.detach().copy_(share_of(own.detach(), shard))

    def stateful(self, optimizer: torch.optim.Optimizer) -> checkpoint.Stateful:
        return WholeState(optimizer)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, limit: float) -> float:
        norm: Any = nn.utils.clip_grad_norm_(self._trained, limit)
        return float(norm.full_tensor() if is_share(norm) else norm)

    def finish(self) -> None:
        self._fill()


class WholeState:
    """The state of an optimizer over shares: whole tensors to the outside, shares within."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Joined on every process, on the CPU."""
        state = self._optimizer.state_dict()
        joined = {
            place: {name: _joined(value) for name, value in values.items()} for place, values in state["state"].items()
        }
        return {**state, "state": joined}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of any number of processes, sharded or not."""
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        parts = {
            place: {
                name: share_of(value, weights[place]) if _is_of(value, weights[place]) else value
                for name, value in values.items()
            }
            for place, values in state["state"].items()
        }
        self._optimizer.load_state_dict({**state, "state": parts})


def shard_layers(model: nn.Module) -> None:
    """Spread a model's weights in place: a unit for every transformer layer, and one for what is left."""
    from torch.distributed.fsdp import fully_shard

    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for module in [module for module in model.modules() if type(module).__name__ in names]:
        fully_shard(module)
    fully_shard(model)


def is_share(value: Any) -> bool:
    """Whether a tensor is spread over the processes."""
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def share_of(whole: Tensor, like: Any) -> Any:
    """A whole tensor spread as `like` is; every process has the whole, so nothing is sent."""
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def _joined(value: Any) -> Any:
    return value.full_tensor().cpu() if is_share(value) else value


def _is_of(value: Any, weight: Any) -> bool:
    """Whether a value of an optimizer's state has a number for each of the weight's."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == weight.shape
