"""The shape of every category of the shop, as solids; one at least of each carries the badge at its front."""

from __future__ import annotations

from functools import cache

from goodrate.shop.drawing.solids import DARK, MAIN, METAL, PAPER, TRIM, Solid

Three = tuple[float, float, float]


def _box(
    center: Three, half: Three, tone: int = MAIN, tilt: tuple[float, float] = (0, 0), badge: bool = False
) -> Solid:
    return Solid("box", center, half, tone, tilt, badge=badge)


def _tube(  # noqa: PLR0913
    center: Three, half: Three, tone: int = MAIN, tilt: tuple[float, float] = (0, 0), taper: float = 1.0,
    badge: bool = False,
) -> Solid:  # fmt: skip
    return Solid("tube", center, half, tone, tilt, taper, badge)


def _ball(center: Three, half: Three, tone: int = MAIN, badge: bool = False) -> Solid:
    return Solid("ball", center, half, tone, badge=badge)


def _legs(x: float, z: float, top: float, tone: int, thick: float = 0.06) -> list[Solid]:
    """Four legs from a height down to the floor."""
    middle, half = (top - 1.0) / 2, (top + 1.0) / 2
    return [_box((sx * x, middle, sz * z), (thick, half, thick), tone) for sx in (-1, 1) for sz in (-1, 1)]


def _boot(x: float, z: float, badge: bool) -> list[Solid]:
    return [
        _tube((x - 0.25, 0.2, z), (0.3, 0.75, 0.26), badge=badge),
        _ball((x + 0.15, -0.62, z), (0.6, 0.3, 0.27)),
        _box((x + 0.1, -0.9, z), (0.62, 0.08, 0.28), DARK),
    ]


@cache
def shapes() -> dict[str, tuple[Solid, ...]]:
    """Category -> its solids."""
    groups = (_electronics(), _fashion(), _home(), _kitchen(), _outdoor(), _office())
    return {name: tuple(solids) for group in groups for name, solids in group.items()}


def _electronics() -> dict[str, list[Solid]]:
    arch = [(-0.66, 0.3, -8), (-0.5, 0.66, -38), (0.0, 0.84, 90), (0.5, 0.66, 38), (0.66, 0.3, 8)]
    return {
        "phone": [
            _box((0, 0, 0), (0.52, 1.0, 0.09), badge=True),
            _box((0, 0, -0.09), (0.46, 0.9, 0.02), DARK),  # the screen is at the back, the camera at the front
            _box((-0.22, 0.68, 0.1), (0.22, 0.22, 0.05), DARK),
            _ball((-0.31, 0.76, 0.15), (0.07, 0.07, 0.04), METAL),
            _ball((-0.13, 0.6, 0.15), (0.07, 0.07, 0.04), METAL),
        ],
        "phone case": [
            _box((0, -0.05, 0), (0.6, 0.95, 0.16), badge=True),
            _box((0, -0.05, -0.16), (0.5, 0.84, 0.02), PAPER),
            _tube((0, 0.55, 0.12), (0.34, 0.06, 0.2), PAPER, tilt=(0, 90)),
            _tube((0.72, 0.3, 0), (0.05, 0.7, 0.05), TRIM, tilt=(-14, 0)),
            _ball((0.9, -0.4, 0), (0.13, 0.13, 0.13), DARK),
        ],
        "headphones": [
            *[_tube((x, y, 0), (0.1, 0.34, 0.13), MAIN, tilt=(t, 0)) for x, y, t in arch],
            _tube((-0.7, -0.35, 0), (0.36, 0.2, 0.36), MAIN, tilt=(90, 0)),
            _tube((0.7, -0.35, 0), (0.36, 0.2, 0.36), MAIN, tilt=(90, 0)),
            _tube((-0.46, -0.35, 0), (0.3, 0.1, 0.3), DARK, tilt=(90, 0)),
            _tube((0.46, -0.35, 0), (0.3, 0.1, 0.3), DARK, tilt=(90, 0)),
            _box((0.7, -0.35, 0.3), (0.22, 0.3, 0.1), MAIN, badge=True),
        ],
        "charger": [
            _box((0, 0.0, 0), (0.6, 0.55, 0.45), badge=True),
            _box((-0.25, 0.75, 0), (0.07, 0.24, 0.05), METAL),
            _box((0.25, 0.75, 0), (0.07, 0.24, 0.05), METAL),
            _tube((0, -0.7, 0), (0.07, 0.2, 0.07), DARK),
            _tube((0.3, -0.93, 0), (0.07, 0.36, 0.07), DARK, tilt=(90, 0)),
            _box((0.75, -0.93, 0), (0.16, 0.1, 0.1), TRIM),
        ],
    }


