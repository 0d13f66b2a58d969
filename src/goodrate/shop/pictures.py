"""Pictures of the embedded shop's items, drawn from their latent values: what a picture tells is known for each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from goodrate.shop.drawing.marks import background, draw_flag, draw_season, draw_size
from goodrate.shop.drawing.shapes import shapes
from goodrate.shop.drawing.solids import look_at
from goodrate.shop.drawing.surfaces import paint
from goodrate.shop.world import World

VISUAL_ATTRIBUTES = ("color", "material", "pattern", "size", "season", "origin")
PICTURED_IF_STATED = 0.6  # share of the visual values which the listing states that the picture tells too
PICTURED_IF_NOT = 0.3  # and of those that the listing leaves out
FINER = 2  # drawn this many times finer than asked, then averaged
SCALES = {"tiny": 0.6, "small": 0.72, "medium": 0.85, "large": 0.98, "huge": 1.1}
UNTOLD_SCALE = 0.85
FLOOR = 0.86  # of the picture's height: where things stand
BADGE_ROWS, BADGE_COLUMNS = 4, 5


@dataclass(frozen=True)
class View:
    """How a picture is taken. angle: degrees about the vertical axis, 0 shows the badge in front; light: brightness,
    1 is the studio's; clutter: things in the background; seed: of the wall and the clutter."""

    angle: float = 0.0
    light: float = 1.0
    clutter: int = 0
    seed: int = 0


STUDIO = View()


def photo_view(world: World, item: int, photo: int = 0) -> View:
    """How one of an item's photos is taken, drawn from a stream of its own: turned by up to 40 degrees, a fifth darker
    to a sixth brighter, with up to two things around it. Photo 0 is the catalogue's."""
    rng = np.random.default_rng([world.seed, 53, item, photo])
    angle, light = float(rng.uniform(-40, 40)), float(rng.uniform(0.8, 1.15))
    return View(angle, light, int(rng.integers(0, 3)), int(rng.integers(2**31)))


def draw_item(
    world: World, item: int, *, size: int = 64, view: View = STUDIO, shown: np.ndarray | None = None
) -> np.ndarray:
    """The picture (size, size, 3) uint8 of one item: the same arguments draw the same bytes.

    The category is the shape and the brand a badge; each item has proportions of its own. shown (A,) bool: the
    attributes that the picture tells, None for all in VISUAL_ATTRIBUTES. What it does not tell is drawn in one neutral
    way, whatever the value.

    Raises ValueError for a size below 8 pixels, IndexError for an item that the world has not.
    """
    from PIL import Image

    if size < 8:
        raise ValueError(f"a picture has at least 8 pixels a side, not {size}")
    told = _told(world, item, shown)
    fine = size * FINER
    scale = SCALES.get(told["size"] or "", UNTOLD_SCALE)
    width, height = np.random.default_rng([world.seed, 43, item]).uniform(0.88, 1.12, 2)
    solids = [s.stretched(float(width), float(height)) for s in shapes()[_category(world, item)]]
    unit = 0.36 * fine * scale
    seen = look_at(solids, view.angle, fine, unit, FLOOR * fine - 0.95 * unit)
    painted = paint(seen, told["color"], told["pattern"], told["material"], badge(_brand(world, item)))
    scene = np.asarray(background(fine, unit, view.clutter, view.seed), dtype=np.float32)
    opacity = painted[:, :, 3:]
    lit = (scene + (painted[:, :, :3] - scene) * opacity) * np.float32(view.light)
    picture = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    for name, draw in (("origin", draw_flag), ("season", draw_season), ("size", draw_size)):
        if (value := told[name]) is not None:
            draw(picture, value)
    return np.asarray(picture.reduce(FINER))


def picture_share(
    world: World, seed: int, *, stated: float = PICTURED_IF_STATED, unstated: float = PICTURED_IF_NOT
) -> np.ndarray:
    """Which attributes the picture of each item tells (N, A) bool; only those in VISUAL_ATTRIBUTES can be True.

    stated, unstated: the share of the visual values that are told by the picture among those that the listing states
    and among those that it leaves out. With the defaults and the world's own `stated`, of the visual values some 9 %
    are in the picture only, 28 % in the text only, 42 % in both and 21 % in neither. Drawn from a stream of its own.
    """
    rng = np.random.default_rng([world.seed, seed, 41])
    visual = np.asarray([name in VISUAL_ATTRIBUTES for name in world.taxonomy.attributes])
    chance = np.where(world.stated, stated, unstated)
    return (rng.random(world.stated.shape) < chance) & visual


def badge(brand: str) -> np.ndarray:
    """The badge of a brand (BADGE_ROWS, BADGE_COLUMNS) bool: 20 bits of the name's hash, so one in a million pairs of
    brands has the same."""
    bits = np.unpackbits(np.frombuffer(hashlib.sha256(brand.encode()).digest(), dtype=np.uint8))
    return bits[: BADGE_ROWS * BADGE_COLUMNS].reshape(BADGE_ROWS, BADGE_COLUMNS).astype(bool)


def _told(world: World, item: int, shown: np.ndarray | None) -> dict[str, str | None]:
    """The value of each visual attribute that the picture tells, None for the others."""
    t = world.taxonomy
    told: dict[str, str | None] = {}
    for name in VISUAL_ATTRIBUTES:
        a = t.attributes.index(name)
        told[name] = t.values[a][world.values[item, a]] if shown is None or shown[a] else None
    return told


def _category(world: World, item: int) -> str:
    return world.taxonomy.categories[world.category[item]]


def _brand(world: World, item: int) -> str:
    return world.brands[world.brand[item]]
