"""Sparse optimizers: rows that a step saw are updated, all others stay untouched; the state is slots of the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodrate.models.dynamic_table.engine import EmbeddingEngine
from goodrate.models.dynamic_table.table import Storage

CACHED = 1 << 16  # floats of a pass over rows, 256 KiB


class SparseOptimizer(torch.optim.Optimizer):
    """Steps over the rows of an engine. Its one param group holds no parameter and the options, `lr` among them.

    step() uses up the gradients of the backward passes since the last one; zero_grad() throws them away.
    """

    def __init__(self, engine: EmbeddingEngine, **options: Any) -> None:
        for name in ("lr", "eps", "lr_decay", "initial_accumulator_value"):
            if not 0 <= options.get(name, 0.0) < math.inf:
                raise ValueError(f"{name} {options[name]}: expected a number of 0 or more")
        super().__init__([{"params": [], **options}], {})
        self.engine = engine
        for storage in engine.storages:
            self._prepare(storage)

    def _prepare(self, storage: Storage) -> None:
        """Add the state's slots."""

    def _update(self, storage: Storage, rows: Tensor, gradients: Tensor, options: dict[str, Any]) -> None:
        """The rule. rows: (U,) different ones. gradients: (U, dim), may be written to."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update the rows seen since the last step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for storage in self.engine.storages:
            if storage.pending:
                storage.steps += 1
                rows, gradients = storage.gradients()
                for start in range(0, len(rows), size := _part(storage, len(rows))):
                    part = slice(start, start + size)
                    self._update(storage, rows[part], gradients[part], self.param_groups[0])
                storage.pending.clear()
        self.engine.end_update()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients since the last step."""
        for storage in self.engine.storages:
            storage.pending.clear()

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """Euclidean norm of all rows' gradients since the last step, over all ranks; NaN or inf where one is."""
        squares = [storage.gradients()[1].double().square().sum() for storage in self.engine.storages]
        return math.sqrt(float(self.engine.ranks.total(torch.stack(squares).sum())))


class SGD(SparseOptimizer):
    """w -= lr * g."""

    def __init__(self, engine: EmbeddingEngine, lr: float = 1e-2) -> None:
        super().__init__(engine, lr=lr)

    def _update(self, storage: Storage, rows: Tensor, gradients: Tensor, options: dict[str, Any]) -> None:
        if kernels := storage.kernels:
            kernels.sgd(*_arrays(storage.weight, rows, gradients), np.float32(options["lr"]))
        else:
            storage.weight.index_add_(0, rows, gradients.mul_(-options["lr"]))


class SparseAdam(SparseOptimizer):
    """Adam on the rows seen, as torch.optim.SparseAdam: moments of unseen rows do not decay, t counts steps of a table.

    m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).
    """

    def __init__(
        self, engine: EmbeddingEngine, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {betas}: expected two numbers from 0 to below 1")
        super().__init__(engine, lr=lr, betas=tuple(betas), eps=eps)

    def _prepare(self, storage: Storage) -> None:
        for name in ("exp_avg", "exp_avg_sq"):
            storage.add_slot(name, storage.dim)

    def _update(self, storage: Storage, rows: Tensor, gradients: Tensor, options: dict[str, Any]) -> None:
        (beta1, beta2), step = options["betas"], storage.steps
        averages, squares = storage.slots["exp_avg"], storage.slots["exp_avg_sq"]
        rate = options["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        if kernels := storage.kernels:
            numbers = map(np.float32, (rate, 1 - beta1, 1 - beta2, options["eps"]))
            kernels.adam(*_arrays(storage.weight, averages, squares, rows, gradients), *numbers)
            return
        average = averages.index_select(0, rows).lerp_(gradients, 1 - beta1)
        averages.index_copy_(0, rows, average)
        square = squares.index_select(0, rows).lerp_(gradients.square_(), 1 - beta2)
        squares.index_copy_(0, rows, square)
        change = average.div_(square.sqrt_().add_(options["eps"])).mul_(-rate)
        storage.weight.index_add_(0, rows, change)


class Adagrad(SparseOptimizer):
    """As torch.optim.Adagrad on sparse gradients: s += g^2; w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)."""

    def __init__(
        self,
        engine: EmbeddingEngine,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(engine, lr=lr, lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, eps=eps)

    def _prepare(self, storage: Storage) -> None:
        storage.add_slot("sum", storage.dim, self.param_groups[0]["initial_accumulator_value"])

    def _update(self, storage: Storage, rows: Tensor, gradients: Tensor, options: dict[str, Any]) -> None:
        sums = storage.slots["sum"]
        rate = options["lr"] / (1 + (storage.steps - 1) * options["lr_decay"])
        if kernels := storage.kernels:
            numbers = map(np.float32, (rate, options["eps"]))
            kernels.adagrad(*_arrays(storage.weight, sums, rows, gradients), *numbers)
            return
        total = sums.index_select(0, rows).addcmul_(gradients, gradients)
        sums.index_copy_(0, rows, total)
        storage.weight.index_add_(0, rows, gradients.div_(total.sqrt_().add_(options["eps"])).mul_(-rate))


class RowWiseAdagrad(SparseOptimizer):
    """Adagrad with one accumulator a row, as FBGEMM's: s += mean(g^2); w -= lr g / (sqrt(s) + eps)."""

    def __init__(
        self, engine: EmbeddingEngine, lr: float = 1e-2, initial_accumulator_value: float = 0.0, eps: float = 1e-10
    ) -> None:
        super().__init__(engine, lr=lr, initial_accumulator_value=initial_accumulator_value, eps=eps)

    def _prepare(self, storage: Storage) -> None:
        storage.add_slot("row_sum", 1, self.param_groups[0]["initial_accumulator_value"])

    def _update(self, storage: Storage, rows: Tensor, gradients: Tensor, options: dict[str, Any]) -> None:
        sums = storage.slots["row_sum"]
        if kernels := storage.kernels:
            numbers = map(np.float32, (options["lr"], options["eps"]))
            kernels.row_wise_adagrad(*_arrays(storage.weight, sums, rows, gradients), *numbers)
            return
        total = sums.index_select(0, rows).add_(gradients.square().mean(1, keepdim=True))
        sums.index_copy_(0, rows, total)
        scale = total.sqrt_().add_(options["eps"]).reciprocal_().mul_(-options["lr"])
        storage.weight.index_add_(0, rows, gradients.mul_(scale))


def _part(storage: Storage, rows: int) -> int:
    """Rows that are updated at a time: on a CPU without kernels so many that what is computed stays in the cache."""
    plain = storage.kernels is None and storage.weight.device.type == "cpu"
    return max(1, CACHED // storage.dim if plain else rows)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The same memory for numba."""
    return [tensor.numpy() for tensor in tensors]
