"""Clips of items that turn, with captions, and with defects at known places and times.

A clip is uint8 (T, H, W, 3). A defect lives in a tube: one cell of a g x g grid, over some of the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from goodrate.shop.pictures import STUDIO, View, draw_item
from goodrate.shop.world import World

DefectKind = Literal["smear", "colour_jump", "missing_part", "wrong_logo", "flicker", "frozen_patch"]
KINDS: tuple[DefectKind, ...] = get_args(DefectKind)
CLIP_ATTRIBUTES = ("color", "material", "pattern")  # what clips show: the item itself, without the marks beside it
CLEAN, BROKEN = 4, 1  # patch labels
VISIBLE = 4.0  # grey levels by which a drawn defect changes its tube at least, on average
TRIES = 40  # draws of one defect before an item counts as one that nothing can be done to


@dataclass(frozen=True)
class Defect:
    """What is broken: row and column in cells of a grid x grid clip, frames first to last, the last one included.

    strength: 1 = the whole defect, below it blends with the clean clip.
    """

    kind: DefectKind
    row: int
    column: int
    first_frame: int
    last_frame: int
    grid: int = 2
    strength: float = 1.0

    def tube(self, clip: np.ndarray) -> tuple[slice, slice, slice]:
        """The frames, rows and columns of pixels. ValueError when a clip (T, H, W, 3) has no such cell or frames."""
        frames, height, width = clip.shape[:3]
        if not (0 <= self.row < self.grid and 0 <= self.column < self.grid):
            raise ValueError(f"{self}: row and column must be 0..{self.grid - 1}")
        if not 0 <= self.first_frame <= self.last_frame < frames:
            raise ValueError(f"{self}: the clip has the frames 0..{frames - 1}")
        if self.grid > min(height, width) or not 0 < self.strength <= 1:
            raise ValueError(
                f"{self}: a grid of at most {min(height, width)} cells and a strength in 0..1 are expected"
            )
        return (
            slice(self.first_frame, self.last_frame + 1),
            slice(self.row * height // self.grid, (self.row + 1) * height // self.grid),
            slice(self.column * width // self.grid, (self.column + 1) * width // self.grid),
        )


def turntable(
    world: World, item: int, *, frames: int = 8, size: int = 32, view: View = STUDIO, turn: float = 360.0
) -> np.ndarray:
    """The item on a turntable, uint8 (T, H, W, 3): T equal steps of a turn in degrees that begins at view.angle.

    After a whole turn the first frame would come again, so that the clip goes round without a seam. It shows category,
    brand and CLIP_ATTRIBUTES.
    """
    if frames < 1:
        raise ValueError(f"frames {frames}: at least 1 is expected")
    shown = np.isin(world.taxonomy.attributes, CLIP_ATTRIBUTES)
    angles = view.angle + turn * np.arange(frames) / frames
    views = [replace(view, angle=float(angle)) for angle in angles]
    return np.stack([draw_item(world, item, size=size, view=one, shown=shown) for one in views])


def caption(world: World, item: int, told: dict[str, str] | None = None) -> str:
    """What the clip of an item shows, in canonical words. told: values by attribute that stand in the place of its own.

    Raises ValueError for an attribute that no clip shows.
    """
    values = {**attributes(world, item), **(told or {})}
    unknown = values.keys() - attributes(world, item).keys()
    if unknown:
        raise ValueError(f"attribute {min(unknown)!r} is none that a clip shows: {', '.join(CLIP_ATTRIBUTES)}")
    kind = world.taxonomy.categories[world.category[item]]
    return f"{' '.join(values.values())} {kind} by {world.brands[world.brand[item]]}"


def attributes(world: World, item: int) -> dict[str, str]:
    """The true value of each of CLIP_ATTRIBUTES."""
    t = world.taxonomy
    places = [t.attributes.index(name) for name in CLIP_ATTRIBUTES]
    return {t.attributes[a]: t.values[a][world.values[item, a]] for a in places}


def wrong_caption(world: World, item: int, rng: np.random.Generator, *, changes: int = 1) -> tuple[str, dict[str, str]]:
    """A caption that disagrees with the item in `changes` attributes, and what it says of them.

    Raises ValueError when clips show fewer attributes than that.
    """
    if not 1 <= changes <= len(CLIP_ATTRIBUTES):
        raise ValueError(f"changes {changes}: clips show {len(CLIP_ATTRIBUTES)} attributes")
    t, own = world.taxonomy, attributes(world, item)
    told = {}
    for name in rng.choice(CLIP_ATTRIBUTES, changes, replace=False).tolist():
        told[name] = str(rng.choice([v for v in t.values[t.attributes.index(name)] if v != own[name]]))
    return caption(world, item, told), told


def inject(clip: np.ndarray, defect: Defect, rng: np.random.Generator) -> np.ndarray:
    """A copy of the clip with the defect in its tube; nothing outside the tube changes.

    Raises ValueError for an unknown kind, a cell outside the grid, frames that the clip has not.
    """
    if defect.kind not in _BREAK:
        raise ValueError(f"unknown defect {defect.kind!r}; known: {', '.join(KINDS)}")
    place = defect.tube(clip)
    whole = clip.astype(np.float32)
    broken = np.clip(_BREAK[defect.kind](whole, place, rng), 0, 255)
    whole[place] += defect.strength * (broken - whole[place])
    return np.rint(whole).astype(np.uint8)


def _smear(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """Each row of pixels drawn out along the row over most of the cell."""
    cell = clip[place]
    width = cell.shape[2]
    reach = max(2, 3 * width // 4)
    padded = np.concatenate([np.repeat(cell[:, :, :1], reach, axis=2), cell], axis=2)
    total = np.cumsum(np.concatenate([np.zeros_like(padded[:, :, :1]), padded], axis=2), axis=2)
    return (total[:, :, reach + 1 :] - total[:, :, 1 : width + 1]) / reach


def background(clip: np.ndarray) -> np.ndarray:
    """The colour (H, 3) beside the item in each row of pixels: the median over frames of the first and last pixel."""
    return np.median(np.concatenate([clip[:, :, 0], clip[:, :, -1]]), axis=0)


def item_pixels(clip: np.ndarray) -> np.ndarray:
    """Where the item is, bool (T, H, W): pixels that differ from the background by more than 12 levels."""
    return np.abs(clip - background(clip)[:, None]).max(-1) > 12


def _colour_jump(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """Two of the three channels of the item move by 110 levels, to where there is room."""
    cell, item = clip[place], item_pixels(clip)[place]
    moved = rng.permutation(3)[:2]
    mean = cell[item].mean(0) if item.any() else np.zeros(3)
    jump = np.zeros(3, dtype=np.float32)
    jump[moved] = np.where(mean[moved] < 128, 110.0, -110.0)
    return cell + jump * item[..., None]


def _missing_part(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """The background where the item was."""
    return np.broadcast_to(background(clip)[place[1], None], clip[place].shape)


def _wrong_logo(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """A plate of two colours in a random pattern, half as wide as the cell, that does not turn with the item."""
    cell = clip[place].copy()
    height, width = cell.shape[1:3]
    rows, columns = max(2, (height + 1) // 2), max(2, (width + 1) // 2)
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    first = rng.integers(0, 256, 3)
    second = (first + 128) % 256  # half of the range away in each channel
    strokes = np.repeat(np.repeat(rng.random((2, 2)) < 0.5, rows, axis=0), columns, axis=1)[::2, ::2]
    strokes = strokes[:rows, :columns] ^ (np.indices((rows, columns)).sum(0) % 4 < 2)
    cell[:, top : top + rows, left : left + columns] = np.where(strokes[..., None], first, second)
    return cell


def _flicker(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """The item at 40 % of its light in every other frame, at 150 % in those between."""
    cell = clip[place]
    light = np.where(np.arange(len(cell)) % 2 == 0, 0.4, 1.5).astype(np.float32)
    return np.where(item_pixels(clip)[place][..., None], cell * light[:, None, None, None], cell)


def _frozen_patch(clip: np.ndarray, place: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """The cell's first frame stands still while the rest turns on."""
    cell = clip[place]
    return np.broadcast_to(cell[:1], cell.shape)


