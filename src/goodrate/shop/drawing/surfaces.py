"""What a surface looks like: colours, patterns and materials as functions of the place on the surface.

All functions take u, v (P,) float32, the places of P pixels on the surface in units of the object, and the tables are
keyed by the names of the taxonomy. A value that the picture does not tell is None and looks like no value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from goodrate.shop.drawing.solids import DARK, MAIN, METAL, PAPER, TRIM, Seen

COLORS = {
    "red": (205, 38, 42), "blue": (42, 86, 200), "green": (46, 140, 62), "black": (38, 38, 42),
    "white": (242, 242, 238), "yellow": (244, 202, 40), "grey": (134, 138, 142), "brown": (122, 78, 44),
}  # fmt: skip
UNTOLD_COLOR = (205, 170, 215)  # the pale lilac of an undercoat, far from every colour above
TONES = {TRIM: (176, 172, 164), DARK: (64, 62, 66), METAL: (190, 196, 204), PAPER: (236, 230, 216)}
SLEEVE = (0.55, (222, 206, 178))  # share of the height under a card sleeve that hides the pattern, and its colour
GLASS_OPACITY = 0.6
LIGHT_FROM = np.asarray((-0.45, 0.6, 0.66), dtype=np.float32)
Pixels = np.ndarray


def _cells(u: Pixels, v: Pixels, period: float) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """The cell of each place, staggered from row to row, and where in it the place is, from -0.5 to 0.5."""
    row = np.floor(v / period)
    column = np.floor(u / period + 0.5 * (row % 2))
    return row, column, u / period + 0.5 * (row % 2) - column - 0.5, v / period - row - 0.5


def _noise(u: Pixels, v: Pixels, period: float) -> Pixels:
    """A number from 0 to 1 for each cell, the same at every look."""
    mixed = np.sin(np.floor(u / period) * 12.9898 + np.floor(v / period) * 78.233) * 43758.547
    return mixed - np.floor(mixed)


def _striped(u: Pixels, v: Pixels) -> Pixels:
    return (np.sin(v * (2 * np.pi / 0.36)) > 0.1).astype(np.float32)


def _dotted(u: Pixels, v: Pixels) -> Pixels:
    _, _, x, y = _cells(u, v, 0.36)
    return (x * x + y * y < 0.09).astype(np.float32)


def _checked(u: Pixels, v: Pixels) -> Pixels:
    return ((np.floor(u / 0.3) + np.floor(v / 0.3)) % 2).astype(np.float32)


def _floral(u: Pixels, v: Pixels) -> Pixels:
    """Five petals around a heart (2: the heart has a colour of its own)."""
    _, _, x, y = _cells(u, v, 0.52)
    far, turn = np.hypot(x, y), np.arctan2(y, x)
    petals = far < 0.27 + 0.14 * np.cos(5 * turn)
    return np.where(far < 0.11, 2.0, petals)


def _camo(u: Pixels, v: Pixels) -> Pixels:
    """Patches in three tones (0.5: the one between)."""
    wave = np.sin(4.1 * u + 2.2 * np.sin(3.3 * v)) + np.sin(5.3 * v + 1.9 * np.sin(2.7 * u + 1.0))
    return np.where(wave > 0.55, 1.0, np.where(wave < -0.55, 0.5, 0.0))


PATTERNS: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "plain": lambda u, v: np.zeros_like(u), "striped": _striped, "dotted": _dotted, "checked": _checked,
    "floral": _floral, "camo": _camo,
}  # fmt: skip


def _wool(u: Pixels, v: Pixels) -> Pixels:
    stitch = np.abs((u / 0.17) % 1.0 - 0.5) * 2
    return 0.72 + 0.4 * np.abs(((v / 0.15 + stitch) % 1.0) - 0.5) * 2


def _cotton(u: Pixels, v: Pixels) -> Pixels:
    return 0.84 + 0.26 * ((np.floor(u / 0.07) + np.floor(v / 0.07)) % 2)


def _leather(u: Pixels, v: Pixels) -> Pixels:
    row, column, x, y = _cells(u, v, 0.19)
    shift = 0.24 * np.sin(row * 7.1 + column * 3.7)
    return np.where(np.hypot(x + shift, y - shift) < 0.4, 1.06, 0.68)


def _wood(u: Pixels, v: Pixels) -> Pixels:
    grain = np.sin(17.0 * (u + 0.16 * np.sin(2.6 * v) + 0.05 * np.sin(7.0 * v)))
    return np.where(grain > 0.78, 0.55, 1.0 + 0.08 * grain)


def _nylon(u: Pixels, v: Pixels) -> Pixels:
    line = np.minimum(np.abs((u / 0.27) % 1.0 - 0.5), np.abs((v / 0.27) % 1.0 - 0.5))
    return np.where(line < 0.11, 1.32, 0.92)


def _smooth(u: Pixels, v: Pixels) -> Pixels:
    return np.ones_like(u)


def _steel(u: Pixels, v: Pixels) -> Pixels:
    return 0.95 + 0.14 * _noise(v, np.zeros_like(v), 0.045)


MATERIALS: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "wool": _wool, "cotton": _cotton, "leather": _leather, "steel": _steel, "plastic": _smooth, "wood": _wood,
    "nylon": _nylon, "glass": _smooth,
}  # fmt: skip


def paint(seen: Seen, color: str | None, pattern: str | None, material: str | None, cells: np.ndarray) -> np.ndarray:
    """Colours and opacity (S, S, 4) float32, colours 0..255 and opacity 0..1, of a thing that is seen.

    cells (R, C) bool: the badge, dark where True, white elsewhere.
    """
    there = seen.tone >= 0
    tone, u, v = seen.tone[there], seen.u[there], seen.v[there]
    normal = seen.normal[:, there]
    main = tone == MAIN
    table = np.asarray([COLORS.get(color or "", UNTOLD_COLOR), *(TONES[t] for t in sorted(TONES))], dtype=np.float32)
    colors = table[tone]
    colors[main] = _patterned(table[0], pattern, u[main], v[main], seen.extent[there][main])
    shade = _shade(normal)
    opacity = np.ones(len(tone), dtype=np.float32)
    if material is not None:
        colors[main] *= MATERIALS[material](u[main], v[main])[:, None]
    colors *= shade[:, None]
    if material is not None:
        colors[main] += _shine(material, normal[:, main], u[main], v[main])[:, None]
        opacity[main] = np.where(normal[2, main] > 0.45, GLASS_OPACITY, 1.0) if material == "glass" else 1.0
    _stick_badge(cells, seen.badge[there], u, v, shade, colors, opacity)
    out = np.zeros((*seen.tone.shape, 4), dtype=np.float32)
    out[there] = np.column_stack([np.clip(colors, 0, 255), opacity])
    return out


def _patterned(base: np.ndarray, pattern: str | None, u: Pixels, v: Pixels, extent: Pixels) -> np.ndarray:
    """The base colour (3,) with its pattern (P, 3); where no pattern is told a sleeve hides the middle."""
    if pattern is None:
        share, card = SLEEVE
        under = (np.abs(v) < share * extent)[:, None]
        return np.where(under, np.asarray(card, dtype=np.float32), base)
    ink = PATTERNS[pattern](u, v)[:, None]
    light = base @ np.asarray((0.3, 0.59, 0.11), dtype=np.float32) > 105
    second = base * 0.42 if light else base + (255 - base) * 0.62
    heart = np.asarray((250, 150, 60), dtype=np.float32)
    return np.where(ink > 1.5, heart, base + (second - base) * np.minimum(ink, 1.0))


def _shade(normal: np.ndarray) -> Pixels:
    return 0.62 + 0.42 * np.maximum(LIGHT_FROM @ normal, 0.0)


def _shine(material: str, normal: np.ndarray, u: Pixels, v: Pixels) -> Pixels:
    """What a material reflects beside its own colour, for normals (3, P)."""
    x, y = normal[0], normal[1]
    if material == "steel":
        return 120 * np.sin(3.0 * (x + 0.3 * y) + 4.5 * u) ** 4 - 25
    if material == "plastic":
        spot = 190 * np.clip(1 - 5.0 * np.hypot(x + 0.34, y - 0.42), 0, 1)
        return np.maximum(spot, 85.0 * ((u - 0.6 * v) % 0.9 < 0.13))
    if material == "glass":
        return 110 * ((u - 0.9 * v) % 0.7 < 0.09) + 60 * (normal[2] < 0.45)
    return np.zeros_like(x)


def _stick_badge(  # noqa: PLR0913
    cells: np.ndarray, on: np.ndarray, u: Pixels, v: Pixels, shade: Pixels, colors: np.ndarray, opacity: Pixels
) -> None:
    """Draw the badge around the middle of the side that carries it, in place."""
    rows, columns = cells.shape
    step = 0.085
    column = np.floor(u / step + columns / 2 + 1).astype(np.int64)
    row = np.floor(rows / 2 + 1 - v / step).astype(np.int64)
    framed = np.pad(cells, 1)
    on = on & (column >= 0) & (column < columns + 2) & (row >= 0) & (row < rows + 2)
    dark = framed[row[on], column[on]]
    colors[on] = np.where(dark[:, None], 24.0, 252.0) * np.minimum(shade[on], 1.0)[:, None]
    opacity[on] = 1.0
