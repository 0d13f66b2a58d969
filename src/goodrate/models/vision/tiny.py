"""A small convolutional network for pictures of a few thousand pixels, trained from scratch on a processor."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from goodrate.models.pretrained import readable
from goodrate.strict_json import dumps, read_object

CARD, WEIGHTS = "vision.json", "vision.safetensors"


class TinyVision(nn.Module):
    """Three convolutions that halve the sides, and one more: (size / 8)^2 tokens of `dimension` floats.

    Colours reach the last layer beside the edges: the first layer's pooled pixels are added to the tokens.
    """

    def __init__(self, size: int = 64, dimension: int = 64) -> None:
        """size: a multiple of 8. dimension: a multiple of 8."""
        super().__init__()
        if size % 8 or dimension % 8:
            raise ValueError(f"size {size} and dimension {dimension}: expected multiples of 8")
        self.size, self.dimension, self.count = size, dimension, (size // 8) ** 2
        widths = (3, dimension // 2, dimension // 2, dimension, dimension)
        self.layers = nn.Sequential(
            *(_layer(a, b, 2 if n < 3 else 1) for n, (a, b) in enumerate(zip(widths, widths[1:], strict=False)))
        )
        self.colour = nn.Conv2d(3, dimension, 8, 8)

    @property
    def fingerprint(self) -> str:
        """Of the weights as they are."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
        return f"tiny-{self.size}-{digest.hexdigest()[:16]}"

    def tokens(self, pixels: Tensor) -> Tensor:
        """See VisionEncoder."""
        x = pixels.float().permute(0, 3, 1, 2) / 127.5 - 1
        return (self.layers(x) + self.colour(x)).flatten(2).transpose(1, 2)

    def save(self, folder: str | Path) -> None:
        """Write weights and card into a folder that is there."""
        from safetensors.torch import save_file

        save_file(
            {name: w.detach().cpu().contiguous() for name, w in self.state_dict().items()}, Path(folder) / WEIGHTS
        )
        (Path(folder) / CARD).write_text(dumps({"size": self.size, "dimension": self.dimension}) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> TinyVision:
        """From the folder of `save`. Raises ValueError naming it when the files are not whole."""
        from safetensors.torch import load_file

        card = read_object(Path(folder) / CARD)
        with readable(folder):
            network = cls(int(card["size"]), int(card["dimension"]))
            network.load_state_dict(load_file(Path(folder) / WEIGHTS))
        return network.eval()


def _layer(inside: int, outside: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(4, outside), nn.SiLU()
    )  # fmt: skip


def pooled(tokens: Tensor) -> Tensor:
    """Mean and largest of a picture's tokens (B, T, D) -> (B, 2 D): what a linear probe reads."""
    return torch.cat([tokens.mean(1), tokens.amax(1)], dim=-1)