def _fashion() -> dict[str, list[Solid]]:
    crossed = [(0.7, 32), (0.35, -32), (0.0, 32), (-0.35, -32), (-0.7, 32)]
    return {
        "jacket": [
            _box((0, -0.1, 0), (0.52, 0.8, 0.28), badge=True),
            _tube((-0.74, 0.0, 0), (0.2, 0.72, 0.2), MAIN, tilt=(-18, 0)),
            _tube((0.74, 0.0, 0), (0.2, 0.72, 0.2), MAIN, tilt=(18, 0)),
            _tube((0, 0.78, 0), (0.28, 0.16, 0.24), TRIM),
            _box((0, -0.1, 0.28), (0.04, 0.8, 0.02), METAL),
            _box((0, -0.87, 0), (0.54, 0.07, 0.3), DARK),
        ],
        "trousers": [
            _box((0, 0.62, 0), (0.5, 0.3, 0.26), badge=True),
            _box((0, 0.93, 0), (0.52, 0.07, 0.28), DARK),
            _tube((-0.32, -0.32, 0), (0.25, 0.7, 0.25), MAIN, tilt=(-7, 0)),
            _tube((0.32, -0.32, 0), (0.25, 0.7, 0.25), MAIN, tilt=(7, 0)),
        ],
        "boots": [*_boot(-0.25, -0.4, False), *_boot(0.15, 0.25, True)],
        "boot laces": [
            *[_tube((0, y, 0.02 * k), (0.1, 0.66, 0.1), MAIN, tilt=(90 + t, 0)) for k, (y, t) in enumerate(crossed)],
            _tube((-0.62, -0.85, 0), (0.07, 0.16, 0.07), METAL),
            _tube((0.62, 0.95, 0), (0.07, 0.16, 0.07), METAL),
            _box((0, 0.0, 0.18), (0.3, 0.28, 0.04), MAIN, badge=True),
        ],
    }


def _home() -> dict[str, list[Solid]]:
    folds = [(-0.82, 0), (-0.58, 1), (-0.34, 0), (0.34, 1), (0.58, 0), (0.82, 1)]
    return {
        "lamp": [
            _tube((0, 0.5, 0), (0.72, 0.42, 0.72), MAIN, taper=0.55, badge=True),
            _tube((0, -0.3, 0), (0.06, 0.6, 0.06), METAL),
            _tube((0, -0.92, 0), (0.42, 0.08, 0.42), DARK),
            _ball((0, 0.98, 0), (0.07, 0.07, 0.07), METAL),
        ],
        "lamp shade": [
            _tube((0, -0.25, 0), (0.98, 0.6, 0.98), MAIN, taper=0.42, badge=True),
            _tube((0, -0.83, 0), (1.0, 0.05, 1.0), TRIM),
            _tube((0, 0.37, 0), (0.43, 0.05, 0.43), TRIM),
            _tube((0, 0.75, 0), (0.03, 0.4, 0.03), DARK),
        ],
        "rug": [
            _box((0, -0.1, 0.1), (0.95, 0.04, 0.85), MAIN, tilt=(0, 40)),
            _tube((0, 0.5, -0.55), (0.2, 0.95, 0.2), MAIN, tilt=(90, 0)),
            *[_box((x, -0.72, 0.8), (0.03, 0.03, 0.14), PAPER, tilt=(0, 40)) for x in (-0.8, -0.4, 0.0, 0.4, 0.8)],
            _box((0.5, -0.35, 0.47), (0.3, 0.24, 0.02), MAIN, tilt=(0, -50), badge=True),
        ],
        "curtain": [
            _tube((0, 0.95, 0), (0.06, 1.08, 0.06), DARK, tilt=(90, 0)),
            _ball((-1.05, 0.95, 0), (0.11, 0.11, 0.11), METAL),
            _ball((1.05, 0.95, 0), (0.11, 0.11, 0.11), METAL),
            *[_tube((x, -0.02, 0.08 * k), (0.15, 0.92, 0.15), MAIN, badge=(x == 0.58)) for x, k in folds],
        ],
    }


