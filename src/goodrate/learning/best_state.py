"""The state of a training with the least loss on queries that it does not see; the state before it is one of them.

Few labels teach a large network little and make it forget a lot: what is kept is what was best on other queries, and it
is kept only when those queries agree that it is better than the start by more than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.learning.fit import FitSettings

CHECKS = 6  # over a training, where nobody says how often
SURE = 1.0  # standard errors that the mean gain must exceed (the one-standard-error rule, Breiman et al. 1984)


class BestState:
    """A fit's `evaluate`, and a part of its checkpoints.

    module: what is trained. losses: the loss (Q,) of each held-out query with the module as it is; its mean decides.
    before, best: that loss before the first update, and with the best state. update: the number of the best state's.
    """

    def __init__(self, module: nn.Module, losses: Callable[[], np.ndarray]) -> None:
        self._module, self._losses = module, losses
        self.before = self.best = losses()
        self.update, self._state = 0, self._trained()

    def _trained(self) -> dict[str, Tensor]:
        """A copy of the weights that are trained."""
        named = self._module.named_parameters()
        return {name: weight.detach().cpu().clone() for name, weight in named if weight.requires_grad}

    def check(self, update: int) -> dict[str, float]:
        """Keep the module's state if it is the best so far; what goes into the log."""
        losses = self._losses()
        if losses.mean() < self.best.mean():
            self.best, self.update, self._state = losses, update, self._trained()
        return {"held_out_loss": float(losses.mean())}

    @property
    def gain(self) -> tuple[float, float]:
        """How much less the best state loses than the start, mean over queries, and the standard error of that."""
        less = self.before - self.best
        return float(less.mean()), float(less.std(ddof=1) / np.sqrt(len(less))) if len(less) > 1 else float("inf")

    @property
    def helped(self) -> bool:
        """Whether the best state is better than the start by more than chance."""
        mean, error = self.gain
        return self.update > 0 and mean > SURE * error

    def restore(self) -> None:
        """Give the module its best state."""
        with torch.no_grad():
            for name, weight in self._module.named_parameters():
                if name in self._state:
                    weight.copy_(self._state[name])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"update": self.update, "best": torch.from_numpy(self.best.copy()), "state": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.update, self.best, self._state = int(state["update"]), state["best"].numpy(), dict(state["state"])


def with_checks(settings: FitSettings) -> FitSettings:
    """The settings with CHECKS evaluations over the updates, where they say none. They have a budget of updates."""
    every = settings.evaluate_every or max(1, (settings.updates or 1) // CHECKS)
    return settings.model_copy(update={"evaluate_every": every})
