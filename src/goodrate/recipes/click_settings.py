"""The settings of the recipe click_ranker."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goodrate.learning.click_terms import Correction
from goodrate.learning.fit import FitSettings
from goodrate.ranking.propensities import check_propensities
from goodrate.ranking.ranker_features import CHANNELS, OF_ITEMS, SPARSE


class Settings(BaseModel):
    """What to learn from and how."""

    model_config = ConfigDict(extra="forbid")
    events: str = Field(description="impressions: a file or a folder of files with query, item_id, position, clicked")
    events_map: dict[str, str] = Field(default={}, description="our column = the file's column")
    skip_bad: int = Field(default=0, ge=0, description="bad rows to tolerate in each file")
    index: str = Field(description="folder of `goodrate index`: the items, and the search whose scores are read")
    judge: str | None = Field(default=None, description="folder of the judge whose probabilities are read; null = none")
    facts: str | None = Field(default=None, description="facts.jsonl for the judge; null = that of the index, if any")
    correction: Correction = Field(
        default="examination", description="of position bias: examination (the position-based click model), "
        "position_tower (a logit of the place, dropped when serving), ipw (inverse propensity weights), naive (none)",
    )  # fmt: skip
    propensities: list[float] | None = Field(
        default=None, description="chance that the places 1, 2, ... are looked at; null = estimated from the clicks"
    )
    randomised: str | None = Field(
        default=None, description="impressions of pages in random order, to read propensities from"
    )
    clip: float = Field(default=10.0, ge=1, description="largest weight of a click, with ipw")
    sparse: list[str] = Field(default=list(SPARSE), min_length=1, description="ids that are features")
    channels: list[str] = Field(default=list(CHANNELS), description="of the search, whose scores are features")
    items: list[str] = Field(default=list(OF_ITEMS), description="numbers of the item that are features")
    rating_count: str | None = Field(default=None, description="number of ratings of an item: attributes.NAME")
    dim: int = Field(default=8, gt=0, description="floats of an embedding")
    hidden: list[int] = Field(default=[16], description="widths of the hidden layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the network's inputs and hidden layers")
    learning_rate: float = Field(default=3e-3, gt=0, description="of the dense weights")
    place_rate: float = Field(default=0.03, gt=0, description="of what is learned of the places of a page")
    table_optimizer: Literal["sgd", "row_wise_adagrad", "adam"] = Field(
        default="sgd", description="of the embeddings; with sgd an id moves as far as its clicks are surprising"
    )
    table_rate: float = Field(default=4.0, gt=0, description="of the embeddings")
    weight_decay: float = Field(default=0.01, ge=0, description="of the dense weights")
    batch_size: int = Field(default=512, gt=0)
    epochs: int | None = Field(
        default=None, gt=0, description="passes over the log, and over what it has grown by; null = 3, of a stream 1"
    )
    dev_share: float = Field(default=0.1, ge=0, lt=1, description="of the queries, for the table at the end")
    stream: bool = Field(
        default=False, description="read parquet, ORC or Arrow files piece by piece, once and in their order: a log "
        "larger than memory, or one without end",
    )  # fmt: skip
    lanes: int = Field(default=1, gt=0, description="of a stream, side by side: an update has a batch of each")
    write_seconds: float = Field(default=300.0, gt=0, description="of a stream: a new ranker at least this often")
    follow: bool = Field(default=False, description="wait for more impressions and write a new ranker for them")
    follow_seconds: float | None = Field(default=None, gt=0, description="how long to wait in all; null = until Ctrl-C")
    poll_seconds: float = Field(default=5.0, gt=0, description="between two looks at the log")
    fit: FitSettings = Field(default_factory=lambda: FitSettings(schedule="constant", warmup=0.0, precision="fp32"))

    @field_validator("propensities")
    @classmethod
    def _above_zero(cls, value: list[float] | None) -> list[float] | None:
        return None if value is None else check_propensities(value).tolist()

    @field_validator("sparse", "channels", "items")
    @classmethod
    def _known(cls, value: list[str], info: Any) -> list[str]:
        known = {"sparse": SPARSE, "channels": CHANNELS, "items": OF_ITEMS}[info.field_name]
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _stream_once(self) -> Settings:
        if self.stream and (self.epochs or 1) != 1:
            raise ValueError(f"epochs = {self.epochs}: a stream is read once; leave epochs out")
        if self.stream and self.skip_bad:
            raise ValueError("skip_bad is of logs that are read whole; goodrate events leaves bad rows out")
        if self.lanes > 1 and not self.stream:
            raise ValueError(f"lanes = {self.lanes}: of a stream alone; set stream=true or leave lanes out")
        return self

    @property
    def passes(self) -> int:
        """Over what is learned from."""
        return self.epochs or (1 if self.stream else 3)