def _kitchen() -> dict[str, list[Solid]]:
    return {
        "pan": [
            _tube((-0.25, -0.1, 0), (0.6, 0.26, 0.6), MAIN, taper=1.15, badge=True),
            _tube((-0.25, 0.17, 0), (0.6, 0.02, 0.6), DARK),
            _tube((0.75, 0.1, 0), (0.1, 0.42, 0.1), DARK, tilt=(-82, 0)),
            _ball((1.12, 0.15, 0), (0.11, 0.11, 0.11), METAL),
        ],
        "pan lid": [
            _tube((0, -0.25, 0), (0.98, 0.26, 0.98), MAIN, taper=0.45, badge=True),
            _tube((0, -0.55, 0), (1.02, 0.06, 1.02), METAL),
            _tube((0, 0.1, 0), (0.12, 0.14, 0.12), DARK),
            _ball((0, 0.32, 0), (0.24, 0.14, 0.24), DARK),
        ],
        "kettle": [
            _tube((0, -0.3, 0), (0.66, 0.6, 0.66), MAIN, taper=0.68, badge=True),
            _tube((0.72, 0.0, 0), (0.13, 0.42, 0.13), TRIM, tilt=(-40, 0), taper=0.6),
            _ball((0, 0.32, 0), (0.44, 0.16, 0.44), TRIM),
            _ball((0, 0.52, 0), (0.1, 0.1, 0.1), DARK),
            _box((-0.5, 0.72, 0), (0.07, 0.3, 0.1), DARK, tilt=(12, 0)),
            _box((0.42, 0.72, 0), (0.07, 0.3, 0.1), DARK, tilt=(-12, 0)),
            _box((-0.03, 1.0, 0), (0.42, 0.07, 0.1), DARK),
        ],
        "knife": [
            _tube((-0.5, -0.5, 0), (0.2, 0.52, 0.15), MAIN, tilt=(-45, 0), badge=True),
            _box((0.3, 0.3, 0), (0.24, 0.62, 0.04), METAL, tilt=(-45, 0)),
            _box((0.84, 0.68, 0), (0.1, 0.25, 0.04), METAL, tilt=(-58, 0)),
            _box((-0.13, -0.13, 0), (0.27, 0.06, 0.16), DARK, tilt=(-45, 0)),
        ],
    }


