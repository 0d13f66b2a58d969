"""Where a vision-language run has its products from: the embedded shop, or a catalogue and a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.catalog.items import Catalog
from goodrate.examples.product_items import ProductSet, catalog_products, shop_products
from goodrate.examples.sources import read_items
from goodrate.learning.source import seed_of
from goodrate.shop.pictures import VISUAL_ATTRIBUTES
from goodrate.shop.world import make_world

ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
LARGEST_FILE = 50 * 2**20  # bytes


class ShopPictures(BaseModel):
    """An embedded shop and how its items are drawn."""

    model_config = ConfigDict(extra="forbid")
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    items: int = Field(default=1000, ge=20)
    size: int = Field(default=64, ge=8, description="pixels of a picture's sides")


class PictureData(BaseModel):
    """Items with pictures: those of a shop, or of a catalogue with a folder of pictures."""

    model_config = ConfigDict(extra="forbid")
    shop: ShopPictures | None = Field(default=None, description="draw this shop")
    catalog: str | None = Field(default=None, description="file of items; their column image is a path in images")
    catalog_format: str | None = None
    catalog_map: dict[str, str] = Field(default={}, description="our column = the file's column")
    decimal: Literal["point", "comma"] | None = None
    currency: str | None = None
    index: str | None = Field(default=None, description="folder of `goodrate index` in place of catalog: its items")
    skip_bad: int = Field(default=0, ge=0)
    images: str | None = Field(
        default=None, description="folder of pictures; an item without a path has ID.jpg or .png"
    )
    attributes: list[str] | None = Field(default=None, description="which are asked for; null = those with few values")
    visible: list[str] | None = Field(default=None, description="which of them a picture may show; null = all")
    only: list[str] = Field(default=[], description="categories to learn from; empty = all")
    hold_out: list[str] = Field(default=[], description="categories that are not learned from")
    dev_share: float = Field(default=0.1, gt=0, lt=0.5, description="of the products, for the table at the end")
    split_seed: int = 0

    @model_validator(mode="after")
    def _one_source(self) -> PictureData:
        files = [name for name in (self.catalog, self.index) if name is not None]
        if (self.shop is not None) + len(files) != 1 or bool(files) != (self.images is not None):
            raise ValueError(
                "expected either products.shop, or products.catalog or products.index with products.images"
            )
        return self


def product_set(settings: PictureData) -> tuple[ProductSet, list[str]]:
    """The products, and notes. Raises FileNotFoundError, or ValueError naming what cannot be used."""
    if settings.shop is not None:
        world = make_world(settings.shop.seed, settings.shop.items)
        return shop_products(world, settings.shop.size, settings.attributes or VISUAL_ATTRIBUTES), []
    assert settings.images is not None
    catalog = read_items(settings)
    pictures = pictures_of(catalog, Path(settings.images))
    lacking = sum(picture is None for picture in pictures)
    notes = [f"{lacking:,} of {len(catalog):,} items have no picture in {settings.images}"] if lacking else []
    return catalog_products(catalog, pictures, settings.attributes, settings.visible), notes


def split_products(settings: PictureData, products: ProductSet) -> tuple[ProductSet, ProductSet]:
    """Those to learn from and those of dev. With hold_out both lack these categories, with only they have no other.

    Raises ValueError for a category that no product has, and when fewer than two products are left.
    """
    chosen = products.of_categories(settings.only) if settings.only else products
    if settings.hold_out:
        chosen = chosen.of_categories(settings.hold_out, inside=False)
    ranked = sorted(range(len(chosen.products)), key=lambda n: seed_of(settings.split_seed, chosen.products[n].id))
    if len(ranked) < 2:
        raise ValueError(f"{len(ranked)} products are left to learn from and to measure on; expected at least 2")
    dev = max(1, round(settings.dev_share * len(ranked)))
    return chosen.part(sorted(ranked[dev:])), chosen.part(sorted(ranked[:dev]))


def pictures_of(catalog: Catalog, folder: Path) -> list[bytes | np.ndarray | None]:
    """The bytes of each item's picture: the path of its column image in the folder, or the file that is called as its
    id; None without one. Addresses are not fetched.

    Raises FileNotFoundError for a folder that is not there, ValueError for a path that leads out of it and for a file
    above 50 MiB.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected the pictures of the items")
    root = folder.resolve()
    found: list[bytes | np.ndarray | None] = []
    for id_, image in catalog.frame.select("id", "image").iter_rows():
        names = [image] if image and "://" not in image else [f"{id_}.{ending}" for ending in ENDINGS]
        path = next((p for p in (root / name for name in names) if p.is_file()), None)
        if path is not None and not path.resolve().is_relative_to(root):
            raise ValueError(f"item {id_}: the picture {image} leads out of {folder}")
        if path is not None and path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"item {id_}: {path.name} has {path.stat().st_size:,} bytes; at most {LARGEST_FILE:,}")
        found.append(path.read_bytes() if path is not None else None)
    return found
