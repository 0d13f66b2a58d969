"""Encoders of pictures: pixels, EfficientNet-Lite0, any Hugging Face model, the tiny one, and their tokens on disk."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goodrate.models.vision.efficientnet import EfficientNetLite0, SameConv
from goodrate.models.vision.encoder import open_vision
from goodrate.models.vision.pixels import to_pixels
from goodrate.models.vision.tiny import TinyVision
from goodrate.models.vision.token_cache import TokenCache, encoded

GROCERY = Path(__file__).parents[2] / "shared" / "data" / "grocery"
SHARED = GROCERY if GROCERY.is_dir() else Path("/work/shared/data/grocery")
WEIGHTS = Path(os.environ.get("GOODRATE_EFFICIENTNET", "/tmp/fixtures/efficientnet"))


def picture(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_wide_picture_is_centred_on_white_and_a_transparent_one_lies_on_white() -> None:
    wide = to_pixels(file_of(Image.new("RGB", (8, 4), (200, 0, 0))), 8)
    assert wide[0, 0].tolist() == [255, 255, 255] and wide[7, 7].tolist() == [255, 255, 255]
    assert wide[4, 4].tolist() == [200, 0, 0]
    clear = to_pixels(file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), 4)
    assert (clear == 255).all()


def test_pixels_of_the_right_size_stay_as_they_are() -> None:
    assert (to_pixels(picture(0), 16) == picture(0)).all()
    assert (to_pixels(file_of(Image.fromarray(picture(0))), 16) == picture(0)).all()


@pytest.mark.parametrize("bad", [b"no picture", b"", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture_is_refused(bad: bytes | np.ndarray) -> None:
    with pytest.raises(ValueError, match="picture"):
        to_pixels(bad, 8)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "before", "after"), [(224, 3, 2, 0, 1), (112, 5, 2, 1, 2), (7, 3, 1, 1, 1)]
)
def test_same_padding_puts_the_odd_pixel_behind(length: int, kernel: int, stride: int, before: int, after: int) -> None:
    """224 pixels by 2 are 112 places; 111 * 2 + 3 = 225 pixels are read: one is lacking, and it goes behind."""
    conv = SameConv(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)
    out = conv(torch.ones(1, 1, length, length))[0, 0, :, length // stride // 2]
    assert len(out) == -(-length // stride)
    assert float(out[0].detach()) == pytest.approx(kernel * (kernel - before))
    assert float(out[-1].detach()) == pytest.approx(kernel * (kernel - after))


def published_names(network: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The state in the names of the published file: an underscore before each of our own names."""
    own = network.state_dict()
    named = {}
    for name, weight in own.items():
        parts = name.split(".")
        marked = [f"_{p}" if i in (0, 2 if parts[0] == "blocks" else 0) else p for i, p in enumerate(parts)]
        named[".".join(marked)] = weight
    return named


def test_efficientnet_has_the_published_shape_and_is_loaded_strictly(tmp_path: Path) -> None:
    """4.65 million parameters, 7 x 7 tokens of 1280; a file that lacks a weight is refused."""
    network = EfficientNetLite0().eval()
    assert sum(weight.numel() for weight in network.parameters()) == 4_652_008
    state = published_names(network)
    torch.save(state, tmp_path / "weights.pth")
    opened = open_vision(tmp_path)
    pixels = torch.from_numpy(picture(1, 224))[None]
    with torch.no_grad():
        tokens = opened.tokens(pixels)
        assert tokens.shape == (1, 49, 1280)
        torch.testing.assert_close(opened(pixels), opened.fc(tokens.mean(1)))
        torch.testing.assert_close(tokens, network.tokens(pixels))
    assert not any(weight.requires_grad for weight in opened.parameters())
    torch.save({name: w for name, w in state.items() if name != "_bn1.bias"}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="bn1.bias"):
        open_vision(tmp_path)


