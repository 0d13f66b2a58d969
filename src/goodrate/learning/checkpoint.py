"""Checkpoints: one file, replaced whole, that holds all a run needs to continue as if it had not been killed.

Parts that are spread over the processes (the rows of a dynamic table) lie beside it, in a folder that the file names.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from goodrate.run_folder import write_atomic

FILE = "checkpoint.pt"
SPREAD = "spread"  # the fact that names the folder of the parts spread over processes


class Stateful(Protocol):
    """Anything whose state travels with a checkpoint: plain values and tensors only."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@runtime_checkable
class Spread(Protocol):
    """A module whose state is no parameter and is spread over the processes. All of them call all of this."""

    def save_parts(self, folder: Path) -> None: ...

    def load_parts(self, folder: Path) -> None: ...

    def finite(self) -> bool: ...


def spread_modules(model: nn.Module) -> dict[str, Spread]:
    """The modules of a model that are spread over the processes, by the names of their folders."""
    return {name or "model": module for name, module in model.named_modules() if isinstance(module, Spread)}


def save_spread(folder: Path, model: nn.Module) -> None:
    """Write the spread parts to a folder that is not there."""
    for name, module in spread_modules(model).items():
        module.save_parts(folder / name)


def new_spread_name(folder: Path, update: int) -> str:
    """A name for the parts of a checkpoint that no earlier one has."""
    taken = {path.name for path in folder.glob(f"{SPREAD}-*")}
    return next(name for i in range(len(taken) + 1) if (name := f"{SPREAD}-{update}-{i}") not in taken)


def remove_spread(folder: Path, but: str | None) -> None:
    """Remove the spread parts of all other checkpoints, whole or cut off."""
    for path in folder.glob(f"{SPREAD}-*"):
        if path.name != but:
            shutil.rmtree(path, ignore_errors=True)


def _frozen(model: nn.Module) -> set[str]:
    """Names of parameters that do not train: the caller rebuilds them (base weights, a frozen reference)."""
    return {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and buffers by name."""
    frozen = _frozen(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_model_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what model_state gave. ValueError when the model has other trainable parts than the checkpoint."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    lost = sorted(set(missing) - _frozen(model))
    if lost or unexpected:
        raise ValueError(f"the checkpoint is of another model: missing {lost[:3]}, unexpected {list(unexpected)[:3]}")


def collect(model: nn.Module, stateful: Mapping[str, Stateful], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a run needs to continue. facts: plain numbers such as the update and the seconds spent."""
    return {
        "model": model_state(model),
        "parts": {name: holder.state_dict() for name, holder in stateful.items()},
        "facts": dict(facts),
    }


def save(folder: Path, collected: Mapping[str, Any]) -> None:
    """Write what `collect` gave, in place of the last checkpoint."""
    buffer = io.BytesIO()
    torch.save(dict(collected), buffer)
    write_atomic(folder / FILE, buffer.getvalue())


def load(folder: Path, model: nn.Module, stateful: Mapping[str, Stateful]) -> dict[str, Any] | None:
    """Put model and states back and return the facts; None when the folder has no checkpoint.

    Raises ValueError naming the file when it is cut off, of another run, or no checkpoint.
    """
    path = folder / FILE
    for cut_off in folder.glob(f".{FILE}.*"):  # what a killed run was writing
        cut_off.unlink(missing_ok=True)
    if not path.is_file():
        return None
    payload = _payload(path)
    if payload["parts"].keys() != stateful.keys():
        raise ValueError(f"{path}: holds {sorted(payload['parts'])}, this run has {sorted(stateful)}")
    with _named(path):
        load_model_state(model, payload["model"])
        for name, holder in stateful.items():
            holder.load_state_dict(payload["parts"][name])
        for name, module in spread_modules(model).items():
            if SPREAD not in payload["facts"]:
                raise ValueError(f"it is of a model without {name}")
            module.load_parts(folder / payload["facts"][SPREAD] / name)
    return payload["facts"]


def _payload(path: Path) -> dict[str, Any]:
    """What `save` wrote. ValueError naming the file when it is cut off or something else."""
    with _named(path):
        payload = torch.load(path, map_location="cpu", weights_only=True)
        kinds = {name: type(payload[name]) for name in ("model", "parts", "facts")}
        if not all(issubclass(kind, Mapping) for kind in kinds.values()) or not {"update", "seconds"} <= set(
            payload["facts"]
        ):
            raise TypeError("it lacks the model, parts or facts of a run")
    return payload


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever torch or a part of the run raises over a checkpoint becomes a ValueError that names the file."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise ValueError(
            f"{path}: not a checkpoint that this run can go on from ({type(error).__name__}: {reason}); "
            "remove the file to start anew, or put back a whole one"
        ) from error
