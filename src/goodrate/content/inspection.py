"""Clips looked at by a reward model: how good each is, where it is worst, and a picture that shows the place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.content.clip_file import MOST_FRAMES, read_clip
from goodrate.content.labelled_clips import DIMENSIONS
from goodrate.content.reward_model import DEFECTIVE, RewardModel, defect_scores

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
ALIGNMENT = DIMENSIONS.index("caption_alignment")
SHOWN_SIDE, LABEL_ROWS, GAP = 96, 14, 4  # pixels of a frame, of a line of text, between clips
RED = (220, 30, 30)


@dataclass(frozen=True)
class Inspection:
    """One clip. scores (D,) of the whole; patches (P, D), row by row, None of a model of whole clips.

    frames uint8 (T, H, W, 3) as the model read them. caption: "" = none, and caption_alignment says nothing then.
    """

    file: Path
    caption: str
    frames: np.ndarray
    scores: np.ndarray
    patches: np.ndarray | None

    @property
    def grid(self) -> int:
        """Tubes along a side."""
        return 1 if self.patches is None else int(round(len(self.patches) ** 0.5))

    @property
    def defects(self) -> np.ndarray:
        """(P,) the worse of visual quality and temporal consistency of each tube, or of the whole clip."""
        return defect_scores(self.scores[None] if self.patches is None else self.patches)

    @property
    def worst(self) -> float:
        """Of the defects the lowest; what a gate looks at."""
        return float(self.defects.min())

    @property
    def place(self) -> tuple[int, int] | None:
        """Row and column of the worst tube, from 1; None of a model of whole clips."""
        if self.patches is None:
            return None
        row, column = divmod(int(self.defects.argmin()), self.grid)
        return row + 1, column + 1

    def dimensions(self) -> dict[str, float]:
        """The scores by name; caption_alignment only where there is a caption."""
        told = dict(zip(DIMENSIONS, self.scores.tolist(), strict=True))
        return told if self.caption else {name: value for name, value in told.items() if name != DIMENSIONS[ALIGNMENT]}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        place = self.place
        return {
            "file": str(self.file), "caption": self.caption, **self.dimensions(), "worst_patch": self.worst,
            "row": place and place[0], "column": place and place[1],
            "patches": None if self.patches is None else self.defects.reshape(self.grid, self.grid).tolist(),
        }  # fmt: skip


def read_frames(path: str | Path, frames: int, size: int) -> np.ndarray:
    """uint8 (T, H, W, 3) of an animation, or of a folder of pictures in natural order of their names.

    So many frames in equal steps, each scaled to size x size. Raises FileNotFoundError for nothing there, ValueError
    naming a file that is no picture, one that stands still because it is one picture, a folder without pictures or
    with too many.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such clip; expected .webp, .gif, or a folder of frames")
    if not path.is_dir():
        whole = read_clip(path, frames=frames, size=size)
        if frames > 1 and _is_still(path):
            raise ValueError(
                f"{path} is one picture; expected a clip: .webp or .gif with frames, or a folder of frames"
            )
        return whole
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in PICTURES), key=_counted)
    if not 1 < len(files) <= MOST_FRAMES:
        raise ValueError(f"{path} holds {len(files)} pictures ({', '.join(PICTURES)}); expected 2 to {MOST_FRAMES}, a "
                         "frame each")  # fmt: skip
    chosen = [files[number * len(files) // frames] for number in range(frames)]
    return np.concatenate([read_clip(file, frames=1, size=size) for file in chosen])


def _counted(file: Path) -> list[tuple[int, str]]:
    """A key in which frame 10 comes behind frame 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", file.name)]


def _is_still(path: Path) -> bool:
    """Whether a file holds one frame only."""
    from PIL import Image

    with Image.open(path) as image:
        return getattr(image, "n_frames", 1) == 1


def inspect_clips(
    files: Sequence[str | Path], model: RewardModel, captions: Mapping[str, str] | None = None
) -> list[Inspection]:
    """Each clip's scores, in order. captions: by the file's path as it is given, or its name. Raises as read_frames."""
    card, told = model.card, captions or {}
    if not files:
        raise ValueError("no clips to inspect; name files (.webp, .gif) or folders of frames")
    clips = np.stack([read_frames(file, card.frames, card.size) for file in files])
    texts = [told.get(str(file), told.get(Path(file).name, "")) for file in files]
    whole = model.whole_scores(clips, texts)
    patches = model.scores(clips, texts) if card.kind == "patch" else [None] * len(clips)
    return [
        Inspection(Path(file), text, clip, scores, tubes)
        for file, text, clip, scores, tubes in zip(files, texts, clips, whole, patches, strict=True)
    ]


def marked_picture(found: Sequence[Inspection], below: float = DEFECTIVE) -> np.ndarray:
    """uint8 (H, W, 3): a clip a row, its frames from left to right; tubes that score below are framed in red.

    Above each row stand the file's name and the worst tube's score.
    """
    rows = [_marked_row(one, below) for one in found]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def _marked_row(one: Inspection, below: float) -> np.ndarray:
    from PIL import Image, ImageDraw

    times = max(1, SHOWN_SIDE // one.frames.shape[1])
    side, count = one.frames.shape[1] * times, len(one.frames)
    picture = Image.new("RGB", (count * side, side + LABEL_ROWS), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((2, 1), f"{one.file.name}  worst {one.worst:.2f}", fill="black")
    for number, frame in enumerate(one.frames):
        enlarged = frame.repeat(times, axis=0).repeat(times, axis=1)
        picture.paste(Image.fromarray(enlarged), (number * side, LABEL_ROWS))
        for tube in np.flatnonzero(one.defects < below):
            row, column = divmod(int(tube), one.grid)
            left, right = (number * side + place * side // one.grid for place in (column, column + 1))
            top, bottom = (LABEL_ROWS + place * side // one.grid for place in (row, row + 1))
            draw.rectangle((left, top, right - 1, bottom - 1), outline=RED, width=2)
    return np.asarray(picture)
