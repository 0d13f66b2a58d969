"""A few learned queries that read a picture's tokens by cross-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS, HEADS = 2, 4


class Resampler(nn.Module):
    """Z = Resampler(Q_learn, E(I)): tokens (B, T, D) of a picture -> (B, N_v, d_v), in two cross-attention blocks.

    inside: D. count: T; every place has a learned vector, because a frozen encoder's tokens may not say where they are.
    queries: N_v. width: d_v, a multiple of 4.
    """

    def __init__(self, inside: int, count: int, queries: int, width: int) -> None:
        super().__init__()
        if width % HEADS:
            raise ValueError(f"width {width}: expected a multiple of {HEADS}")
        self.count = count
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.places = nn.Parameter(torch.zeros(count, width))
        self.read = nn.Sequential(nn.LayerNorm(inside), nn.Linear(inside, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D) -> (B, N_v, d_v), each of unit mean square at the start."""
        seen = self.read(tokens.to(self.queries.dtype)) + self.places
        asked = self.queries.expand(len(tokens), -1, -1)
        for block in self.blocks:
            asked = block(asked, seen)
        return self.norm(asked)


class _Block(nn.Module):
    """x + attention(LN x, tokens), then x + MLP(LN x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.tokens_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, asked: Tensor, tokens: Tensor) -> Tensor:
        seen = self.tokens_norm(tokens)
        asked = asked + self.attention(self.norm(asked), seen, seen, need_weights=False)[0]
        return asked + self.mlp(asked)
