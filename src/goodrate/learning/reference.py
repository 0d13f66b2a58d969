"""The frozen reference that a KL term measures against."""

from __future__ import annotations

import copy
import types
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def freeze_reference(network: Network) -> Network:
    """A frozen copy of the network as it is now; take one at the start of every stage, so that the KL starts at 0.

    Its parameters do not train and are left out of checkpoints: a resumed run must be built from the same stage start.
    A stage that trains a LoRA adapter needs no copy: every judge folder is merged, so that its network with the adapter
    off (models.adapter) is the start of the stage.
    It stays in evaluation mode when the module that holds it is switched to training: with dropout in the reference
    the KL would measure noise.
    """
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    setattr(frozen, "train", types.MethodType(lambda self, mode=True: self, frozen))  # noqa: B010
    return frozen
