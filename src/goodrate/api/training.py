"""Train a judge, a retriever or a base model by its recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.examples.data import TrainingData
    from goodrate.recipes.registry import TrainingResult
    from goodrate.recipes.text_sft import TrainingPlan  # noqa: F401

Progress = Callable[[dict[str, Any]], None]
DEV_SHARE = 0.1  # of the queries, where no dev judgements are given


def train(
    recipe: str,
    judgements: Judgements | None = None,
    items: Catalog | Any = None,
    *,
    out: str | Path,
    dev: Judgements | None = None,
    facts: str | None = None,
    data: TrainingData | None = None,
    baseline: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Any:
    """Train by a recipe and return what came out: a CalibratedJudge, an Encoder, or the folder of another model.

    recipe: judge_sft, judge_grpo, retriever_contrastive, ... (`goodrate train --help` lists them). judgements: those to
    learn from; items: their catalogue. dev: those to set temperature and tiers on and to measure; None = a tenth of the
    queries of `judgements`, which are then not learned from. data: in place of all these, TrainingData such as
    goodrate.examples.sources makes. baseline: folder or hub id of the encoder whose calibrated cosine a trained judge
    is compared with. out: the run folder; the same call goes on where it was stopped, and returns at once when it is
    done. settings: those of the recipe, sections as mappings: fit={"updates": 50}; `judge` and `model` take what train
    and open_judge return. A judge's scale is that of the judgements unless `format` names another.

    A judge that is not better than a constant or the baseline has `warnings`, and each is warned of (UserWarning).
    Raises ValueError for an unknown recipe or setting, and when `out` holds a run with others; FolderBusy when one
    is being written there.
    """
    from goodrate.scale import scale_entry
    from goodrate.settings import check_keys, complete

    chosen = _recipe(recipe)
    if data is None and chosen.needs_data:
        data = _data(judgements, items, dev, facts, str(baseline) if baseline else None)
    values = {name: _plain(value) for name, value in settings.items()}
    if "format" in chosen.settings.model_fields and data is not None:
        values["format"] = {"scale": scale_entry(data.scale), **values.get("format", {})}
    check_keys(chosen.settings, values, source=f"train({recipe!r})")
    result = run(recipe, complete(chosen.settings, values), data, Path(out), progress)
    for warning in result.warnings:
        warnings.warn(f"{result.folder}: {warning}", stacklevel=2)
    return opened(result)


def run(
    recipe: str, settings: BaseModel, data: TrainingData | None, out: Path, progress: Progress | None = None
) -> TrainingResult:
    """Run a recipe with its settings (without data). Returns the folder, the dev table and what is to be said.

    progress: gets the record of every update. Where it has a method `plan`, SFT tells that one first, as a
    TrainingPlan, how long it will take. Raises FolderBusy where another run writes to `out`.
    """
    from goodrate.run_folder import run_lock

    chosen = _recipe(recipe)
    with run_lock(out):
        return chosen.run(settings, data, out, progress or (lambda record: None))


def run_from_settings(recipe: str, settings: Any, out: Path, progress: Progress | None = None) -> TrainingResult:
    """Run a recipe with settings of settings_with_data: the data are read as they say.

    Raises FolderBusy where another run writes to `out`.
    """
    from goodrate.examples.sources import load_data
    from goodrate.run_folder import run_lock

    chosen = _recipe(recipe)
    if not chosen.needs_data:
        return run(recipe, settings, None, out, progress)
    own = chosen.settings.model_validate(settings.model_dump(exclude={"data"}, exclude_unset=True))
    # Asked before the data are read, which may take minutes; data that cannot be read leave no folder behind.
    with run_lock(out) if out.is_dir() else nullcontext():
        return run(recipe, own, load_data(settings.data), out, progress)


def settings_with_data(recipe: str) -> type[BaseModel]:
    """The settings of a recipe with a section `data`, as one model for files and --set."""
    from pydantic import create_model

    from goodrate.examples.settings import DataSettings

    chosen = _recipe(recipe)
    if not chosen.needs_data:
        return chosen.settings
    return create_model(chosen.settings.__name__, __base__=chosen.settings, data=(DataSettings, ...))


def fit_settings(
    data: dict[str, Any], encoders: list[str], language_model: str | None, layers: list[int] | None = None,
    characters: int = 160, folds: int = 5, features: str | None = None, language: str | None = None,
    neighbours: bool = False,
) -> BaseModel:  # fmt: skip
    """Settings of judge_ensemble from what its verb is told. data: of DataSettings. No encoders: that of data["index"].

    features: run folder before this one. language: of queries; None = that of the index, or English. neighbours:
    whether what a query finds is a member. Raises ValueError when there is no encoder, or a value that is no setting's.
    """
    from goodrate.settings import complete

    own = {"encoders": named_encoders(data, encoders), "language_model": language_model, "layers": layers}
    own["language"] = language or _index_language(data)
    more = {"characters": characters, "folds": folds, "features": features, "neighbours": neighbours, "data": data}
    return complete(settings_with_data("judge_ensemble"), {**own, **more})


def unlabelled_settings(
    data: dict[str, Any], encoders: list[str], language_model: str | None, characters: int = 160,
    language: str | None = None,
) -> BaseModel:  # fmt: skip
    """Settings of judge_unlabelled from what its verb is told; see fit_settings.

    Raises ValueError for several encoders.
    """
    from goodrate.settings import complete

    named = named_encoders(data, encoders)
    if len(named) > 1:
        raise ValueError(f"without labels one encoder is learned from; got {len(named)}")
    kept = ("catalog", "catalog_format", "catalog_map", "decimal", "currency", "index", "skip_bad", "scale")
    own = {name: data[name] for name in kept if data.get(name) is not None} | {"seed": data.get("split_seed", 0)}
    own |= {"encoder": named[0], "language_model": language_model, "characters": characters}
    own["language"] = language or _index_language(data)
    return complete(settings_with_data("judge_unlabelled"), own)


def _index_language(data: dict[str, Any]) -> str:
    """The language of data["index"], English without one."""
    from goodrate.retrieval.manifest import read_manifest

    return read_manifest(Path(data["index"])).language if data.get("index") else "en"


def named_encoders(data: dict[str, Any], encoders: list[str]) -> list[str]:
    """The encoders, or that of data["index"]. Raises ValueError when there is none."""
    from goodrate.examples.sources import index_encoder

    named = encoders or [one for one in [index_encoder(data.get("index"))] if one]
    if not named:
        raise ValueError("no text encoder: name one with --encoder FOLDER, or give an index that was made with one")
    return named


def planned_updates(settings: BaseModel) -> int | None:
    """How many updates the settings ask for, None when time or the data decides."""
    return getattr(getattr(settings, "fit", None), "updates", None)


def opened(result: TrainingResult) -> Any:
    """What lies in the folder of a result: a judge, an encoder, or the folder itself."""
    from goodrate.models.encoder import Encoder
    from goodrate.relevance.judge import open_judge
    from goodrate.relevance.judge_card import CARD_FILE

    if (result.folder / CARD_FILE).is_file():
        return open_judge(result.folder)
    return Encoder.load(result.folder) if (result.folder / "modules.json").is_file() else result.folder


def _recipe(name: str) -> Any:
    from goodrate.recipes.registry import get_recipe

    return get_recipe(name)


def _data(
    judgements: Judgements | None, items: Any, dev: Judgements | None, facts: str | None, baseline: str | None
) -> TrainingData:
    from goodrate.api.reading import read_catalog
    from goodrate.catalog.items import Catalog
    from goodrate.examples.sources import frame_data

    if judgements is None or items is None:
        raise ValueError("train needs judgements and items, or data")
    catalog = items if isinstance(items, Catalog) else read_catalog(items)
    if dev is None:
        judgements, dev = judgements.split(1 - DEV_SHARE, DEV_SHARE)
    return frame_data(judgements, dev, catalog, facts, baseline)


def _plain(value: Any) -> Any:
    """A setting as settings hold it: judges and encoders by their folder."""
    folder = getattr(value, "folder", None)
    return str(folder) if folder is not None else str(value) if isinstance(value, Path) else value
