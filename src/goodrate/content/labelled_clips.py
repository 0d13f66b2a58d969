"""Clips with what is known of their quality, as a whole and in each tube of a grid: what reward models learn from.

Labels are on the scale 1 (bad) to 4 (good) of VideoScore, one for each of DIMENSIONS. Tubes are numbered row by row.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from goodrate.run_folder import write_atomic
from goodrate.shop.clips import ClipExample, DefectKind, clip_example, patch_labels
from goodrate.shop.world import World

Dimension = Literal["visual_quality", "temporal_consistency", "dynamic_degree", "caption_alignment"]
DIMENSIONS: tuple[str, ...] = get_args(Dimension)
WORST, BEST = 1.0, 4.0
# What one frame shows, and what only the change from frame to frame does.
SEEN: tuple[DefectKind, ...] = ("smear", "missing_part", "wrong_logo", "colour_jump")
FELT: tuple[DefectKind, ...] = ("colour_jump", "flicker", "frozen_patch")
CONTRADICTS: tuple[DefectKind, ...] = ("missing_part", "wrong_logo")
FULL_MOTION = 0.08  # mean change of a level between frames, as a share of the range, that counts as full motion
STILL_SHARE = 0.08  # of the drawn clips do not turn at all
ARRAYS = ("clips", "captions", "video", "patches", "group")


@dataclass(frozen=True)
class LabelledClips:
    """clips uint8 (N, T, H, W, 3), captions (N texts), video (N, D), patches (N, P, D), group (N,) of one item."""

    clips: np.ndarray
    captions: tuple[str, ...]
    video: np.ndarray
    patches: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def grid(self) -> int:
        """Tubes along a side."""
        return int(round(self.patches.shape[1] ** 0.5))

    def rows(self, which: np.ndarray) -> LabelledClips:
        """Those of positions (M,)."""
        captions = tuple(self.captions[i] for i in which)
        return LabelledClips(self.clips[which], captions, self.video[which], self.patches[which], self.group[which])

    def split(self, share: float) -> tuple[LabelledClips, LabelledClips]:
        """Those to learn from, and the clips of a share of the groups, the last ones of a fixed shuffle.

        Raises ValueError when either part would be empty.
        """
        groups = np.random.default_rng(17).permutation(np.unique(self.group))
        held = np.isin(self.group, groups[len(groups) - int(np.ceil(share * len(groups))) :])
        if held.all() or not held.any():
            raise ValueError(f"{len(groups)} items cannot be parted with dev_share = {share}; give more clips")
        return self.rows(np.flatnonzero(~held)), self.rows(np.flatnonzero(held))

    def write(self, path: str | Path) -> None:
        """Write an npz file, whole or not at all."""
        buffer = BytesIO()
        values = {"clips": self.clips, "captions": np.asarray(self.captions, dtype=np.str_), "video": self.video,
                  "patches": self.patches, "group": self.group}  # fmt: skip
        np.savez_compressed(buffer, allow_pickle=False, **values)
        write_atomic(path, buffer.getvalue())


def read_labelled_clips(path: str | Path) -> LabelledClips:
    """The clips of an npz file that `write` wrote, or one with the same arrays.

    Raises FileNotFoundError, and ValueError naming the file and the array that is missing or of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            missing = [name for name in ARRAYS if name not in held]
            if missing:
                raise ValueError(f"{path}: no array {missing[0]!r}; expected {', '.join(ARRAYS)}")
            clips, captions, video, patches, group = (held[name] for name in ARRAYS)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: cut off or no npz file ({error})") from error
    count, depth = len(clips), len(DIMENSIONS)
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8 or clips.shape[2] != clips.shape[3]:
        raise ValueError(f"{path}: clips is {clips.dtype} {clips.shape}; expected uint8 (N, T, H, H, 3)")
    side = round(patches.shape[1] ** 0.5) if patches.ndim == 3 else 0
    if patches.shape != (count, side * side, depth) or not side:
        raise ValueError(f"{path}: patches is {patches.shape}; expected ({count}, g * g, {depth})")
    if clips.shape[2] % side:
        raise ValueError(f"{path}: {side} x {side} patches do not divide clips of {clips.shape[2]} x {clips.shape[2]}")
    for name, shape, array in (("captions", (count,), captions), ("video", (count, depth), video),
                               ("group", (count,), group)):  # fmt: skip
        if array.shape != shape:
            raise ValueError(f"{path}: {name} is {array.shape}; expected {shape}")
    for name, labels in (("video", video), ("patches", patches)):
        if not ((labels >= WORST) & (labels <= BEST)).all():
            raise ValueError(f"{path}: {name} has a label outside {WORST:g} to {BEST:g}")
    return LabelledClips(clips, tuple(map(str, captions)), video.astype(np.float32), patches.astype(np.float32), group)


