"""Training data from where they lie: own files, frames in memory, or an embedded shop."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.examples.contexts import ContextTexts, file_worth, shop_worth
from goodrate.examples.data import TrainingData
from goodrate.examples.settings import DataSettings, FrameData, ItemSettings, PairChoice
from goodrate.examples.taught_reasons import SILVER_WEIGHT, read_reasons
from goodrate.scale import get_scale
from goodrate.shop.shop import SPLITS, ShopSettings
from goodrate.strict_json import read_object

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.rationale import Rationale
    from goodrate.shop.shop import Shop


def load_data(settings: DataSettings) -> TrainingData:
    """The data of the settings. Raises FileNotFoundError and ValueError naming file, row and column."""
    shop = _written_shop(Path(settings.shop_folder)) if settings.shop_folder else settings.shop
    data = _generated(shop, settings) if shop else _from_files(settings)
    data = replace(data, baseline=settings.baseline or index_encoder(settings.index))
    if settings.contexts is not None:
        data = replace(data, contexts=_named_contexts(settings.contexts, settings, data.catalog))
    if settings.rationales is None:
        return data
    weight = settings.silver_weight or SILVER_WEIGHT
    taught = read_reasons(settings.rationales, data.parts["train"], weight, settings.skip_bad)
    return replace(data, truth=None, taught=taught, notes=(*data.notes, *taught.notes))


def frame_data(
    train: Judgements, dev: Judgements, catalog: Catalog, facts: str | None = None, baseline: str | None = None,
    **choice: Any,
) -> TrainingData:  # fmt: skip
    """Data of judgements and items in memory. facts: a facts.jsonl. baseline: see TrainingData. choice: see PairChoice.

    Raises ValueError when train and dev share queries or have different scales.
    """
    if train.scale != dev.scale:
        raise ValueError(f"train is on scale {train.scale.name!r}, dev on {dev.scale.name!r}; make them equal")
    shared = sorted(set(train.queries().values()) & set(dev.queries().values()))
    if shared:
        raise ValueError(f"{len(shared)} queries are in train and in dev, such as {shared[0]!r}; split by query")
    parts = {"train": train.join(catalog), "dev": _measured(dev.join(catalog), dev)}
    digest = hashlib.sha256()
    for part in parts.values():
        digest.update(part.frame.write_ndjson().encode())
    chosen = FrameData(catalog=catalog.content_hash, judgements=digest.hexdigest()[:12], **choice)
    queries = {**train.queries(), **dev.queries()}
    notes, known = _join_notes(parts), _facts(facts, queries)
    return TrainingData(catalog, train.scale, parts, chosen, known, notes=notes, baseline=baseline)


def shop_data(shop: Shop, choice: PairChoice, context_encoder: str | None = None) -> TrainingData:
    """A generated shop: its own splits, its facts, its texts, and the true steps of every pair."""
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.context import ContextText

    judgements = Judgements(shop.judgement_frame(), shop.book.scale)
    query_at = {shop.query_id(q): q for q in range(len(shop.queries))}
    item_at = {record["id"]: i for i, record in enumerate(shop.records)}
    parts = {part: judgements.select({shop.query_id(int(q)) for q in shop.queries_of(part)}) for part in SPLITS}
    facts = dict(shop.query_frame().select("query_id", "facts").iter_rows())

    def truth(query_id: str, item_id: str) -> Rationale:
        return shop.rationale(query_at[query_id], item_at[item_id])

    worth = shop_worth({query.text: query for query in shop.queries}, {text.id: text for text in shop.corpus})
    contexts = ContextTexts(lambda: [ContextText(t.id, t.text) for t in shop.corpus], worth, context_encoder)
    return TrainingData(
        shop.catalog, shop.book.scale, parts, choice, facts, truth, contexts=contexts, clicks=shop.clicks()
    )


def _generated(settings: ShopSettings, data: DataSettings) -> TrainingData:
    from goodrate.shop.shop import generate

    return shop_data(generate(settings), data, data.context_encoder)


def _from_files(settings: DataSettings) -> TrainingData:
    from goodrate.catalog.judgements import read_judgements

    assert settings.judgements is not None
    catalog = read_items(settings)
    read = read_judgements(
        settings.judgements, None if settings.scale is None else get_scale(settings.scale), settings.judgements_format,
        settings.judgements_map or None, settings.skip_bad, settings.judgements_queries, settings.judgements_raters,
        settings.judgements_merge, settings.labels_by,
    )  # fmt: skip
    judgements = read.join(catalog)
    shares = {"dev": settings.dev_share, "test": settings.test_share}
    shares = {"train": 1 - sum(shares.values())} | {part: share for part, share in shares.items() if share}
    parts = judgements.split_by_name(shares, settings.split_seed)
    parts = {name: part if name == "train" else _measured(part, judgements) for name, part in parts.items()}
    skipped = len(catalog.skipped) + len(read.skipped)
    bad = [f"{skipped} bad rows skipped"] if skipped else []
    notes = [str(judgements.join_report), *catalog.notes, *read.notes, *bad]
    clicks = None
    if settings.behaviour is not None:
        held_out = {text for part in ("dev", "test") if part in parts for text in parts[part].queries().values()}
        clicks, counts = _clicks(settings, catalog.ids, held_out)
        notes += counts
    facts = _facts(settings.facts, judgements.queries())
    return TrainingData(catalog, read.scale, parts, settings, facts, notes=tuple(notes), clicks=clicks)


def _measured(part: Judgements, all_labels: Judgements) -> Judgements:
    """What is measured on: people's labels, where there are any."""
    return part.of_people() if len(all_labels.of_people()) else part


