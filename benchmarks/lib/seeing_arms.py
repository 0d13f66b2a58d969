"""Arms of benchmarks/product_search.py around one vision-language model: it fills in attributes, or judges itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.api.describing import describe
from goodrate.catalog.items import Catalog
from goodrate.examples.product_items import catalog_products
from goodrate.examples.product_tasks import TaskSettings
from goodrate.learning.fit import FitSettings
from goodrate.models.vision_language.folder import CARD
from goodrate.recipes import judge_seeing
from goodrate.recipes.product_data import PictureData, ShopPictures
from goodrate.recipes.product_vision_language import (
    Settings,
    learn,
    measure,
    open_describer,
    save_trained,
    set_up,
)
from goodrate.recipes.tiny_vision import TinySettings
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import Item, JudgedPair
from goodrate.relevance.seeing_judge import PictureOf
from goodrate.run_folder import new_folder
from goodrate.scale import RelevanceScale
from goodrate.shop.pictures import VISUAL_ATTRIBUTES

Quiet = Mapping[str, float]


def quiet(record: Quiet) -> None:
    """No progress is shown."""


def trained_sight(
    items: Catalog, pictures: Sequence[np.ndarray], same: Mapping[str, str], updates: int, seed: int, folder: Path
) -> Path:
    """The recipe product_vision_language on these listings and pictures; the folder of its model. same: word -> the
    one name of its value.
    """
    if (folder / "model" / CARD).is_file():
        return folder / "model"
    settings = Settings(
        products=PictureData(shop=ShopPictures(), dev_share=0.1), tiny=TinySettings(size=32, updates=updates),
        tasks=TaskSettings(wording="house", questions=8), epochs=1000, batch_size=12, gate_rate=2e-2,
        fit=FitSettings(updates=updates, seed=seed),
    )  # fmt: skip
    renamed = [
        {name: same.get(value, value) if isinstance(value, str) else value for name, value in json.loads(told).items()}
        for told in items.frame["attributes"]
    ]
    frame = items.frame.with_columns(pl.Series("attributes", [json.dumps(told) for told in renamed]))
    products = catalog_products(Catalog(frame, plain=True), pictures, VISUAL_ATTRIBUTES, VISUAL_ATTRIBUTES)
    setup = set_up(settings, products, folder, quiet)
    learn(settings, setup, folder, quiet)
    _, temperature = measure(setup)
    with new_folder(folder / "model") as beside:
        save_trained(settings, setup, beside, temperature)
    return folder / "model"


def filled_by_sight(items: Catalog, pictures: Sequence[np.ndarray], model: Path) -> Any:
    """What the trained model fills in (api.describing.Described)."""
    return describe(items, open_describer(model), pictures)


def seeing_probabilities(
    model: Path, pictures: PictureOf, train: Sequence[JudgedPair], test: Sequence[JudgedPair], scale: RelevanceScale,
    form: JudgeFormat, fit: FitSettings, rate: float, batch: int, folder: Path,
) -> np.ndarray:  # fmt: skip
    """(n, L) of a judge that goes on from the model. pictures: of an item; None for all makes it blind."""
    settings = judge_seeing.Settings(
        start=str(model), images=folder, format=form, learning_rate=rate, batch_size=batch, epochs=1000, fit=fit
    )
    judge, _ = judge_seeing.start_judge(settings, scale, pictures)
    judge_seeing.train(settings, judge, train, folder, quiet)
    return judge.assess(test).probabilities


def no_picture(item: Item) -> None:
    """Of a judge that is blind."""
