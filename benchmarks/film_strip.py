"""The pictures of docs/film.md: turntables of the generated shop, each kind of defect, and clips of a generator.

python benchmarks/film_strip.py docs/pictures/film_shop.png
python benchmarks/film_strip.py runs/film.png --model runs/film/generator
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from goodrate.api.filming import open_generator
from goodrate.recipes.clip_data import ShopClips, shop_items
from goodrate.shop.clips import KINDS, Defect, caption, inject, turntable
from goodrate.shop.world import World

ENLARGED = 4  # times, so that a pixel can be seen
KINDS_OF_ITEM = ["kettle", "chair", "backpack", "jacket", "desk", "lamp"]
SHOP = ShopClips(seed=900, items=24, categories=KINDS_OF_ITEM)  # a shop that no generator learns from


def strip(clip: np.ndarray) -> np.ndarray:
    """The frames (T, H, W, 3) side by side, two pixels apart."""
    edge = np.full((clip.shape[1], 2, 3), 255, dtype=np.uint8)
    return np.concatenate([part for frame in clip for part in (frame, edge)], axis=1)


def shop_rows(size: int) -> list[np.ndarray]:
    """Six items from all sides, then one of them with each kind of defect in frames 2 to 6."""
    world = SHOP.world()
    items = _one_of_each(world)
    rows = [strip(turntable(world, item, size=size)) for item in items]
    clean = turntable(world, items[0], size=size)
    broken = [Defect(kind, 1, number % 2, 2, 6) for number, kind in enumerate(KINDS)]
    return rows + [strip(inject(clean, defect, np.random.default_rng(1))) for defect in broken]


def model_rows(folder: Path) -> list[np.ndarray]:
    """For each item the true clip, and beside it what the model makes of its caption."""
    generator = open_generator(folder)
    world = SHOP.world()
    items = _one_of_each(world)
    told = [caption(world, item) for item in items]
    made = generator.sample(told, range(len(told)))
    for number, text in enumerate(told):
        print(number, text)
    size = made.shape[2]
    gap = np.full((size, 8, 3), 255, dtype=np.uint8)
    true = [turntable(world, item, frames=made.shape[1], size=size) for item in items]
    return [np.concatenate([strip(one), gap, strip(other)], axis=1) for one, other in zip(true, made, strict=True)]


def _one_of_each(world: World) -> list[int]:
    """The first item of each category of SHOP."""
    items = np.asarray(shop_items(SHOP, world))
    kinds = [world.taxonomy.categories.index(name) for name in KINDS_OF_ITEM]
    return [int(items[world.category[items] == kind][0]) for kind in kinds]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="a generator's folder: its clips beside the true ones")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side of the shop's clips")
    arguments = parser.parse_args()
    rows = model_rows(arguments.model) if arguments.model else shop_rows(arguments.size)
    gap = np.full((2, rows[0].shape[1], 3), 255, dtype=np.uint8)
    picture = Image.fromarray(np.concatenate([part for row in rows for part in (row, gap)], axis=0))
    times = ENLARGED if arguments.model else 3
    picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).save(arguments.out)


if __name__ == "__main__":
    main()
