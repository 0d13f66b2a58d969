"""Where a vision-language run has its products from: the embedded shop, or a catalogue and a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.catalog.images import PictureError
from goodrate.catalog.items import Catalog
from goodrate.catalog.prices import PriceOptions
from goodrate.catalog.readers import read_catalog
from goodrate.examples.product_items import ProductSet, catalog_products, shop_products
from goodrate.learning.source import seed_of
from goodrate.shop.pictures import VISUAL_ATTRIBUTES
from goodrate.shop.world import make_world


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
    index: str | None = Field(default=None, description="folder of `goodrate index` with pictures in place of catalog")
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
        if sum(one is not None for one in (self.shop, self.catalog, self.index)) != 1:
            raise ValueError("expected one of products.shop, products.catalog and products.index")
        if (self.catalog is None) != (self.images is None):
            raise ValueError("products.catalog and products.images go together: the items and the folder of pictures")
        return self


def product_set(settings: PictureData) -> tuple[ProductSet, list[str]]:
    """The products, and notes. Raises FileNotFoundError, or ValueError naming what cannot be used."""
    if settings.shop is not None:
        world = make_world(settings.shop.seed, settings.shop.items)
        return shop_products(world, settings.shop.size, settings.attributes or VISUAL_ATTRIBUTES), []
    catalog = _catalog(settings)
    pictures = _pictures(catalog)
    lacking = sum(picture is None for picture in pictures)
    notes = [f"{lacking:,} of {len(catalog):,} items have no picture"] if lacking else []
    return catalog_products(catalog, pictures, settings.attributes, settings.visible), [*catalog.notes, *notes]


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


def _catalog(settings: PictureData) -> Catalog:
    """The items with their pictures. Raises FileNotFoundError, ValueError naming file, row and column."""
    if settings.index is not None:
        from goodrate.retrieval.pictures import pictures_of
        from goodrate.retrieval.store import Store

        store = Store.open(settings.index)
        return Catalog(store.all_items().frame, plain=True, pictures=pictures_of(store))
    assert settings.catalog is not None and settings.images is not None
    columns, prices = settings.catalog_map or None, PriceOptions(settings.decimal, settings.currency)
    images = Path(settings.images)
    return read_catalog(settings.catalog, settings.catalog_format, columns, settings.skip_bad, prices, images)


def _pictures(catalog: Catalog) -> list[bytes | np.ndarray | None]:
    """The bytes of each item's picture, None without one here. Raises ValueError naming an item whose file is gone."""
    found: list[bytes | np.ndarray | None] = []
    for place, id_ in enumerate(catalog.ids):
        try:
            found.append(catalog.picture(place))
        except PictureError as error:
            raise ValueError(f"picture of item {id_!r}: expected {error}") from None
    return found
