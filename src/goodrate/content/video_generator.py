"""The house's own video generator as a folder, and how any generator is opened.

generator.json      the shape, the kind, the attributes that captions told, how it was trained
model.safetensors   weights
tokenizer.json ...  the tokenizer of captions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodrate.content import diffusion
from goodrate.content.diffusers_generator import PIPELINE, DiffusersGenerator
from goodrate.content.generator import PAD, VideoDenoiser, VideoShape
from goodrate.content.protocol import CARD, FORMAT, Conditions, VideoGenerator
from goodrate.content.sampler import sample
from goodrate.run_folder import new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

WEIGHTS = "model.safetensors"


class ShopGenerator:
    """The house's generator: VideoDenoiser on pixels in -1..1, and a tokenizer for captions."""

    def __init__(self, network: VideoDenoiser, tokenizer: Any, card: Mapping[str, Any] | None = None) -> None:
        """card: further facts for generator.json: attributes, trained, ..."""
        self.network, self.tokenizer, self.card = network, tokenizer, dict(card or {})

    @property
    def shape(self) -> VideoShape:
        """Of its clips and its network."""
        return self.network.shape

    def caption_ids(self, captions: Sequence[str]) -> Tensor:
        """Token ids (B, caption_length), PAD where a caption is shorter; what is longer is cut."""
        length = self.shape.caption_length
        rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"][:length] for text in captions]
        ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.long)
        return ids.reshape(len(captions), length).to(next(self.network.parameters()).device)

    def conditions(self, captions: Sequence[str]) -> Conditions:
        """See VideoGenerator."""
        return {"caption_ids": self.caption_ids(captions)}

    def encode(self, clips: Tensor) -> Tensor:
        """Pixels in -1..1, channels first. ValueError for clips of another shape."""
        wanted = (self.shape.frames, self.shape.size, self.shape.size, self.network.channels)
        if tuple(clips.shape[1:]) != wanted:
            raise ValueError(f"clips (T, H, W, C) {tuple(clips.shape[1:])}, this generator makes {wanted}")
        return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1

    def decode(self, latents: Tensor) -> np.ndarray:
        """Clips uint8 (B, T, H, W, 3), the inverse of encode."""
        levels = ((latents.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 4, 1).cpu().numpy()

    def noised(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """See VideoGenerator."""
        return diffusion.noised(self.shape.prediction, latents, noise, time)

    def target(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """See VideoGenerator."""
        return diffusion.target(self.shape.prediction, latents, noise)

    def predict(self, noisy: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        """See VideoGenerator."""
        return self.network(noisy, time, conditions["caption_ids"])

    def sample(
        self, captions: Sequence[str], seeds: Sequence[int], *, steps: int | None = None, guidance: float | None = None,
        frames: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """See VideoGenerator; 8 steps, guidance 2. ValueError for a number of frames that it was not trained for."""
        if frames not in (None, self.shape.frames):
            raise ValueError(f"frames {frames}: this generator makes clips of {self.shape.frames} frames")
        training = self.network.training
        self.network.eval()
        try:
            latents = sample(
                self.network, self.caption_ids(captions),
                (self.network.channels, self.shape.frames, self.shape.size, self.shape.size), seeds,
                prediction=self.shape.prediction, steps=8 if steps is None else steps,
                guidance=2.0 if guidance is None else guidance,
            )  # fmt: skip
        finally:
            self.network.train(training)
        return self.decode(latents)

    def save(self, folder: str | Path) -> None:
        """Write the folder, in the place of an older one."""
        from safetensors.torch import save_file

        card = {
            "format": FORMAT,
            "kind": "house",
            "shape": self.shape.model_dump(),
            "channels": self.network.channels,
            **self.card,
        }
        with new_folder(folder) as beside:
            self.tokenizer.save_pretrained(str(beside))
            weights = {name: weight.detach().cpu().contiguous() for name, weight in self.network.state_dict().items()}
            save_file(weights, str(beside / WEIGHTS))
            write_atomic(beside / CARD, dumps(card, indent=2) + "\n")

    @classmethod
    def open(cls, folder: str | Path) -> ShopGenerator:
        """The generator of a folder. Raises FileNotFoundError, ValueError naming a file that is another or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        folder = Path(folder)
        card = read_object(folder / CARD)
        if card.get("format") != FORMAT:
            raise ValueError(f"{folder / CARD}: format {card.get('format')!r}, expected {FORMAT}; train it again")
        try:
            network = VideoDenoiser(VideoShape.model_validate(card["shape"]), card["channels"])
            network.load_state_dict(load_file(str(folder / WEIGHTS)))
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: {WEIGHTS} and {CARD} are not those of one generator ({error})") from error
        more = {name: value for name, value in card.items() if name not in ("format", "kind", "shape", "channels")}
        return cls(network.eval(), AutoTokenizer.from_pretrained(str(folder)), more)


def open_generator(folder: str | Path) -> VideoGenerator:
    """The generator of a folder: one that `goodrate train` wrote, or a diffusers text-to-video pipeline.

    Raises FileNotFoundError for a folder that is neither, MissingExtra for a pipeline without diffusers.
    """
    folder = Path(folder)
    if (folder / CARD).is_file() and read_object(folder / CARD).get("kind") == "house":
        return ShopGenerator.open(folder)
    if not any((folder / name).is_file() for name in (CARD, PIPELINE)):
        raise FileNotFoundError(
            f"{folder} is no video generator: neither {CARD} (goodrate train video_generator) nor {PIPELINE} (a "
            "diffusers pipeline) is in it"
        )
    return DiffusersGenerator.open(folder)


def new_generator(shape: VideoShape, seed: int, card: Mapping[str, Any] | None = None) -> ShopGenerator:
    """An untrained generator that reads captions with the tokenizer of the house's base model."""
    from transformers import AutoTokenizer

    from goodrate.models.nano import nano_folder

    tokenizer = AutoTokenizer.from_pretrained(str(nano_folder()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoDenoiser(shape.model_copy(update={"words": len(tokenizer)}))
    return ShopGenerator(network, tokenizer, card)