@pytest.mark.skipif(not (WEIGHTS.is_dir() and SHARED.is_dir()), reason="needs the published weights and shared/data")
def test_published_weights_see_groceries() -> None:
    """1-nearest neighbour of 16 pictures among 24 of four equally frequent coarse classes: chance is 0.25."""
    import polars as pl

    encoder = open_vision(WEIGHTS)
    torch.set_num_threads(1)
    whole = [pl.read_parquet(SHARED / f"{part}.parquet") for part in ("train", "test")]
    kinds = sorted(whole[1]["coarse_label"].value_counts(sort=True).head(4)["coarse_label"].to_list())
    parts = [
        pl.concat([part.filter(pl.col("coarse_label") == kind).sample(n, seed=1) for kind in kinds])
        for part, n in zip(whole, (6, 4), strict=True)
    ]
    vectors = []
    for part in parts:
        means = encoded(encoder, part["image"].to_list()).astype(np.float32).mean(1)
        vectors.append(means / np.linalg.norm(means, axis=1, keepdims=True))
    near = (vectors[1] @ vectors[0].T).argmax(1)
    right = parts[0]["coarse_label"].to_numpy()[near] == parts[1]["coarse_label"].to_numpy()
    assert right.mean() > 0.6


def tiny_hugging_face(folder: Path, kind: str) -> Path:
    from transformers import CLIPVisionConfig, CLIPVisionModel, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    if kind == "vit":
        config = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        network: torch.nn.Module = CLIPVisionModel(config)
    else:
        network = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"))
        (folder / "preprocessor_config.json").write_text(
            '{"size": {"shortest_edge": 32}, "image_mean": [0.5, 0.5, 0.5]}'
        )
    network.save_pretrained(folder)  # type: ignore[operator]
    return folder


@pytest.mark.parametrize(("kind", "shape"), [("vit", (5, 16)), ("resnet", (16, 12))])
def test_any_hugging_face_model_gives_its_last_states(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    """(32 / 16)^2 + 1 tokens of a transformer; a map of 32 / 4 / 2 = 4 by 4 places of a convolutional network."""
    encoder = open_vision(tiny_hugging_face(tmp_path, kind))
    assert (encoder.size, encoder.count, encoder.dimension) == (32, *shape)
    pixels = torch.from_numpy(np.stack([picture(n, 32) for n in range(2)]))
    both = encoder.tokens(pixels)
    torch.testing.assert_close(both[1:], encoder.tokens(pixels[1:]), atol=1e-5, rtol=1e-5)
    mean = torch.tensor([0.5, 0.5, 0.5] if kind == "resnet" else [0.485, 0.456, 0.406])
    scaled = ((pixels / 255 - mean) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 3, 1, 2)
    state = encoder.network(pixel_values=scaled).last_hidden_state
    torch.testing.assert_close(both.flatten(), (state if kind == "vit" else state.flatten(2).mT).flatten())


def test_a_folder_without_a_vision_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="vision.json"):
        open_vision(tmp_path)


def test_the_tiny_one_comes_back_from_its_folder_and_trains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TinyVision(16, 16)
    network.save(tmp_path)
    pixels = torch.from_numpy(picture(3))[None]
    opened = open_vision(tmp_path)
    assert torch.equal(opened.tokens(pixels), network.tokens(pixels).detach()) and network.count == 4
    assert opened.fingerprint == network.fingerprint
    network.tokens(pixels).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    with torch.no_grad():
        network.colour.weight += 1
    assert opened.fingerprint != network.fingerprint


class Counting(TinyVision):
    """Counts the pictures that it reads."""

    seen = 0

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += len(pixels)
        return super().tokens(pixels)


def test_tokens_on_disk_are_computed_once_and_survive_a_cut(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = Counting(16, 16)
    pictures: list[bytes | np.ndarray] = [picture(n) for n in (0, 1, 0, 2)]
    first = TokenCache(tmp_path, encoder).kept(pictures).take(range(4)).numpy()
    assert encoder.seen == 3 and (first[0] == first[2]).all()
    np.testing.assert_array_equal(first, encoded(encoder, pictures))
    encoder.seen = 0
    folder = tmp_path / encoder.fingerprint
    with (folder / "rows.f16").open("ab") as file:
        file.write(b"half a row")
    with (folder / "keys.txt").open("a") as file:
        file.write("0123")  # a line without its end
    again = TokenCache(tmp_path, encoder).kept([*pictures, picture(7)]).take([0, 1, 2, 3, 4, -1]).numpy()
    assert encoder.seen == 1
    np.testing.assert_array_equal(again[:4], first)
    np.testing.assert_array_equal(again[4:5], encoded(encoder, [picture(7)]))
    assert not again[5].any()
    with pytest.raises(ValueError, match="picture 1: "):
        TokenCache(tmp_path, encoder).kept([picture(0), b"nothing"])