def index_encoder(index: str | None) -> str | None:
    """Where the encoder of an index lies; None without one."""
    from goodrate.retrieval.manifest import encoder_place, read_manifest

    remembered = None if index is None else read_manifest(Path(index)).encoder
    return None if index is None or remembered is None else encoder_place(Path(index), remembered)


def read_items(settings: ItemSettings) -> Catalog:
    """The catalogue of the file, or of the index. Raises FileNotFoundError, ValueError naming file, row and column."""
    if settings.index is not None:
        from goodrate.retrieval.store import Store

        return Store.open(settings.index).all_items()
    from goodrate.catalog.prices import PriceOptions
    from goodrate.catalog.readers import read_catalog

    assert settings.catalog is not None
    columns, prices = settings.catalog_map or None, PriceOptions(settings.decimal, settings.currency)
    return read_catalog(settings.catalog, settings.catalog_format, columns, settings.skip_bad, prices)


def _join_notes(parts: dict[str, Judgements]) -> tuple[str, ...]:
    """What joining with the catalogue lost or changed, of the parts where it did."""
    reports = {name: part.join_report for name, part in parts.items()}
    changed = {name: told for name, told in reports.items() if told and (told.joined < told.pairs or told.renamed)}
    return tuple(f"{name}: {told}" for name, told in changed.items())


def _named_contexts(named: str, settings: DataSettings, catalog: Catalog) -> ContextTexts:
    """The texts of a file, read at once so that what is wrong in it is said at once, or of the catalogue."""
    from goodrate.relevance.context import context_texts

    texts = context_texts(named, lambda: catalog, settings.skip_bad)
    return ContextTexts(lambda: texts, file_worth, settings.context_encoder, graded=any(text.kind for text in texts))


def _clicks(
    settings: DataSettings, ids: list[str], held_out: set[str]
) -> tuple[list[tuple[str, str, float]], list[str]]:
    """Clicks on items of the catalogue for queries that are like none held out, and what was left out."""
    from goodrate.catalog.behaviour import read_clicks
    from goodrate.catalog.item_ids import match_ids
    from goodrate.catalog.splits import query_groups

    assert settings.behaviour is not None
    read = read_clicks(settings.behaviour, settings.behaviour_map or None, settings.skip_bad)
    match, items = match_ids(read.frame["item_id"], ids), set(ids)
    rows = list(read.frame.with_columns(match.apply(read.frame["item_id"])).iter_rows())
    queries = list(dict.fromkeys([*held_out, *(query for query, _, _ in rows)]))
    group = dict(zip(queries, query_groups(queries), strict=True))
    closed = {group[query] for query in held_out}
    usable = [(query, item, weight) for query, item, weight in rows if item in items and group[query] not in closed]
    if not usable:
        raise ValueError(f"{settings.behaviour}: no click is on an item of the catalogue and for a training query")
    bad = f"; {len(read.skipped)} bad rows skipped" if read.skipped else ""
    renamed = f"; {match}" if str(match) else ""
    return usable, [f"{len(usable):,} of {len(rows):,} clicked pairs are used{bad}{renamed}"]


def _facts(path: str | None, queries: dict[str, str]) -> dict[str, str]:
    """Facts by query id. FileNotFoundError when a file was named that is not there."""
    from goodrate.relevance.facts import FactBook

    if path is None:
        return {}
    if not Path(path).is_file():
        raise FileNotFoundError(f"data.facts: no file {path}")
    book = FactBook.load(Path(path))
    return {query_id: book.of(text) for query_id, text in queries.items()}


def _written_shop(folder: Path) -> ShopSettings:
    """The settings that make the shop of a folder again. Raises FileNotFoundError, ValueError naming the file."""
    path = folder / "shop.json"
    if not path.is_file():
        raise FileNotFoundError(f"data.shop_folder: no file {path}; write a shop with: goodrate shop --out {folder}")
    try:
        return ShopSettings.model_validate(read_object(path)["settings"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what goodrate shop writes: {error!r}") from error
