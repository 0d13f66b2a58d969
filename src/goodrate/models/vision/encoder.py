"""What every network of pictures gives, and how any of them is opened from a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from goodrate.models.pretrained import folder_hash, read_network, readable
from goodrate.strict_json import read_object

IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VisionEncoder(Protocol):
    """A network of pictures. dimension: floats of a token. count: tokens of a picture. size: pixels of its sides.

    fingerprint: another one for other weights or another reading of the pixels; the key of cached tokens.
    """

    dimension: int
    count: int
    size: int
    fingerprint: str

    def tokens(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 (B, size, size, 3). Tokens (B, count, dimension), with gradient where that is on."""
        ...


class HuggingFaceVision(nn.Module):
    """Any Hugging Face model with pixel_values: its last hidden states, a feature map's places one after the other.

    network: what AutoModel gives; of a model of texts and pictures the part for pictures. size: pixels of a side. mean,
    spread: of the channels of pixels from 0 to 1 (3,). Raises ValueError for a network that reads no pictures.
    """

    def __init__(
        self, network: Any, size: int, fingerprint: str, mean: tuple[float, ...] = IMAGENET_MEAN,
        spread: tuple[float, ...] = IMAGENET_SPREAD,
    ) -> None:  # fmt: skip
        import torch

        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.network = getattr(network, "vision_model", network)
        self.size, self.fingerprint = size, fingerprint
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("spread", torch.tensor(spread), persistent=False)
        if getattr(self.network, "main_input_name", "pixel_values") != "pixel_values":
            raise ValueError(
                f"{type(network).__name__} reads {self.network.main_input_name}; expected a model of pictures"
            )
        with torch.no_grad():
            probe = self.eval().tokens(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        self.count, self.dimension = probe.shape[1:]

    def tokens(self, pixels: Tensor) -> Tensor:
        """See VisionEncoder."""
        scaled = (pixels.float() / 255 - self.mean) / self.spread
        states = self.network(pixel_values=scaled.permute(0, 3, 1, 2)).last_hidden_state
        return states if states.ndim == 3 else states.flatten(2).transpose(1, 2)


def open_vision(folder: str | Path) -> Any:
    """The VisionEncoder of a folder, frozen and in evaluation mode.

    A folder of TinyVision.save, of EfficientNet-Lite0's weights (one .pth), or any Hugging Face folder or hub id.
    Raises FileNotFoundError for a folder with nothing of that, ValueError for weights that are not whole.
    """
    from goodrate.models.vision.efficientnet import EfficientNetLite0
    from goodrate.models.vision.tiny import CARD, TinyVision

    path = Path(folder).expanduser()
    weights = sorted(path.glob("*.pth")) if path.is_dir() else []
    encoder: Any
    if (path / CARD).is_file():
        encoder = TinyVision.load(path)
    elif weights and not (path / "config.json").is_file():
        encoder = EfficientNetLite0.load(weights[0])
    elif path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no {CARD}, config.json or *.pth there; expected a folder of a vision model"
        )
    else:
        encoder = _hugging_face(str(folder))
    return encoder.requires_grad_(False).eval()


def _hugging_face(name: str) -> HuggingFaceVision:
    """A folder or hub id. Its preprocessor_config.json, where there is one, says how pixels are read."""
    from transformers import AutoModel

    network = read_network(AutoModel, name)
    path = Path(name) / "preprocessor_config.json"
    said = read_object(path) if path.is_file() else {}
    with readable(name):
        size = _size(said, network.config)
        mean, spread = (tuple(said.get(key) or default) for key, default in _NORMAL.items())
    digest = folder_hash(Path(name)) if Path(name).is_dir() else hashlib.sha256(name.encode()).hexdigest()[:16]
    reading = hashlib.sha256(repr((digest, size, mean, spread)).encode()).hexdigest()[:16]
    return HuggingFaceVision(network, size, f"hf-{reading}", mean, spread)


_NORMAL = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_SPREAD}


def _size(said: dict[str, Any], config: Any) -> int:
    """Pixels of a side: the processor's, else the network's, else 224."""
    crop = said.get("crop_size") if said.get("do_center_crop") else None
    asked = crop or said.get("size")
    if isinstance(asked, dict):
        asked = asked.get("height") or asked.get("shortest_edge")
    own = getattr(getattr(config, "vision_config", config), "image_size", None)
    return int(asked or own or 224)