def _outdoor() -> dict[str, list[Solid]]:
    return {
        "tent": [
            _tube((0, -0.05, 0), (1.05, 0.9, 0.95), MAIN, taper=0.04, badge=True),
            _tube((-0.3, -0.4, 0.42), (0.3, 0.55, 0.36), DARK, taper=0.05),
            _tube((0, 0.9, 0), (0.03, 0.18, 0.03), TRIM),
            _tube((0, -0.95, 0), (1.08, 0.04, 0.98), TRIM),
        ],
        "tent pegs": [
            *[
                _tube((x, -0.1, 0.0), (0.1, 0.85, 0.1), MAIN, tilt=(t, 180), taper=0.25)
                for x, t in ((-0.66, -12), (-0.22, -4), (0.22, 4), (0.66, 12))
            ],
            *[
                _tube((x, 0.78, 0.0), (0.24, 0.07, 0.11), DARK, tilt=(t, 0))
                for x, t in ((-0.82, -12), (-0.28, -4), (0.28, 4), (0.82, 12))
            ],
            _box((0.0, -0.1, 0.12), (0.66, 0.22, 0.03), MAIN, badge=True),
        ],
        "backpack": [
            _box((0, -0.2, 0), (0.62, 0.65, 0.36)),
            _ball((0, 0.42, 0), (0.62, 0.45, 0.36)),
            _box((0, -0.42, 0.42), (0.44, 0.36, 0.14), MAIN, badge=True),
            _box((0, -0.02, 0.44), (0.46, 0.05, 0.14), DARK),
            _box((-0.66, -0.15, 0), (0.06, 0.55, 0.12), DARK),
            _box((0.66, -0.15, 0), (0.06, 0.55, 0.12), DARK),
            _tube((0, 0.92, 0), (0.16, 0.08, 0.06), DARK),
            _box((-0.3, 0.0, -0.4), (0.1, 0.6, 0.06), DARK),
            _box((0.3, 0.0, -0.4), (0.1, 0.6, 0.06), DARK),
        ],
        "sleeping bag": [
            _tube((0, -0.35, 0), (0.52, 0.98, 0.52), MAIN, tilt=(90, 0), badge=True),
            _tube((-0.55, -0.35, 0), (0.55, 0.07, 0.55), DARK, tilt=(90, 0)),
            _tube((0.55, -0.35, 0), (0.55, 0.07, 0.55), DARK, tilt=(90, 0)),
            _tube((0.98, -0.35, 0), (0.3, 0.03, 0.3), PAPER, tilt=(90, 0)),
            _tube((-0.98, -0.35, 0), (0.3, 0.03, 0.3), PAPER, tilt=(90, 0)),
            _ball((0.2, 0.2, 0.1), (0.5, 0.2, 0.3)),
        ],
    }


def _office() -> dict[str, list[Solid]]:
    return {
        "desk": [
            _box((0, 0.3, 0), (1.05, 0.09, 0.6), MAIN),
            _box((0.6, -0.18, 0.0), (0.38, 0.4, 0.52), MAIN, badge=True),
            _box((0.6, 0.12, 0.53), (0.14, 0.03, 0.03), METAL),
            *_legs(0.92, 0.48, 0.22, DARK, 0.07),
        ],
        "chair": [
            _box((0, -0.15, 0.05), (0.58, 0.1, 0.52), MAIN),
            _box((0, 0.55, -0.42), (0.56, 0.48, 0.08), MAIN, badge=True),
            *_legs(0.48, 0.42, -0.25, DARK),
        ],
        "printer": [
            _box((0, -0.3, 0), (0.98, 0.42, 0.62), MAIN, badge=True),
            _box((0, 0.42, -0.35), (0.52, 0.5, 0.03), PAPER, tilt=(0, -14)),
            _box((0, 0.16, 0.05), (0.8, 0.06, 0.42), DARK),
            _box((0, -0.62, 0.66), (0.6, 0.05, 0.2), DARK),
            _box((0, -0.55, 0.82), (0.46, 0.02, 0.24), PAPER),
            _ball((0.8, 0.0, 0.62), (0.07, 0.07, 0.05), METAL),
        ],
        "printer ink": [
            _box((-0.1, -0.1, 0), (0.42, 0.75, 0.5), MAIN, badge=True),
            _box((0.42, -0.45, 0), (0.16, 0.4, 0.4), MAIN),
            _tube((-0.1, -0.92, 0), (0.2, 0.1, 0.2), DARK),
            _box((-0.1, 0.72, 0), (0.44, 0.1, 0.52), TRIM),
            _box((0.6, -0.45, 0), (0.03, 0.26, 0.26), METAL),
            _tube((-0.3, 0.92, 0), (0.12, 0.12, 0.12), DARK),
        ],
    }