_BREAK: dict[str, Callable[[np.ndarray, tuple[slice, ...], np.random.Generator], np.ndarray]] = {
    "smear": _smear,
    "colour_jump": _colour_jump,
    "missing_part": _missing_part,
    "wrong_logo": _wrong_logo,
    "flicker": _flicker,
    "frozen_patch": _frozen_patch,
}


def inject_drawn(
    clip: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int = 1,
    grid: int = 2,
    kinds: Sequence[DefectKind] = KINDS,
    weakest: float = 1.0,
) -> tuple[np.ndarray, tuple[Defect, ...]]:
    """The clip with `count` defects in different cells, at drawn places and times, and what they are.

    Each lasts for three frames or more (all of a shorter clip) and can be seen: it changes its tube by VISIBLE grey
    levels on average. A clip in which no more is to be seen gets fewer. weakest: strengths are drawn from it to 1.
    Raises ValueError for a count that the grid has no cells for.
    """
    if not 0 <= count <= grid * grid:
        raise ValueError(f"count {count}: a grid of {grid} x {grid} has room for 0..{grid * grid} defects")
    defects: list[Defect] = []
    for _ in range(TRIES * count):
        if len(defects) == count:
            break
        defect = _drawn(len(clip), rng, grid, kinds, weakest)
        if (defect.row, defect.column) in {(d.row, d.column) for d in defects}:
            continue
        broken = inject(clip, defect, rng)
        place = defect.tube(clip)
        if np.abs(broken[place].astype(np.float32) - clip[place]).mean() >= VISIBLE:
            clip, defects = broken, [*defects, defect]
    return clip, tuple(defects)


