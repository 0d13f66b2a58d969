"""A small video diffusion transformer in pixel space, conditioned on the words of a caption."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from goodrate.content.diffusion import Prediction, said_of

PAD = 0  # the id of an empty place in a caption; a caption of nothing else is no caption
MLP_FACTOR = 3


class VideoShape(BaseModel):
    """What clips a network makes, and how large it is."""

    model_config = ConfigDict(extra="forbid")
    frames: int = Field(default=8, gt=0)
    size: int = Field(default=32, gt=0, description="pixels of a side")
    patch: int = Field(default=4, gt=0, description="pixels of a patch's side; size is a multiple of it")
    patch_frames: int = Field(default=2, gt=0, description="frames of a patch; frames is a multiple of it")
    width: int = Field(default=128, gt=0, description="of a token; a multiple of 2 x heads")
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    words: int = Field(default=2048, gt=1, description="of the tokenizer")
    caption_length: int = Field(default=24, gt=0, description="tokens of a caption; what is longer is cut")
    prediction: Prediction = Field(default="velocity", description="velocity: flow matching; or noise")

    @model_validator(mode="after")
    def _whole_patches(self) -> VideoShape:
        if self.size % self.patch or self.frames % self.patch_frames:
            raise ValueError(
                f"patches of {self.patch_frames} frames of {self.patch} x {self.patch} do not fill "
                f"{self.frames} frames of {self.size} x {self.size}"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of 2 x heads = {2 * self.heads}")
        return self


def time_features(time: Tensor, width: int) -> Tensor:
    """Sines and cosines (B, width) of the times (B,) in 0..1, of wave lengths from 2 pi / 1000 to about 2 pi 10."""
    half = width // 2
    rates = 1000.0 * torch.exp(-math.log(10_000.0) * torch.arange(half, device=time.device) / half)
    angles = time[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Block(nn.Module):
    """Attention over all tokens and an MLP, scaled, shifted and gated by the condition (adaLN-Zero, 2212.09748)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into_attention = nn.Linear(width, 3 * width)
        self.out_of_attention = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_FACTOR * width), nn.GELU(approximate="tanh"), nn.Linear(MLP_FACTOR * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """tokens (B, N, W), condition (B, W) -> (B, N, W)."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(condition)[:, None].chunk(6, dim=-1)
        tokens = tokens + gate * self._attend(_normed(tokens) * (1 + scale) + shift)
        return tokens + gate_mlp * self.mlp(_normed(tokens) * (1 + scale_mlp) + shift_mlp)

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        parts = self.into_attention(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_of_attention(mixed.transpose(1, 2).reshape(batch, count, width))


def _normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:])


class VideoDenoiser(nn.Module):
    """Tokens of the caption and tubes of pixels (patch_frames x patch x patch) in one sequence.

    The last layer says the clean clip, from which the prediction follows: to say the noise of every pixel a token would
    have to be wider than its patch has values (arXiv 2511.13720). A tube of the grid that reward models use is made of
    whole patches where the grid divides size / patch.
    """

    def __init__(self, shape: VideoShape, channels: int = 3) -> None:
        super().__init__()
        self.shape, self.channels = shape, channels
        width, side = shape.width, shape.size // shape.patch
        self.sides = (shape.frames // shape.patch_frames, side, side)
        values = channels * shape.patch_frames * shape.patch**2
        self.embed_words = nn.Embedding(shape.words, width)
        self.embed_places = nn.Parameter(torch.randn(shape.caption_length, width) * 0.02)
        self.embed_axes = nn.ParameterList([nn.Parameter(torch.randn(n, width) * 0.02) for n in self.sides])
        self.embed_patch = nn.Linear(values, width)
        self.embed_time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_caption = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, shape.heads) for _ in range(shape.layers))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, values)
        nn.init.normal_(self.embed_words.weight, std=0.5)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, noisy: Tensor, time: Tensor, caption_ids: Tensor) -> Tensor:
        """The prediction for noisy (B, C, T, H, W) at time (B,), of its shape; caption_ids (B, L), PAD where empty."""
        words, spoken = self.embed_words(caption_ids), (caption_ids != PAD)[:, :, None]
        told = (words * spoken).sum(1) / spoken.sum(1).clamp(min=1)
        condition = F.silu(self.embed_time(time_features(time, self.shape.width)) + self.embed_caption(told))
        first, second, third = self.embed_axes
        place = first[:, None, None] + second[None, :, None] + third[None, None]
        pixels = self.embed_patch(self._patches(noisy)) + place.flatten(0, 2)
        tokens = torch.cat([words + self.embed_places[: caption_ids.shape[1]], pixels], dim=1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        clean = self._pixels(self.head(_normed(tokens[:, caption_ids.shape[1] :]) * (1 + scale) + shift))
        return said_of(self.shape.prediction, noisy, clean, time)

    def _patches(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, N, values), patches frame by frame, row by row."""
        t, h, w = self.sides
        f, p = self.shape.patch_frames, self.shape.patch
        parts = clip.reshape(len(clip), self.channels, t, f, h, p, w, p)
        return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(clip), t * h * w, -1)

    def _pixels(self, patches: Tensor) -> Tensor:
        """The inverse of _patches."""
        t, h, w = self.sides
        f, p = self.shape.patch_frames, self.shape.patch
        parts = patches.reshape(len(patches), t, h, w, self.channels, f, p, p)
        return parts.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(patches), self.channels, t * f, h * p, w * p)