def joined(parts: Sequence[LabelledClips]) -> LabelledClips:
    """All clips of several sets of one shape, in order."""
    arrays = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("clips", "video", "patches", "group")
    ]
    clips, video, patches, group = arrays
    return LabelledClips(clips, tuple(text for part in parts for text in part.captions), video, patches, group)


def tubes(clips: np.ndarray, grid: int) -> np.ndarray:
    """(N, P, T, H / g, W / g, C) of clips (N, T, H, W, C). ValueError where the grid does not divide the sides."""
    count, frames, height, width, channels = clips.shape
    if height % grid or width % grid:
        raise ValueError(f"a grid of {grid} x {grid} does not divide clips of {height} x {width}")
    cells = clips.reshape(count, frames, grid, height // grid, grid, width // grid, channels)
    return cells.transpose(0, 2, 4, 1, 3, 5, 6).reshape(
        count, grid * grid, frames, height // grid, width // grid, channels
    )


def motion(clips: np.ndarray) -> np.ndarray:
    """(...) mean change of a level from frame to frame, 0..1, of uint8 clips (..., T, H, W, C); 0 for one frame."""
    if clips.shape[-4] < 2:
        return np.zeros(clips.shape[:-4])
    steps = np.abs(np.diff(clips.astype(np.float32), axis=-4))
    return steps.mean(axis=(-4, -3, -2, -1)) / 255


def dynamic_labels(clips: np.ndarray) -> np.ndarray:
    """(...) the label of dynamic_degree: from 1, nothing moves, to 4, all that FULL_MOTION does."""
    return WORST + (BEST - WORST) * np.minimum(motion(clips) / FULL_MOTION, 1)


def example_labels(example: ClipExample, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """(video (D,), patches (P, D)) of a clip whose defects are known.

    visual_quality: what a single frame shows; temporal_consistency: what changes from frame to frame, and what comes or
    goes within the clip; dynamic_degree: the motion there is; caption_alignment: the share of the told attributes
    that is right, and 1 in a tube with something that no caption tells of. Of the video the mean of its tubes and its
    worst tube, halved: one bad place spoils a clip; but its own motion, and its own caption_alignment.
    """
    whole = [d for d in example.defects if d.first_frame > 0 or d.last_frame < len(example.frames) - 1]
    told = WORST + (BEST - WORST) * example.alignment
    foreign = patch_labels([d for d in example.defects if d.kind in CONTRADICTS], grid).ravel()
    felt = [d for d in example.defects if d.kind in FELT or d in whole]
    patches = np.stack(
        [
            patch_labels([d for d in example.defects if d.kind in SEEN], grid).ravel(),
            patch_labels(felt, grid).ravel(),
            dynamic_labels(tubes(example.frames[None], grid))[0],
            np.minimum(told, foreign),
        ],
        axis=1,
    ).astype(np.float32)
    video = (patches.mean(axis=0) + patches.min(axis=0)) / 2
    video[2:] = dynamic_labels(example.frames), told
    return video.astype(np.float32), patches


def shop_clips(
    world: World, items: Sequence[int], count: int, seed: int, *, frames: int = 8, size: int = 32, grid: int = 2,
    spread: float = 360.0,
) -> LabelledClips:  # fmt: skip
    """Clips of items of the embedded shop with injected defects, wrong captions among them, and some that stand still.

    spread: degrees around the front where a turn begins. Raises ValueError for a grid that does not divide the size.
    """
    drawn = list(_examples(world, items, count, seed, frames, size, grid, spread))
    labels = [example_labels(example, grid) for example in drawn]
    return LabelledClips(
        np.stack([example.frames for example in drawn]), tuple(example.caption for example in drawn),
        np.stack([video for video, _ in labels]), np.stack([patches for _, patches in labels]),
        np.asarray([example.item for example in drawn]),
    )  # fmt: skip


def _examples(
    world: World, items: Sequence[int], count: int, seed: int, frames: int, size: int, grid: int, spread: float
) -> Iterator[ClipExample]:
    """A share of STILL_SHARE is the first frame again and again, without a defect."""
    rng = np.random.default_rng([seed, 61])
    for number in range(count):
        item, still = items[int(rng.integers(len(items)))], rng.random() < STILL_SHARE
        example = clip_example(world, item, seed * 1_000_003 + number, frames=frames, size=size, grid=grid,
                               most_defects=0 if still else 2, spread=spread)  # fmt: skip
        if still:
            frozen = np.repeat(example.frames[:1], frames, axis=0)
            example = ClipExample(example.item, frozen, example.caption, example.wrong, ())
        yield example
