"""Solids under an orthographic camera: what each pixel sees of a thing that stands on a turntable.

Object frame: x to the right, y up, z towards the camera at angle 0; a thing fills about -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

ELEVATION = 18.0  # degrees that the camera looks down
MAIN, TRIM, DARK, METAL, PAPER = range(5)  # tones; MAIN is the one that tells colour, pattern and material
NOTHING = -1


@dataclass(frozen=True)
class Solid:
    """A box, an upright tube (elliptic, its top `taper` times as wide as its bottom) or a ball.

    center and half (3,) in the object frame; tilt: degrees about the z axis, then about the x axis.
    """

    kind: str
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    tone: int = MAIN
    tilt: tuple[float, float] = (0.0, 0.0)
    taper: float = 1.0
    badge: bool = False

    def stretched(self, width: float, height: float) -> Solid:
        """The solid of a thing that is wider and higher by these factors."""
        (x, y, z), (a, b, c) = self.center, self.half
        center, half = (x * width, y * height, z * width), (a * width, b * height, c * width)
        return replace(self, center=center, half=half)


@dataclass(frozen=True)
class Seen:
    """What S x S pixels see: tone (S, S) with -1 for nothing, u and v (S, S) on the surface, normal (3, S, S) in the
    camera's frame (x right, y up, z to the camera), extent (S, S) half the height of the solid, badge (S, S) bool:
    the side of the solid that carries the badge."""

    tone: np.ndarray
    u: np.ndarray
    v: np.ndarray
    normal: np.ndarray
    extent: np.ndarray
    badge: np.ndarray


def look_at(solids: list[Solid], angle: float, size: int, unit: float, middle: float) -> Seen:
    """Cast one ray a pixel.

    angle: degrees about the vertical axis; unit: pixels that one unit of length covers; middle: the row of the origin.
    """
    camera = _camera() @ _about(1, angle)  # rows: the camera's right, up and backward axes in the object frame
    pixels = np.arange(size, dtype=np.float32) + 0.5
    across, down = (pixels - size / 2) / unit, (pixels - middle) / unit
    seen = Seen(
        tone=np.full((size, size), NOTHING, dtype=np.int8),
        u=np.zeros((size, size), dtype=np.float32),
        v=np.zeros((size, size), dtype=np.float32),
        normal=np.zeros((3, size, size), dtype=np.float32),
        extent=np.ones((size, size), dtype=np.float32),
        badge=np.zeros((size, size), dtype=bool),
    )
    depth = np.full((size, size), np.inf, dtype=np.float32)
    for solid in solids:
        _cast(solid, camera, (across, down), depth, seen)
    return seen


def _about(axis: int, degrees: float) -> np.ndarray:
    """The rotation (3, 3) about one axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


def _camera() -> np.ndarray:
    return _about(0, ELEVATION)


def _cast(
    solid: Solid, camera: np.ndarray, places: tuple[np.ndarray, np.ndarray], depth: np.ndarray, seen: Seen
) -> None:
    """Write what is seen of one solid wherever it is nearer than what was seen so far."""
    across, down = places
    place = camera @ np.asarray(solid.center)
    reach = float(np.linalg.norm(solid.half)) * max(1.0, solid.taper)
    columns = slice(*np.searchsorted(across, (place[0] - reach, place[0] + reach)))
    rows = slice(*np.searchsorted(down, (-place[1] - reach, -place[1] + reach)))
    window = (rows, columns)
    own = camera @ _about(2, solid.tilt[0]) @ _about(0, solid.tilt[1])  # own frame -> camera's frame
    x, y = across[columns][None, :] - place[0], -down[rows][:, None] - place[1]
    origin = [(own[0, k] * x + own[1, k] * y - own[2, k] * place[2]).astype(np.float32) for k in range(3)]
    ray = -own[2]  # away from the camera; depth is measured along it
    distance, u, v, normal, front = CASTERS[solid.kind](solid, origin, ray)
    nearer = distance < depth[window]
    depth[window][nearer] = distance[nearer]
    seen.tone[window][nearer] = solid.tone
    seen.u[window][nearer] = u[nearer]
    seen.v[window][nearer] = v[nearer]
    seen.extent[window][nearer] = solid.half[1]
    seen.badge[window][nearer] = front[nearer] if solid.badge else False
    hit = np.stack([n[nearer] for n in normal])
    seen.normal[:, rows, columns][:, nearer] = own @ hit


