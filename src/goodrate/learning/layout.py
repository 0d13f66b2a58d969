"""What the loop asks of a layout of a training's state over processes, and what layouts with a twin share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from goodrate.learning import checkpoint
from goodrate.learning.records import MicroBatch, Update

Sharding = Literal["ddp", "fsdp2", "zero2", "zero3"]


@runtime_checkable
class ReadsModel(Protocol):
    """A source that makes some of its updates with the model's weights as they then are."""

    def reads_model(self, step: int) -> bool:
        """Whether the update of that number may be one."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A model that finds out on its first micro-batch how it computes best, which it cannot once it is sharded."""

    sharing: Any

    def settle(self, batch: MicroBatch) -> None:
        """Choose a way that runs every layer as often for one micro-batch as for another."""
        ...


class Layout(Protocol):
    """Where weights, gradients and optimizer states are, and when the recipe's own model is whole."""

    lockstep: bool  # every process must run as many micro-batches as the others

    @property
    def bare(self) -> nn.Module:
        """What the recipe gave."""
        ...

    @property
    def model(self) -> nn.Module:
        """What is stepped."""
        ...

    @property
    def optimizers(self) -> Sequence[Any]:
        """What steps it."""
        ...

    def begin(self, update: Update) -> None:
        """Before the first step."""
        ...

    def whole(self) -> AbstractContextManager[None]:
        """The bare model has its weights inside. All processes enter it."""
        ...

    def adopt(self) -> None:
        """Take the weights that the bare model holds, inside `whole`."""
        ...

    def stateful(self, optimizer: Any) -> checkpoint.Stateful:
        """An optimizer's state as one process would have it. All processes read it."""
        ...

    def no_sync(self) -> AbstractContextManager[None]:
        """Gradients stay on their process inside."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch's loss."""
        ...

    def clip(self, limit: float) -> float:
        """Scale the gradient down to the limit; returns its norm over all weights, from before."""
        ...

    def finish(self) -> None:
        """The bare model has the trained weights from now on."""
        ...


def refuse_spread(model: nn.Module, how: Sharding) -> None:
    """ValueError for a model with parts that are spread over the processes in a way of their own."""
    spread = checkpoint.spread_modules(model)
    if spread:
        raise ValueError(
            f"fit.sharding = {how!r}: {next(iter(spread))!r} of this model is spread over the processes by itself; "
            "train it with fit.sharding = 'ddp'"
        )


def twin_of(model: nn.Module) -> nn.Module:
    """A model of the same structure on the same storage of weights, apart from the model in everything else."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.data, p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def exchange(optimizers: Sequence[torch.optim.Optimizer], pairs: Sequence[tuple[Any, Any]]) -> None:
    """Let optimizers that have not stepped step the second weight of each pair in place of the first."""
    others = {id(own): other for own, other in pairs}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [others[id(weight)] for weight in group["params"]]
