"""Optimizer states and gradients (stage 2), or all of a training's state (stage 3), spread by DeepSpeed's ZeRO.

Paper: arXiv 1910.02054. DeepSpeed is an extra of its own, imported where a run asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goodrate.extras import require
from goodrate.learning import checkpoint
from goodrate.learning.layout import Settles, Sharding, exchange, refuse_spread, twin_of
from goodrate.learning.records import Update

STAGES: dict[Sharding, int] = {"zero2": 2, "zero3": 3}
STATES = ("exp_avg", "exp_avg_sq")  # of AdamW, beside the step


def zero_config(how: Sharding, clip_norm: float) -> dict[str, Any]:
    """DeepSpeed's configuration of a run: micro-batches are counted by goodrate's loop, and so is the learning rate."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm if math.isfinite(clip_norm) else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": STAGES[how], "contiguous_gradients": True, "overlap_comm": False},
    }


def require_deepspeed(how: Sharding) -> Any:
    """The package. Raises MissingExtra with the command that installs it."""
    require("deepspeed", f"fit.sharding = {how!r}, which fsdp2 spreads without it,")
    import deepspeed

    return deepspeed


class ZeroSharded:
    """A run under DeepSpeed's engine. It takes one AdamW; what it saves goes on under ddp and fsdp2."""

    lockstep = True

    def __init__(
        self, accelerator: Any, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], how: Sharding,
        clip_norm: float,
    ) -> None:  # fmt: skip
        """Raises MissingExtra, and ValueError for other optimizers and for parts that are spread by themselves."""
        refuse_spread(model, how)
        if len(optimizers) != 1 or not isinstance(optimizers[0], torch.optim.AdamW):
            raise ValueError(f"fit.sharding = {how!r} takes one AdamW (optimizer = 'adamw'); fsdp2 takes any")
        self._deepspeed = require_deepspeed(how)
        self.bare = model.to(accelerator.device)
        self._stage3 = STAGES[how] == 3
        twin = twin_of(model)
        self._pairs = list(zip(model.parameters(), twin.parameters(), strict=True))
        exchange(optimizers, self._pairs)
        self._engine, *_ = self._deepspeed.initialize(
            model=twin, optimizer=optimizers[0], config=zero_config(how, clip_norm)
        )
        self.model: Any = self._engine
        self.optimizers = [_EngineStep(self._engine, optimizers[0], [p for _, p in self._pairs if p.requires_grad])]
        self._begun = False
        self._place(empty=self._stage3)

    def _place(self, empty: bool) -> None:
        """The bare model's weights: the twin's own, or nothing."""
        for own, shard in self._pairs:
            own.data = shard.data.new_empty(0) if empty else shard.data

    def begin(self, update: Update) -> None:
        """Settle the model before the first step."""
        if isinstance(self.bare, Settles) and not self._begun:
            with self.whole():
                self.bare.settle(update.micro_batches[0])
            self._engine.module.sharing = self.bare.sharing
        self._begun = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Stage 2 keeps whole weights on every process; stage 3 gathers them."""
        if not self._stage3:
            yield
            return
        with self._deepspeed.zero.GatheredParameters([shard for _, shard in self._pairs]):
            self._place(empty=False)
            try:
                yield
            finally:
                self._place(empty=True)

    def adopt(self) -> None:
        """ValueError: DeepSpeed's own partitions are not filled from a checkpoint of one file."""
        raise ValueError(
            "fit.sharding = 'zero2' and 'zero3' do not go on from a checkpoint; go on with 'fsdp2' or 'ddp', "
            "which take it as it is"
        )

    def stateful(self, optimizer: Any) -> checkpoint.Stateful:
        """Joined from the partitions."""
        return optimizer

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """More micro-batches follow."""
        self._engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self._engine.set_gradient_accumulation_boundary(True)

    def backward(self, loss: Tensor) -> None:
        """Through the engine, which keeps the sum of the gradients."""
        self._engine.backward(loss)

    def clip(self, limit: float) -> float:
        """The norm; the engine clips to the limit of its configuration when it steps."""
        from deepspeed.utils import safe_get_full_grad

        trained = [shard for _, shard in self._pairs if shard.requires_grad]
        gradients = (safe_get_full_grad(shard) for shard in trained)
        return math.sqrt(sum(float(g.float().square().sum()) for g in gradients if g is not None))

    def finish(self) -> None:
        """The bare model gets weights of its own."""
        with self.whole():
            whole = [shard.data.clone() for _, shard in self._pairs]
        for (own, _), weight in zip(self._pairs, whole, strict=True):
            own.data = weight


class _EngineStep:
    """The engine's step under the names that an optimizer has."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, weights: Sequence[Any]) -> None:
        self._engine, self._optimizer, self._weights = engine, optimizer, weights
        self._steps = 0

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The engine's, whose learning rate the loop sets."""
        return self._engine.optimizer.param_groups

    def step(self) -> None:
        """One step of the engine."""
        self._engine.step()
        self._steps += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The engine does it when it steps."""

    def state_dict(self) -> dict[str, Any]:
        """As AdamW over whole weights would have it."""
        from deepspeed.utils import safe_get_full_optimizer_state

        def state(weight: Any) -> dict[str, Tensor]:
            step = {"step": torch.tensor(float(self._steps))}
            return step | {name: safe_get_full_optimizer_state(weight, name).cpu() for name in STATES}

        groups = [
            {name: value for name, value in group.items() if name != "params"} for group in self._optimizer.param_groups
        ]
        groups[0]["params"] = list(range(len(self._weights)))
        return {"state": {place: state(weight) for place, weight in enumerate(self._weights)}, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing: `adopt` refuses."""
