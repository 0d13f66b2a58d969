"""Clips to learn from: turntables of the generated shop, or the clips that a catalogue names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.catalog.readers import read_catalog
from goodrate.content.captions import item_caption
from goodrate.content.clip_file import read_clip
from goodrate.learning.source import seed_of
from goodrate.shop.clips import CLIP_ATTRIBUTES, caption, turntable
from goodrate.shop.pictures import View
from goodrate.shop.world import World, item_record, make_world

CLIP = "clip"  # the catalogue's column


class ShopClips(BaseModel):
    """Items of a generated shop on a turntable."""

    model_config = ConfigDict(extra="forbid")
    seed: int = Field(default=0, ge=0, description="of the shop")
    items: int = Field(default=600, gt=1, description="clips")
    categories: list[str] = Field(default=[], description="of the shop's taxonomy; none = all 24")
    spread: float = Field(default=20.0, ge=0, le=360, description="degrees around the front where a turn begins")

    def world(self) -> World:
        """The shop, large enough to hold so many items of the categories."""
        count = len(self.categories) or 1
        return make_world(self.seed, num_items=self.items if not self.categories else self.items * 24 // count + 24)


@dataclass(frozen=True)
class ClipData:
    """frames uint8 (N, T, H, W, 3) and one or more captions of each clip."""

    frames: np.ndarray
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.frames)

    def rows(self, rows: Sequence[int]) -> ClipData:
        """Some of the clips."""
        return ClipData(self.frames[list(rows)], tuple(self.captions[row] for row in rows))

    def split(self, share: float, seed: int) -> tuple[ClipData, ClipData]:
        """Those to learn from, and a share of them kept aside, one at least."""
        order = np.random.default_rng([seed, 31]).permutation(len(self)).tolist()
        held = max(1, round(share * len(self)))
        return self.rows(sorted(order[held:])), self.rows(sorted(order[:held]))


def shop_items(settings: ShopClips, world: World) -> list[int]:
    """The first items of the categories. ValueError for a category that the shop has not."""
    known = world.taxonomy.categories
    unknown = [name for name in settings.categories if name not in known]
    if unknown:
        raise ValueError(f"shop.categories: {unknown[0]!r} is none of {', '.join(known)}")
    wanted = [known.index(name) for name in settings.categories] or range(len(known))
    return np.flatnonzero(np.isin(world.category, list(wanted)))[: settings.items].tolist()


def shop_clips(settings: ShopClips, frames: int, size: int) -> ClipData:
    """Turntables with two captions each: the truth in canonical words, and what the item's listing states."""
    world = settings.world()
    items = shop_items(settings, world)
    clips, told = [], []
    for item in items:
        rng = np.random.default_rng(seed_of(settings.seed, "angle", item))
        view = View(angle=float(rng.uniform(-settings.spread / 2, settings.spread / 2)))
        clips.append(turntable(world, item, frames=frames, size=size, view=view))
        told.append((caption(world, item), item_caption(item_record(world, item), CLIP_ATTRIBUTES)))
    return ClipData(np.stack(clips), tuple(told))


def catalog_clips(path: str, attributes: Sequence[str], frames: int, size: int) -> ClipData:
    """The clips of the items that have one, read from paths beside the catalogue.

    Raises ValueError naming the catalogue, the item and its clip when none has one, or one cannot be read.
    """
    catalog = read_catalog(path)
    rows = [row for row in catalog.to_rows() if row.get(CLIP)]
    if len(rows) < 2:
        raise ValueError(f"{path}: {len(rows)} items have a {CLIP}; a column {CLIP!r} with paths of clips is expected")
    return ClipData(
        np.stack([_clip(path, row["id"], row[CLIP], frames, size) for row in rows]),
        tuple((item_caption(row, attributes),) for row in rows),
    )


def _clip(catalog: str, item: str, clip: str, frames: int, size: int) -> np.ndarray:
    try:
        return read_clip(Path(catalog).parent / clip, frames=frames, size=size)
    except (OSError, ValueError) as error:
        raise ValueError(f"{catalog}: item {item!r}: its {CLIP} cannot be read: {error}") from error
