"""Reward models of clips: scores of a whole clip, or of each tube of a grid, from one small network.

reward.json         what it scores (kind, frames, size, grid), how it was trained
model.safetensors   weights
tokenizer.json ...  the tokenizer of captions

A patch model is a video model that has learned on: it reads a tube, scaled up to the size of a clip, as it reads a clip
(after HALO, arXiv 2502.06812). Scores are on the labels' scale, 1 to 4, and may lie a little outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodrate.content.labelled_clips import BEST, DIMENSIONS, WORST
from goodrate.run_folder import new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

CARD, WEIGHTS = "reward.json", "model.safetensors"
FORMAT = 1
CAPTION_LENGTH, PAD = 24, 0
QUALITY = (DIMENSIONS.index("visual_quality"), DIMENSIONS.index("temporal_consistency"))
DEFECTIVE = 2.0  # a tube below it, in its worse quality, counts as defective
Kind = Literal["video", "patch"]


@dataclass(frozen=True)
class RewardCard:
    """What reward.json says. grid: tubes along a side of a patch model, 1 of a video model. trained: facts."""

    kind: Kind
    frames: int
    size: int
    grid: int
    width: int
    words: int
    trained: Mapping[str, Any] = field(default_factory=dict)


class Mixing(nn.Module):
    """Over space, halving it, then over time; scaled and shifted by the caption."""

    def __init__(self, before: int, after: int, caption: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(before, after, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.time = nn.Conv3d(after, after, (3, 1, 1), padding=(1, 0, 0))
        self.told = nn.Linear(caption, 2 * after)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, values: Tensor, caption: Tensor) -> Tensor:
        """(N, before, T, H, W), (N, caption) -> (N, after, T, H / 2, W / 2)."""
        values = F.gelu(self.space(values))
        values = values + F.gelu(self.time(values))
        scale, shift = self.told(caption)[:, :, None, None, None].chunk(2, dim=1)
        return values * (1 + scale) + shift


class RewardNetwork(nn.Module):
    """A small convolutional network over a clip and its changes, and a bag of the caption's tokens."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.embed_words = nn.Embedding(words, 2 * width)
        nn.init.normal_(self.embed_words.weight, std=0.3)
        self.layers = nn.ModuleList(
            Mixing(a, b, 2 * width) for a, b in ((6, width), (width, width), (width, 2 * width))
        )
        self.hidden = nn.Linear(2 * 2 * width + 2 * width, 4 * width)
        self.head = nn.Linear(4 * width, len(DIMENSIONS))
        nn.init.constant_(self.head.bias, (WORST + BEST) / 2)

    def forward(self, clips: Tensor, caption_ids: Tensor) -> Tensor:
        """Scores (N, D) of clips (N, T, H, W, 3), levels 0..255, with captions (N, L); PAD alone is no caption."""
        pixels = clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        changes = F.pad(pixels.diff(dim=2), (0, 0, 0, 0, 1, 0))
        spoken = (caption_ids != PAD)[:, :, None]
        caption = (self.embed_words(caption_ids) * spoken).sum(1) / spoken.sum(1).clamp(min=1)
        values = torch.cat([pixels, 2 * changes], dim=1)
        for layer in self.layers:
            values = layer(values, caption)
        # The mean says how the clip is, the maximum whether anything anywhere is wrong.
        pooled = torch.cat([values.mean(dim=(2, 3, 4)), values.amax(dim=(2, 3, 4)), caption], dim=1)
        return self.head(F.gelu(self.hidden(pooled)))


def tube_clips(clips: Tensor, grid: int) -> Tensor:
    """(N * P, T, H, W, 3) float: each tube of clips (N, T, H, W, 3), row by row, scaled up to the clip's size."""
    count, frames, height, width, channels = clips.shape
    cells = clips.reshape(count, frames, grid, height // grid, grid, width // grid, channels)
    flat = cells.permute(0, 2, 4, 1, 6, 3, 5).flatten(0, 3).float()  # (N P T, 3, H / g, W / g)
    scaled = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return scaled.reshape(-1, frames, channels, height, width).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True)
