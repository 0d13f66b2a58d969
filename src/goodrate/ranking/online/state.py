"""What a learner holds, as plain numbers and lists that JSON keeps exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class Learner(Protocol):
    """Plays a point, is told the gradient of the loss there, and plays another.

    play: (n,), in the set. update: the (sub)gradient (n,) of the loss at the play. oracle_calls: linear minima so far.
    state_dict, load_state_dict: all that decides later plays, exactly; into a learner that was made alike.
    """

    @property
    def play(self) -> np.ndarray: ...  # noqa: D102

    def update(self, gradient: np.ndarray) -> None: ...  # noqa: D102

    @property
    def oracle_calls(self) -> int: ...  # noqa: D102

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102


def held(learner: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named arrays and numbers of a learner, copied."""
    values = {name: getattr(learner, name) for name in names}
    return {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in values.items()}


def restore(learner: Any, names: Sequence[str], state: Mapping[str, Any], growing: bool = False) -> None:
    """Give a learner what `held` took. growing: arrays may have another number of rows.

    Raises ValueError for a state that lacks a name or has an array of another shape, with nothing changed.
    """
    values = {}
    for name in names:
        if name not in state:
            raise ValueError(f"the state of {type(learner).__name__} lacks {name!r}; it has {', '.join(state)}")
        own = getattr(learner, name)
        if isinstance(own, np.ndarray):
            value = np.array(state[name], dtype=own.dtype)
            if value.shape[growing:] != own.shape[growing:] or value.ndim != own.ndim:
                raise ValueError(f"{type(learner).__name__}: {name} has shape {value.shape}, expected {own.shape}")
            values[name] = value
        else:
            values[name] = type(own)(state[name])
    for name, value in values.items():
        setattr(learner, name, value)


def bounded(gradient: np.ndarray, longest: float) -> np.ndarray:
    """The gradient (n,), shortened to a length: bounds hold for losses that are as steep as was said, no more."""
    length = float(np.linalg.norm(gradient))
    return gradient if length <= longest else gradient * (longest / length)
