"""Layer-wise adapters: from the visual states Z of a picture to what each layer of a frozen LM is given.

A_l(Z) = Wup_l SiLU(Wdown_l LN(Z)) + Wskip Z, with Wup_l = 0 at the start and one Wskip for all layers, so that the
picture reaches the model through the skip from the first update on.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Injection = Literal["A", "B", "C"]
WIDEST = 256  # d_v unless it is set: the resampler grows with its square, and would outweigh the adapters


class AdapterSettings(BaseModel):
    """The adapters' form (section 3 of our notes on PUMGPT)."""

    model_config = ConfigDict(extra="forbid")
    injection: Injection = Field(
        default="A", description="A adds to the visual tokens in front of every layer, B attends to them in every "
        "layer's attention, C gives them to the first layer alone",
    )  # fmt: skip
    visual_tokens: int = Field(default=8, gt=0, description="N_v, what a picture is resampled to")
    bottleneck: int = Field(default=64, gt=0, description="r_b, the rank of an adapter")
    width: int | None = Field(default=None, gt=0, description="d_v, of visual states; null = the LM's, at most 256")
    shared: bool = Field(default=False, description="one adapter for all layers in place of one each")


class LayerwiseAdapters(nn.Module):
    """V_l = A_l(Z) of L layers, and the gates g_l, 0 at the start.

    A: gates (L - 1), for layers 2 to L; V_1 has none. B: gates (L, heads), and P_l = V_l + Prm_l with Prm_l (N_v, w).
    C: the first adapter alone. layers: L. width: d_v. outside: w, the LM's width. scale: root mean square that Wskip Z
    begins with.
    """

    def __init__(
        self, settings: AdapterSettings, layers: int, width: int, outside: int, heads: int, scale: float
    ) -> None:
        super().__init__()
        self.settings, self.layers, self.width = settings, layers, width
        own = 1 if settings.shared or settings.injection == "C" else layers
        self.skip = nn.Linear(width, outside, bias=False)
        nn.init.normal_(self.skip.weight, std=scale / width**0.5)
        self.down = nn.ParameterList(_matrix(settings.bottleneck, width) for _ in range(own))
        self.up = nn.ParameterList(torch.zeros(outside, settings.bottleneck) for _ in range(own))
        if settings.injection == "A":
            self.gates = nn.Parameter(torch.zeros(layers - 1))
        if settings.injection == "B":
            self.gates = nn.Parameter(torch.zeros(layers, heads))
            self.prompts = nn.Parameter(torch.randn(layers, settings.visual_tokens, outside))

    def state(self, layer: int, z: Tensor) -> Tensor:
        """V_l (B, N_v, w) of a layer counted from 0, from Z (B, N_v, d_v); with B, P_l."""
        own = layer if len(self.down) > 1 else 0
        lifted = F.linear(F.silu(F.linear(F.layer_norm(z, (self.width,)), self.down[own])), self.up[own])
        value = lifted + self.skip(z)
        return value + self.prompts[layer] if self.settings.injection == "B" else value

    def gate(self, layer: int) -> Tensor:
        """tanh(g_l) of a layer counted from 0: a number with A (not for layer 0), (heads,) with B."""
        return torch.tanh(self.gates[layer - 1 if self.settings.injection == "A" else layer])


def _matrix(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns) / columns**0.5


def adapter_parameters(settings: AdapterSettings, layers: int, width: int, outside: int, heads: int) -> int:
    """How many numbers LayerwiseAdapters trains: L r_b (d_v + w) + d_v w, and gates and prompts.

    With d_v = w that is L * 2 * r_b * w, the shared skip, and the gates.
    >>> adapter_parameters(AdapterSettings(bottleneck=64), layers=6, width=192, outside=192, heads=6)
    184325
    """
    own = 1 if settings.shared or settings.injection == "C" else layers
    extra = {"A": layers - 1, "B": layers * (heads + settings.visual_tokens * outside), "C": 0}[settings.injection]
    return own * settings.bottleneck * (width + outside) + width * outside + extra