class RewardModel:
    """A network with the tokenizer of its captions. Open: `open`; new: new_reward_model."""

    card: RewardCard
    network: RewardNetwork
    tokenizer: Any
    folder: Path | None = None

    @classmethod
    def open(cls, folder: str | Path) -> RewardModel:
        """The model of a folder. Raises FileNotFoundError, ValueError naming the file that is another or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileNotFoundError(f"{folder} is no reward model: it has no {CARD}; make one with `goodrate train "
                                    "video_reward` or `patch_reward`")  # fmt: skip
        entries = read_object(folder / CARD)
        if entries.pop("format", None) != FORMAT:
            raise ValueError(f"{folder / CARD}: expected format {FORMAT}; train the model again")
        try:
            card = RewardCard(**entries)
            network = RewardNetwork(card.width, card.words)
            network.load_state_dict(load_file(str(folder / WEIGHTS)))
        except (TypeError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: {WEIGHTS} and {CARD} are not those of one reward model ({error})") from error
        return cls(card, network.eval(), AutoTokenizer.from_pretrained(str(folder)), folder)

    def save(self, folder: str | Path) -> None:
        """Write the folder, in the place of an older one."""
        from safetensors.torch import save_file

        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.network.state_dict().items()}
        with new_folder(folder) as beside:
            self.tokenizer.save_pretrained(str(beside))
            save_file(weights, str(beside / WEIGHTS))
            write_atomic(beside / CARD, dumps({"format": FORMAT, **asdict(self.card)}, indent=2) + "\n")

    def caption_ids(self, captions: Sequence[str]) -> Tensor:
        """Token ids (N, CAPTION_LENGTH), PAD where a caption is shorter; what is longer is cut."""
        rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"][:CAPTION_LENGTH] for text in captions]
        ids = [row + [PAD] * (CAPTION_LENGTH - len(row)) for row in rows]
        return torch.tensor(ids, dtype=torch.long).reshape(len(rows), CAPTION_LENGTH)

    def scores(self, clips: np.ndarray, captions: Sequence[str], batch: int = 64) -> np.ndarray:
        """(N, D) of a video model, (N, P, D) of a patch model, in the order of DIMENSIONS.

        clips: uint8 (N, T, H, W, 3) of the card's frames and size; "" = no caption, and caption_alignment then says
        nothing. Raises ValueError for another shape.
        """
        depth = (len(DIMENSIONS),) if self.card.kind == "video" else (self.card.grid**2, len(DIMENSIONS))
        return self._scored(self.forward, clips, captions, batch).reshape(-1, *depth)

    def whole_scores(self, clips: np.ndarray, captions: Sequence[str], batch: int = 64) -> np.ndarray:
        """(N, D) of the clips as wholes, by either kind: a patch model has gone on learning them, too."""
        return self._scored(self.network, clips, captions, batch)

    def _scored(self, scorer: Any, clips: np.ndarray, captions: Sequence[str], batch: int) -> np.ndarray:
        wanted = (self.card.frames, self.card.size, self.card.size, 3)
        if clips.shape[1:] != wanted:
            raise ValueError(f"clips (T, H, W, 3) {clips.shape[1:]}; this reward model reads {wanted}")
        if not len(clips):
            return np.zeros((0, len(DIMENSIONS)), dtype=np.float32)
        ids = self.caption_ids(captions)
        with torch.no_grad():
            parts = range(0, len(clips), batch)
            found = [scorer(torch.from_numpy(clips[i : i + batch]), ids[i : i + batch]) for i in parts]
        return torch.cat(found).numpy()

    def forward(self, clips: Tensor, caption_ids: Tensor) -> Tensor:
        """(N, D) or (N, P, D), with a graph."""
        if self.card.kind == "video":
            return self.network(clips, caption_ids)
        return patch_scores(self.network, clips, caption_ids, self.card.grid)


def patch_scores(network: RewardNetwork, clips: Tensor, caption_ids: Tensor, grid: int) -> Tensor:
    """(N, P, D) scores of each tube, read as a clip."""
    patches = grid * grid
    ids = caption_ids.repeat_interleave(patches, dim=0)
    return network(tube_clips(clips, grid), ids).reshape(len(clips), patches, -1)


def defect_scores(scores: np.ndarray) -> np.ndarray:
    """(...) the worse of visual quality and temporal consistency, of scores or labels (..., D)."""
    return scores[..., QUALITY].min(axis=-1)


def new_reward_model(frames: int, size: int, width: int, seed: int) -> RewardModel:
    """An untrained video model that reads captions with the tokenizer of the house's base model."""
    from transformers import AutoTokenizer

    from goodrate.models.nano import nano_folder

    tokenizer = AutoTokenizer.from_pretrained(str(nano_folder()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RewardNetwork(width, len(tokenizer))
    return RewardModel(RewardCard("video", frames, size, 1, width, len(tokenizer)), network, tokenizer)