Hit = tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]  # depth, u, v, normal (3), badge side


def _box(solid: Solid, origin: list[np.ndarray], ray: np.ndarray) -> Hit:
    step = np.where(np.abs(ray) < 1e-6, 1e-6, ray)
    near = np.stack([(-np.sign(s) * h - o) / s for o, s, h in zip(origin, step, solid.half, strict=True)])
    far = np.stack([(np.sign(s) * h - o) / s for o, s, h in zip(origin, step, solid.half, strict=True)])
    face, enter = near.argmax(axis=0), near.max(axis=0)
    distance = np.where(enter < far.min(axis=0), enter, np.inf)
    x, y, z = (o + enter * s for o, s in zip(origin, step, strict=True))
    normal = [np.where(face == k, -np.sign(step[k]), 0.0) for k in range(3)]
    return distance, np.where(face == 0, z, x), np.where(face == 1, z, y), normal, (face == 2) & (step[2] < 0)


def _tube(solid: Solid, origin: list[np.ndarray], ray: np.ndarray) -> Hit:
    (ox, oy, oz), (dx, dy, dz), (a, h, b) = origin, ray, solid.half
    middle, slope = (1 + solid.taper) / 2, (solid.taper - 1) / (2 * h)
    wide = middle + slope * oy  # the radius at a height, as a share of the bottom's
    square = (dx / a) ** 2 + (dz / b) ** 2 - (slope * dy) ** 2
    square = square if abs(square) > 1e-6 else 1e-6
    half = ox * (dx / a**2) + oz * (dz / b**2) - wide * (slope * dy)
    root = np.sqrt(np.maximum(half**2 - square * ((ox / a) ** 2 + (oz / b) ** 2 - wide**2), 0.0))
    missed = root == 0.0
    side = (-half - np.sign(square) * root) / square
    height = oy + side * dy
    side = np.where(missed | (np.abs(height) > h) | (middle + slope * height < 0), np.inf, side)
    drop = dy if abs(dy) > 1e-6 else 1e-6
    cap = (-np.sign(drop) * h - oy) / drop
    rim = middle - np.sign(drop) * slope * h
    inside = ((ox + cap * dx) / a) ** 2 + ((oz + cap * dz) / b) ** 2 <= rim**2
    on_cap = inside & (cap < side)
    distance = np.where(on_cap, cap, side)
    at = np.where(np.isfinite(distance), distance, 0.0)
    x, y, z = ox + at * dx, oy + at * dy, oz + at * dz
    bend = -slope * (middle + slope * y)
    normal = [np.where(on_cap, 0.0, x / a**2), np.where(on_cap, -np.sign(drop), bend), np.where(on_cap, 0.0, z / b**2)]
    around = np.arctan2(x / a, z / b) * (a + b) / 2
    return distance, np.where(on_cap, x, around), np.where(on_cap, z, y), _unit(normal), ~on_cap & (z > 0)


def _ball(solid: Solid, origin: list[np.ndarray], ray: np.ndarray) -> Hit:
    o = [x / h for x, h in zip(origin, solid.half, strict=True)]
    d = [float(x / h) for x, h in zip(ray, solid.half, strict=True)]
    square = sum(x * x for x in d)
    half = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    under = half**2 - square * (o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - 1.0)
    at = (-half - np.sqrt(np.maximum(under, 0.0))) / square
    x, y, z = (p + at * q for p, q in zip(o, d, strict=True))
    u = np.arctan2(x, z) * (solid.half[0] + solid.half[2]) / 2
    normal = _unit([n / h for n, h in zip((x, y, z), solid.half, strict=True)])
    return np.where(under > 0, at, np.inf), u, y * solid.half[1], normal, z > 0


def _unit(vector: list[np.ndarray]) -> list[np.ndarray]:
    length = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2) + 1e-9
    return [part / length for part in vector]


CASTERS = {"box": _box, "tube": _tube, "ball": _ball}
