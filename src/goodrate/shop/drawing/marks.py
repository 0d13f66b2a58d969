"""What stands in a picture beside the thing: the background with its clutter, a flag, a season's icon, a size bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIZES = ("tiny", "small", "medium", "large", "huge")  # as many cells of the size bar are full; universal: an arrow
FLAGS = {  # direction of the bands, their colours, the sign in the middle and its colour
    "italy": ("|", ("#008c45", "#f4f5f0", "#cd212a"), "", ""),
    "france": ("|", ("#0055a4", "#ffffff", "#ef4135"), "", ""),
    "germany": ("-", ("#000000", "#dd0000", "#ffce00"), "", ""),
    "japan": ("-", ("#ffffff",), "disc", "#bc002d"),
    "portugal": ("|", ("#006600", "#ff0000", "#ff0000"), "disc", "#ffe000"),
    "sweden": ("-", ("#006aa7",), "cross", "#fecc00"),
    "korea": ("-", ("#ffffff",), "halves", "#cd2e3a #0047a0"),
    "canada": ("|", ("#d80621", "#ffffff", "#ffffff", "#d80621"), "diamond", "#d80621"),
}
SEASONS = ("summer", "winter", "spring", "autumn", "allseason", "monsoon")
CLUTTER_COLORS = ("#b9a58c", "#8fa3a8", "#c9b8a0", "#9d9a8f", "#a9b59b", "#b59a9a", "#7f8793")


def background(size: int, unit: float, clutter: int, seed: int) -> Image:
    """A wall, a table and things on it, which depend on the seed and on nothing of the item, and the item's shadow.

    unit: half the width of the shadow, in pixels.
    """
    from PIL import Image, ImageDraw

    rng = np.random.default_rng([seed, 47])
    warm = rng.uniform(-6, 6)
    wall = tuple(int(c) for c in (230 + warm, 231, 232 - warm))
    image = Image.new("RGB", (size, size), wall)
    draw = ImageDraw.Draw(image)
    table = int(size * 0.72)
    draw.rectangle((0, table, size, size), fill=tuple(c - 18 for c in wall))
    for _ in range(clutter):
        _thing(draw, rng, size, table)
    middle, floor = size / 2, size * 0.86
    draw.ellipse((middle - unit, floor - unit * 0.22, middle + unit, floor + unit * 0.22), tuple(c - 44 for c in wall))
    return image


def _thing(draw: ImageDraw, rng: np.random.Generator, size: int, table: int) -> None:
    x, wide, high = rng.uniform(0, size), rng.uniform(0.06, 0.16) * size, rng.uniform(0.1, 0.5) * size
    bottom = table + rng.uniform(0.0, 0.2) * size
    color = CLUTTER_COLORS[int(rng.integers(len(CLUTTER_COLORS)))]
    kind = int(rng.integers(3))
    if kind == 0:
        draw.rectangle((x - wide, bottom - high, x + wide, bottom), fill=color)
    elif kind == 1:
        draw.ellipse((x - wide, bottom - 2 * wide, x + wide, bottom), fill=color)
    else:
        draw.polygon([(x - wide, bottom), (x + wide, bottom), (x, bottom - high)], fill=color)


def draw_flag(image: Image, origin: str) -> None:
    """The flag of the country in the upper left corner."""
    from PIL import ImageDraw

    draw, size = ImageDraw.Draw(image), image.width
    left, top, wide, high = size * 0.03, size * 0.03, size * 0.21, size * 0.14
    direction, bands, sign, ink = FLAGS[origin]
    draw.rectangle((left - 1, top - 1, left + wide + 1, top + high + 1), fill="#303030")
    for k, color in enumerate(bands):
        a, b = k / len(bands), (k + 1) / len(bands)
        box = (a, 0.0, b, 1.0) if direction == "|" else (0.0, a, 1.0, b)
        draw.rectangle((left + box[0] * wide, top + box[1] * high, left + box[2] * wide, top + box[3] * high), color)
    x, y, r = left + wide / 2, top + high / 2, high * 0.3
    if sign == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif sign == "halves":
        draw.pieslice((x - r, y - r, x + r, y + r), 180, 360, fill=ink.split()[0])
        draw.pieslice((x - r, y - r, x + r, y + r), 0, 180, fill=ink.split()[1])
    elif sign == "diamond":
        draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=ink)
    elif sign == "cross":
        draw.rectangle((left + 0.3 * wide, top, left + 0.44 * wide, top + high), fill=ink)
        draw.rectangle((left, y - 0.1 * high, left + wide, y + 0.1 * high), fill=ink)


def draw_season(image: Image, season: str) -> None:
    """The icon of the season in the upper right corner: sun, flake, blossom, leaf, ring or drops."""
    from PIL import ImageDraw

    draw, size = ImageDraw.Draw(image), image.width
    r = size * 0.1
    x, y = size * 0.97 - r, size * 0.03 + r
    draw.ellipse((x - r, y - r, x + r, y + r), fill="#ffffff", outline="#404040")
    DRAWN[season](draw, x, y, r * 0.8)


def _spokes(draw: ImageDraw, x: float, y: float, r: float, count: int, color: str) -> None:
    for k in range(count):
        turn = 2 * np.pi * k / count
        draw.line((x, y, x + r * np.cos(turn), y + r * np.sin(turn)), fill=color, width=max(1, round(r * 0.22)))


def _dot(draw: ImageDraw, x: float, y: float, r: float, color: str) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _sun(draw: ImageDraw, x: float, y: float, r: float) -> None:
    _spokes(draw, x, y, r, 8, "#f0a000")
    _dot(draw, x, y, r * 0.6, "#f8b800")


def _flake(draw: ImageDraw, x: float, y: float, r: float) -> None:
    _spokes(draw, x, y, r, 6, "#2f7fd0")


def _blossom(draw: ImageDraw, x: float, y: float, r: float) -> None:
    for k in range(5):
        turn = 2 * np.pi * k / 5 - np.pi / 2
        _dot(draw, x + r * 0.58 * np.cos(turn), y + r * 0.58 * np.sin(turn), r * 0.4, "#e86aa6")
    _dot(draw, x, y, r * 0.3, "#f8d040")


def _leaf(draw: ImageDraw, x: float, y: float, r: float) -> None:
    draw.polygon([(x, y - r), (x + r * 0.75, y + r * 0.1), (x, y + r * 0.7), (x - r * 0.75, y + r * 0.1)], "#b5541c")
    draw.line((x, y - r * 0.5, x, y + r), fill="#5a2a10", width=max(1, round(r * 0.18)))


def _ring(draw: ImageDraw, x: float, y: float, r: float) -> None:
    for k, color in enumerate(("#e86aa6", "#f8b800", "#b5541c", "#2f7fd0")):
        draw.pieslice((x - r, y - r, x + r, y + r), 90 * k, 90 * k + 90, fill=color)
    _dot(draw, x, y, r * 0.42, "#ffffff")


def _drops(draw: ImageDraw, x: float, y: float, r: float) -> None:
    for dx, dy in ((-0.5, -0.3), (0.45, -0.4), (0.0, 0.45)):
        cx, cy = x + dx * r, y + dy * r
        _dot(draw, cx, cy + r * 0.12, r * 0.28, "#123c7a")
        draw.polygon([(cx - r * 0.26, cy), (cx + r * 0.26, cy), (cx, cy - r * 0.45)], "#123c7a")


DRAWN = dict(zip(SEASONS, (_sun, _flake, _blossom, _leaf, _ring, _drops), strict=True))


def draw_size(image: Image, size_name: str) -> None:
    """A bar of five cells at the lower left, full up to the size; an arrow over all of them fits everything."""
    from PIL import ImageDraw

    draw, size = ImageDraw.Draw(image), image.width
    cell, high, left, top = size * 0.075, size * 0.07, size * 0.03, size * 0.9
    full = SIZES.index(size_name) + 1 if size_name in SIZES else 0
    for k in range(len(SIZES)):
        box = (left + k * cell, top, left + (k + 1) * cell - size * 0.012, top + high)
        draw.rectangle(box, fill="#202020" if k < full else "#ffffff", outline="#202020")
    if not full:
        y, right = top + high / 2, left + 5 * cell
        draw.line((left, y, right, y), fill="#d02020", width=max(2, round(size * 0.02)))
        for tip, back in ((left, 1), (right, -1)):
            draw.polygon([(tip, y), (tip + back * cell, top), (tip + back * cell, top + high)], fill="#d02020")
