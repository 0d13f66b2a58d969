"""The pictures of a shop as files, with the truth of what text and picture tell of every item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goodrate.shop.pictures import draw_item, photo_view, picture_share
from goodrate.shop.world import World

if TYPE_CHECKING:
    import polars as pl

IMAGES, PICTURED = "images", "pictured.csv"
SHARE_SEED = 0  # which attributes the exported pictures tell
_NAME = re.compile(r"p\d{6,}\.png")


def with_images(frame: pl.DataFrame) -> pl.DataFrame:
    """A catalogue with the column image: the path of every item's picture from the shop's folder."""
    import polars as pl

    return frame.with_columns(image=pl.lit(f"{IMAGES}/") + pl.col("id") + ".png")


def picture_contents(world: World, ids: Sequence[str], size: int) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes): a PNG of every item, and pictured.csv with what they tell."""
    from PIL import Image

    shown = picture_share(world, SHARE_SEED)
    for item, name in enumerate(ids):
        buffer = BytesIO()
        picture = draw_item(world, item, size=size, view=photo_view(world, item), shown=shown[item])
        Image.fromarray(picture).save(buffer, "PNG")
        yield f"{IMAGES}/{name}.png", buffer.getvalue()
    yield PICTURED, pictured_frame(world, ids, shown).write_csv().encode()


def pictured_frame(world: World, ids: Sequence[str], shown: np.ndarray) -> pl.DataFrame:
    """A row for each item and attribute: item_id, attribute, value, in_text and in_picture (true or false).

    shown (N, A) bool: which attributes the pictures tell. Where both are false, the right answer is "unknown".
    """
    import polars as pl

    t = world.taxonomy
    count = len(t.attributes)
    values = [t.values[a][v] for row in world.values.tolist() for a, v in enumerate(row)]
    return pl.DataFrame(
        {
            "item_id": np.repeat(np.asarray(ids), count).tolist(),
            "attribute": list(t.attributes) * len(ids),
            "value": values,
            "in_text": world.stated.reshape(-1),
            "in_picture": shown.reshape(-1),
        }
    )


def is_picture_file(path: Path) -> bool:
    """Whether an older export with pictures wrote this: pictured.csv, or a folder that holds its pictures alone."""
    if path.name == PICTURED:
        return path.is_file()
    return path.name == IMAGES and path.is_dir() and all(_NAME.fullmatch(entry.name) for entry in path.iterdir())
