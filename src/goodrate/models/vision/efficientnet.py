"""EfficientNet-Lite0 (arXiv 1905.11946, the Lite variant: ReLU6, no squeeze-and-excitation), for its published weights.

Stem and head are not scaled. Convolutions pad as TensorFlow's "same" does: the odd pixel goes to the right and below.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodrate.models.pretrained import readable

# repeats, kernel, stride of the first, expansion, channels out
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
STEM, HEAD, CLASSES = 32, 1280, 1000


class SameConv(nn.Conv2d):
    """A convolution without bias that gives ceil(input / stride) places."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, ceil(H / stride), ceil(W / stride))."""
        pads = []
        for length in (x.shape[3], x.shape[2]):  # F.pad begins with the last dimension
            stride, kernel = self.stride[0], self.kernel_size[0]
            lacking = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """Expand by 1 x 1, filter each channel, project by 1 x 1; a residual where nothing changes its shape."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inside * expansion
        self.residual = stride == 1 and inside == outside
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv, self.bn0 = SameConv(inside, middle, 1), _norm(middle)
        self.depthwise_conv, self.bn1 = SameConv(middle, middle, kernel, stride, groups=middle), _norm(middle)
        self.project_conv, self.bn2 = SameConv(middle, outside, 1), _norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H / stride, W / stride)."""
        wide = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        out = self.bn2(self.project_conv(F.relu6(self.bn1(self.depthwise_conv(wide)))))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """A VisionEncoder of 7 x 7 tokens of 1280 floats, and a classifier of ImageNet's 1000 classes."""

    dimension, count, size = HEAD, 49, 224

    def __init__(self, fingerprint: str = "efficientnet-lite0-untrained") -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.conv_stem, self.bn0 = SameConv(3, STEM, 3, 2), _norm(STEM)
        blocks, inside = [], STEM
        for repeats, kernel, stride, expansion, outside in STAGES:
            for place in range(repeats):
                blocks.append(MBConv(inside, outside, kernel, 1 if place else stride, expansion))
                inside = outside
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = SameConv(inside, HEAD, 1), _norm(HEAD)
        self.fc = nn.Linear(HEAD, CLASSES)

    @classmethod
    def load(cls, path: str | Path) -> EfficientNetLite0:
        """From a file of weights in the names of the PyTorch port. Raises ValueError for one that lacks a weight or has
        another."""
        path = Path(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        network = cls(f"efficientnet-lite0-{digest}")
        with readable(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
            own = {re.sub(r"(^|\.)_", r"\1", name): weight for name, weight in state.items()}
            lacking, foreign = network.load_state_dict(own, strict=False)
        if lacking or foreign:
            said = f"lack {lacking[0]!r}" if lacking else f"hold {foreign[0]!r} too"
            raise ValueError(f"{path}: the weights {said}; expected those of EfficientNet-Lite0 as PyTorch has them")
        return network.eval()

    def _map(self, pixels: Tensor) -> Tensor:
        """(B, 1280, 7, 7)."""
        x = (pixels.float().permute(0, 3, 1, 2) - 127) / 128
        x = F.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.bn1(self.conv_head(x)))

    def tokens(self, pixels: Tensor) -> Tensor:
        """See VisionEncoder: the head's feature map, place by place."""
        return self._map(pixels).flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, 1000) of ImageNet's classes from pixels (B, 224, 224, 3)."""
        return self.fc(self._map(pixels).mean((2, 3)))
