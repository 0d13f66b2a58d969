"""What `goodrate train` trains on: own catalogue and judgements, or an embedded shop, split by query group."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.cli.context_input import Contexts, file_worth, shop_worth
from goodrate.cli.labelled_pair import LabelledPair
from goodrate.cli.taught_reasons import SILVER_WEIGHT, Reasons, read_reasons
from goodrate.scale import RelevanceScale, get_scale
from goodrate.shop.shop import SPLITS, ShopSettings

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.rationale import Rationale


WITHOUT_CONTEXT = 0.3
OF_FILES = (
    "catalog_format", "catalog_map", "judgements_format", "judgements_map", "behaviour", "behaviour_map", "facts",
    "dev_share", "test_share",
)  # fmt: skip


class DataSettings(BaseModel):
    """Either a catalogue with judgements, or an embedded shop."""

    model_config = ConfigDict(extra="forbid")
    catalog: str | None = Field(None, description="file of items: csv, tsv, jsonl or parquet")
    catalog_format: str | None = Field(None, description="esci, wands, chorus, or null for our own columns")
    catalog_map: dict[str, str] = Field({}, description="our column = the file's column")
    judgements: str | None = Field(
        None, description="file of labels: query, item_id, label, and query_id if there is one"
    )
    judgements_format: str | None = None
    judgements_map: dict[str, str] = {}
    behaviour: str | None = Field(
        None, description="file of clicks or purchases: query, item_id, and weight if there is one (pairs = clicks)"
    )
    behaviour_map: dict[str, str] = {}
    facts: str | None = Field(
        None, description="facts.jsonl: what the shop knows of names in queries (relevance/facts)"
    )
    scale: str = Field("four_level", description="the labels' scale")
    skip_bad: int = Field(0, ge=0, description="bad rows to tolerate in each file")
    dev_share: float = Field(0.1, gt=0, lt=0.5, description="of the query groups, for the table at the end")
    test_share: float = Field(0.1, ge=0, lt=0.5, description="of the query groups, touched by nothing here")
    split_seed: int = 0
    rationales: str | None = Field(
        None, description="file of `goodrate teach`: reasons of training pairs, in place of a shop's own"
    )
    silver_weight: float | None = Field(
        None, gt=0, le=1, description="weight of examples whose reason is silver; null = 0.5"
    )
    contexts: str | None = Field(
        None,
        description='file of texts (id, text, perhaps kind) that judges with contexts read; "items": the catalogue',
    )
    context_encoder: str | None = Field(None, description="encoder for these texts; null = found by words alone")
    without_context: float | None = Field(
        None, ge=0, lt=1, description="share of such a judge's SFT prompts that show no text, as judge_context does to "
        "half of its samples; null = 0.3",
    )  # fmt: skip
    skip: int = Field(0, ge=0, description="training pairs to leave out, in an order drawn with split_seed")
    take: int | None = Field(None, gt=0, description="training pairs to use after those; null = all")
    shop: ShopSettings | None = Field(None, description="generate this shop")
    shop_folder: str | None = Field(None, description="generate the shop that `goodrate shop` wrote to this folder")

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        sources = [self.catalog or self.judgements, self.shop, self.shop_folder]
        if sum(source is not None for source in sources) != 1 or (self.catalog is None) != (self.judgements is None):
            raise ValueError("expected either data.catalog with data.judgements, or data.shop, or data.shop_folder")
        unread = [name for name in OF_FILES if getattr(self, name) != type(self).model_fields[name].default]
        if self.catalog is None and unread:
            raise ValueError(f"data.{unread[0]} is about own files; a shop has its own")
        return self


@dataclass(frozen=True)
class TrainingData:
    """Items, and judgements in parts "train", "dev" and perhaps "test" that share no query group.

    facts: by query id, what the shop knows of the names in a query. rationale: the true steps by query id and item id.
    taught: what a teacher wrote for training pairs, in place of those. notes: what reading the files lost. contexts:
    the texts that data.contexts names, or those of the shop. clicks: (query, item id, weight) of what shoppers chose,
    none of a dev or test query; None where nobody told.
    """

    catalog: Catalog
    scale: RelevanceScale
    parts: dict[str, Judgements]
    facts: dict[str, str] = field(default_factory=dict)
    rationale: Callable[[str, str], Rationale] | None = None
    taught: Reasons | None = None
    notes: tuple[str, ...] = ()
    contexts: Contexts | None = None
    clicks: list[tuple[str, str, float]] | None = None

    def training_pairs(self, settings: DataSettings, item_form: str) -> list[LabelledPair]:
        """The training pairs that data.skip and data.take leave, shuffled once: two stages can have parts of their own.

        Raises ValueError when none is left.
        """
        pairs = list(self.pairs("train", item_form))
        if not settings.skip and settings.take is None:
            return pairs
        end = None if settings.take is None else settings.skip + settings.take
        order = random.Random(settings.split_seed).sample(range(len(pairs)), len(pairs))
        chosen = order[settings.skip : end]
        if not chosen:
            raise ValueError(f"data.skip = {settings.skip}: there are {len(pairs)} training pairs")
        return [pairs[row] for row in sorted(chosen)]

    def pairs(self, part: str, item_form: str = "listing") -> Iterator[LabelledPair]:
        """The judged pairs of a part, in file order. item_form: how a row becomes text, "listing" or "text"."""
        from goodrate.relevance.pair_file import item_texts

        judgements = self.parts[part]
        texts = dict(zip(self.catalog.ids, item_texts(self.catalog.frame, item_form), strict=True))
        rows = judgements.frame.select("query_id", "query", "item_id").iter_rows()
        for (query_id, query, item), label in zip(rows, judgements.label_indices().tolist(), strict=True):
            rationale, weight = self._reason(query_id, query, item)
            yield LabelledPair(query, item, texts[item], label, self.facts.get(query_id, ""), rationale, weight)

    def _reason(self, query_id: str, query: str, item: str) -> tuple[Rationale | None, float]:
        """The steps of a pair, None where nobody knows them, and the weight of its example."""
        if self.taught is not None:
            return self.taught.by_pair.get((query, item), (None, 1.0))
        return (self.rationale(query_id, item) if self.rationale else None), 1.0


def load_data(settings: DataSettings) -> TrainingData:
    """The data of the settings. Raises FileNotFoundError and ValueError naming file, row and column."""
    shop = _written_shop(Path(settings.shop_folder)) if settings.shop_folder else settings.shop
    data = _from_shop(shop, settings.context_encoder) if shop else _from_files(settings)
    for part in ("train", "dev"):
        if not len(data.parts[part]):
            raise ValueError(f"no judgements are left for {part}; give more queries or another data.{part}_share")
    if settings.contexts is not None:
        data = replace(data, contexts=_named_contexts(settings.contexts, settings, data.catalog))
    if settings.rationales is None:
        return data
    taught = read_reasons(
        settings.rationales, data.parts["train"], settings.silver_weight or SILVER_WEIGHT, settings.skip_bad
    )
    return replace(data, rationale=None, taught=taught, notes=(*data.notes, *taught.notes))


def _named_contexts(named: str, settings: DataSettings, catalog: Catalog) -> Contexts:
    """The texts of a file, read at once so that what is wrong in it is said at once, or of the catalogue."""
    from goodrate.relevance.context import context_texts

    texts = context_texts(named, lambda: catalog, settings.skip_bad)
    return Contexts(lambda: texts, file_worth, settings.context_encoder, graded=any(text.kind for text in texts))


def _from_files(settings: DataSettings) -> TrainingData:
    from goodrate.catalog.judgements import read_judgements
    from goodrate.catalog.readers import read_catalog
    from goodrate.catalog.splits import split_by_group

    assert settings.catalog is not None and settings.judgements is not None
    scale = get_scale(settings.scale)
    skip = settings.skip_bad
    catalog = read_catalog(settings.catalog, settings.catalog_format, settings.catalog_map or None, skip_bad=skip)
    read = read_judgements(
        settings.judgements, scale, settings.judgements_format, settings.judgements_map or None, skip_bad=skip
    )
    judgements, report = read.join(catalog)
    shares = {"dev": settings.dev_share, "test": settings.test_share}
    shares = {"train": 1 - sum(shares.values())} | {part: share for part, share in shares.items() if share}
    queries = judgements.queries()
    split = split_by_group(list(queries.values()), shares, settings.split_seed)
    parts = {
        part: judgements.select({query_id for query_id, text in queries.items() if text in texts})
        for part, texts in split.items()
    }
    skipped = len(catalog.skipped) + len(read.skipped)
    notes = [str(report), *([f"{skipped} bad rows skipped"] if skipped else [])]
    clicks = None
    if settings.behaviour is not None:
        held_out = {text for part in ("dev", "test") if part in split for text in split[part]}
        clicks, told = _clicks(settings, set(catalog.ids), held_out)
        notes += told
    return TrainingData(catalog, scale, parts, _facts(settings.facts, queries), notes=tuple(notes), clicks=clicks)


def _clicks(
    settings: DataSettings, items: set[str], held_out: set[str]
) -> tuple[list[tuple[str, str, float]], list[str]]:
    """Clicks on items of the catalogue for queries that are like none held out, and what was left out."""
    from goodrate.catalog.behaviour import read_clicks
    from goodrate.catalog.splits import query_groups

    assert settings.behaviour is not None
    read = read_clicks(settings.behaviour, settings.behaviour_map or None, settings.skip_bad)
    rows = list(read.frame.iter_rows())
    queries = list(dict.fromkeys([*held_out, *(query for query, _, _ in rows)]))
    group = dict(zip(queries, query_groups(queries), strict=True))
    closed = {group[query] for query in held_out}
    kept = [(query, item, weight) for query, item, weight in rows if item in items and group[query] not in closed]
    if not kept:
        raise ValueError(f"{settings.behaviour}: no click is on an item of the catalogue and for a training query")
    bad = f"; {len(read.skipped)} bad rows skipped" if read.skipped else ""
    return kept, [f"{len(kept):,} of {len(rows):,} clicked pairs are used{bad}"]


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
        return ShopSettings.model_validate(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what goodrate shop writes: {error!r}") from error


def _from_shop(settings: ShopSettings, context_encoder: str | None = None) -> TrainingData:
    """A generated shop: its own splits, its facts, its texts, and the true steps of every pair."""
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.context import ContextText
    from goodrate.shop.shop import generate

    shop = generate(settings)
    judgements = Judgements(shop.judgement_frame(), shop.book.scale)
    query_at = {shop.query_id(q): q for q in range(len(shop.queries))}
    item_at = {record["id"]: i for i, record in enumerate(shop.records)}
    parts = {part: judgements.select({shop.query_id(int(q)) for q in shop.queries_of(part)}) for part in SPLITS}
    facts = dict(shop.query_frame().select("query_id", "facts").iter_rows())

    def rationale(query_id: str, item_id: str) -> Rationale:
        return shop.rationale(query_at[query_id], item_at[item_id])

    worth = shop_worth({query.text: query for query in shop.queries}, {text.id: text for text in shop.corpus})
    contexts = Contexts(lambda: [ContextText(t.id, t.text) for t in shop.corpus], worth, context_encoder)
    return TrainingData(shop.catalog, shop.book.scale, parts, facts, rationale, contexts=contexts, clicks=shop.clicks())
