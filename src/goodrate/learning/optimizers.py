"""Optimizers: Muon for the matrices inside a network, AdamW for everything else."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]
MUON_FACTOR = 6.0  # Muon's rate over AdamW's, as found on the shop's language (docs/base.md)


def make_optimizers(
    network: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """AdamW over all weights, or Muon over the hidden matrices beside AdamW over embeddings, heads, norms and biases.

    learning_rate: AdamW's peak rate; Muon's is MUON_FACTOR times that (its steps are orthogonalised, so their size does
    not depend on the gradient's). Weights that need no gradient are left out. Muon comes from torch.optim (2.9 on).
    """
    named = [(key, weight) for key, weight in network.named_parameters() if weight.requires_grad]
    matrices = [weight for key, weight in named if _is_hidden_matrix(key, weight)]
    if name == "adamw" or not matrices:
        return [torch.optim.AdamW([w for _, w in named], learning_rate, (0.9, 0.98), weight_decay=weight_decay)]
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer 'muon' needs torch 2.9 or newer; this is {torch.__version__}; use 'adamw'")
    others = [weight for key, weight in named if not _is_hidden_matrix(key, weight)]
    muon = torch.optim.Muon(matrices, lr=MUON_FACTOR * learning_rate, momentum=0.95, weight_decay=weight_decay)
    if not others:  # an adapter is hidden matrices only
        return [muon]
    return [muon, torch.optim.AdamW(others, learning_rate, (0.9, 0.98), weight_decay=0.0)]


def _is_hidden_matrix(name: str, weight: torch.Tensor) -> bool:
    """Two-dimensional and neither an embedding nor a head."""
    return weight.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "score", "cls.", "decoder."))