def _drawn(frames: int, rng: np.random.Generator, grid: int, kinds: Sequence[DefectKind], weakest: float) -> Defect:
    """A defect anywhere in the clip."""
    length = int(rng.integers(min(3, frames), frames + 1))
    first = int(rng.integers(0, frames - length + 1))
    kind: DefectKind = kinds[int(rng.integers(len(kinds)))]
    row, column = (int(n) for n in rng.integers(0, grid, 2))
    return Defect(kind, row, column, first, first + length - 1, grid, float(rng.uniform(weakest, 1.0)))


def patch_labels(defects: Sequence[Defect], grid: int = 2) -> np.ndarray:
    """The label (g, g) of each tube, from 4 (clean) down to 1 (broken): 4 less three times the strengths in it.

    A defect of another grid counts in each tube that it shares a quarter of the smaller area with.
    """
    total = np.zeros((grid, grid))
    for d in defects:
        rows, columns = (_shared(place, d.grid, grid) for place in (d.row, d.column))
        area = np.outer(rows, columns) / min(1 / d.grid, 1 / grid) ** 2
        total += d.strength * (area >= 0.25)
    return (CLEAN - np.rint(3 * np.clip(total, 0, 1))).astype(np.int64)


def _shared(place: int, of: int, grid: int) -> np.ndarray:
    """How much of the side 0..1 each of `grid` equal parts (grid,) shares with part `place` of `of`."""
    start = np.arange(grid) / grid
    return np.clip(np.minimum(start + 1 / grid, (place + 1) / of) - np.maximum(start, place / of), 0, None)


@dataclass(frozen=True)
class ClipExample:
    """A clip with all that is known of it: the item, the caption, what the caption says wrongly, the defects."""

    item: int
    frames: np.ndarray
    caption: str
    wrong: dict[str, str]
    defects: tuple[Defect, ...]

    @property
    def alignment(self) -> float:
        """Share of the told attributes that the caption has right."""
        return 1 - len(self.wrong) / len(CLIP_ATTRIBUTES)


def clip_example(
    world: World,
    item: int,
    seed: int,
    *,
    frames: int = 8,
    size: int = 32,
    grid: int = 2,
    most_defects: int = 2,
    wrong_share: float = 0.3,
    weakest: float = 1.0,
    spread: float = 360.0,
) -> ClipExample:
    """An example drawn from the seed and the item: 0 to most_defects defects, a wrong caption in wrong_share of all.

    spread: degrees around the front from which the first angle is drawn.
    """
    rng = np.random.default_rng([seed, item, 29])
    angle = float(rng.uniform(-spread / 2, spread / 2))
    clip = turntable(world, item, frames=frames, size=size, view=View(angle=angle))
    count = int(rng.integers(0, most_defects + 1))
    clip, defects = inject_drawn(clip, rng, count=count, grid=grid, weakest=weakest)
    if rng.random() >= wrong_share:
        return ClipExample(item, clip, caption(world, item), {}, defects)
    text, told = wrong_caption(world, item, rng, changes=int(rng.integers(1, len(CLIP_ATTRIBUTES) + 1)))
    return ClipExample(item, clip, text, told, defects)
