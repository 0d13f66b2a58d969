"""Which data to train on, as settings: own files or an embedded shop, and which part of the pairs."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goodrate.scale import LabelsBy, Merge, get_scale, scale_entry
from goodrate.shop.shop import ShopSettings

WITHOUT_CONTEXT = 0.3
OF_FILES = (
    "catalog_format", "catalog_map", "decimal", "currency", "judgements_format", "judgements_map",
    "judgements_queries", "judgements_raters", "judgements_merge", "labels_by", "behaviour", "behaviour_map", "facts",
    "scale", "dev_share", "test_share",
)  # fmt: skip


class PairChoice(BaseModel):
    """Which of the training pairs are used, and how."""

    model_config = ConfigDict(extra="forbid")
    split_seed: int = 0
    without_context: float | None = Field(
        default=None, ge=0, lt=1, description="share of a text-reading judge's SFT prompts that show no text, as "
        "judge_context does to half of its samples; null = 0.3",
    )  # fmt: skip
    skip: int = Field(default=0, ge=0, description="training pairs to leave out, in an order drawn with split_seed")
    take: int | None = Field(default=None, gt=0, description="training pairs to use after those; null = all")


class FrameData(PairChoice):
    """Data that were given in memory, known again by their content."""

    catalog: str = Field(description="hash of the items")
    judgements: str = Field(description="hash of the training and dev judgements")


class ItemSettings(Protocol):
    """Where items are: a file and how it is read, or an index."""

    catalog: str | None
    catalog_format: str | None
    catalog_map: dict[str, str]
    decimal: Literal["point", "comma"] | None
    currency: str | None
    index: str | None
    skip_bad: int


class DataSettings(PairChoice):
    """Either a catalogue or an index with judgements, or an embedded shop."""

    catalog: str | None = Field(None, description="file of items: csv, tsv, jsonl or parquet")
    catalog_format: str | None = Field(
        None, description="esci, wands, chorus, merchant, shopify, or null for our own columns"
    )
    catalog_map: dict[str, str] = Field({}, description="our column = the file's column")
    decimal: Literal["point", "comma"] | None = Field(None, description="of prices, where the column does not say")
    currency: str | None = Field(None, description="of prices, where none is written: EUR, GBP, USD, ...")
    index: str | None = Field(None, description="folder of `goodrate index` in place of data.catalog: its items")
    judgements: str | None = Field(
        None, description="file of labels: query, item_id, label, and query_id if there is one"
    )
    judgements_format: str | None = Field(None, description="trec, ltr, rre, ... (docs/data.md); null = told by itself")
    judgements_map: dict[str, str] = {}
    judgements_queries: str | None = Field(
        None, description='file of query texts, for judgements that have query ids alone; "ids": the ids are the texts'
    )
    judgements_raters: list[str] = Field([], description="columns with one rater's labels each, such as agent_*_rating")
    judgements_merge: Merge | None = Field(
        None, description="how several labels of a pair become one; null = median where the file names its raters"
    )
    labels_by: LabelsBy = Field(
        "people", description="where some raters are models: people's labels, the models', or any to train on both and "
        "measure on people's",
    )  # fmt: skip
    behaviour: str | None = Field(
        None, description="file of clicks or purchases: query, item_id, and weight if there is one (pairs = clicks)"
    )
    behaviour_map: dict[str, str] = {}
    facts: str | None = Field(
        None, description="facts.jsonl: what the shop knows of names in queries (relevance/facts)"
    )
    scale: str | dict[str, Any] | None = Field(
        None, description="the labels' scale: a name, or a TOML file of your own; null = told by the labels"
    )
    skip_bad: int = Field(0, ge=0, description="bad rows to tolerate in each file")
    dev_share: float = Field(0.1, gt=0, lt=0.5, description="of the query groups, for the table at the end")
    test_share: float = Field(0.1, ge=0, lt=0.5, description="of the query groups, touched by nothing here")
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
    context_encoder: str | None = Field(None, description="encoder for these texts; null = by words alone")
    baseline: str | None = Field(
        None,
        description="encoder whose calibrated cosine a trained judge is compared with; null = that of data.index",
    )
    shop: ShopSettings | None = Field(None, description="generate this shop")
    shop_folder: str | None = Field(None, description="generate the shop that `goodrate shop` wrote to this folder")

    @field_validator("scale")
    @classmethod
    def _whole_scale(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        """The content of a scale's file in place of its name, so that a run knows what it was trained on."""
        return None if value is None else scale_entry(get_scale(value))

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        items = [name for name in (self.catalog, self.index) if name is not None]
        sources = [items or self.judgements, self.shop, self.shop_folder]
        given = sum(bool(source) for source in sources)
        if given != 1 or len(items) > 1 or bool(items) != (self.judgements is not None):
            raise ValueError(
                "expected either data.catalog or data.index with data.judgements, or data.shop, or data.shop_folder"
            )
        if not items:
            self._refuse(OF_FILES, "own files; a shop has its own")
        if self.catalog is None:
            self._refuse(("catalog_format", "catalog_map", "decimal", "currency"), "data.catalog, which is not named")
        return self

    def _refuse(self, names: tuple[str, ...], what: str) -> None:
        """ValueError when one of these settings is not its default."""
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"data.{name} is about {what}")
