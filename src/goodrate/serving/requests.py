"""The bodies that the HTTP API accepts. A field that it does not know is refused, except where other clients decide."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from goodrate.retrieval.filters import MAX_CHARACTERS
from goodrate.serving.candidates import WINDOWS
from goodrate.serving.records import SearchRequest

MAX_QUERY_CHARACTERS = 500
MAX_RESULTS = 200
MAX_IGNORED = 50
MAX_FACETS = 50
MAX_NAME = 200
MAX_SUGGESTIONS = 50
MAX_DEPTH = 500
MAX_JUDGE_MS = 600_000
MAX_TEXTS = 1000
MAX_TEXT_CHARACTERS = 20_000
RowId = Annotated[int, Field(ge=0, le=2**63 - 1)]  # what a file of SQLite can hold


class StrictBody(BaseModel):
    """Our own bodies: a misspelt field is an error, not a default."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """false would else be read as 0, and 0 as false."""
        for name, value in values.items() if isinstance(values, dict) else ():
            kinds = _kinds(cls.model_fields.get(name))
            if type(value) is bool and kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{name}: expected a number, found {str(value).lower()}")
            if type(value) in (int, float) and bool in kinds and not kinds & {int, float}:
                raise ValueError(f"{name}: expected true or false, found {value}")
        return values


def _kinds(field: FieldInfo | None) -> set[Any]:
    """The types that a field may have."""
    return {field.annotation, *get_args(field.annotation)} if field else set()


class SearchBody(StrictBody):
    """POST /search."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)
    k: int = Field(20, ge=1, le=MAX_RESULTS)
    where: str | None = Field(None, max_length=MAX_CHARACTERS)
    mode: str | None = None
    depth: int = Field(50, ge=0, le=MAX_DEPTH)
    ignore: list[str] = Field(default_factory=list, max_length=MAX_IGNORED, description="ids of spans of an answer")
    offset: int = Field(0, ge=0, lt=WINDOWS[-1])
    sort: str = Field("relevance", max_length=MAX_NAME, description="price, -price, -attributes.watt, ...")
    group_by: str | None = Field(None, max_length=MAX_NAME, description="parent_id, title, none, ...")
    with_rules: bool = True
    judge_ms: float | None = Field(None, ge=0, le=MAX_JUDGE_MS, description="time for verdicts; null: the server's")
    facets: list[Annotated[str, Field(max_length=MAX_NAME)]] = Field(
        default_factory=list, max_length=MAX_FACETS, description='such as brand, attributes.color, or "auto"'
    )
    disjunctive: bool = Field(False, description="count each facet without the conditions of where on its own field")
    client_id: str | None = Field(None, min_length=1, max_length=MAX_NAME, description="who searches, for the log")
    session_id: str | None = Field(None, min_length=1, max_length=MAX_NAME, description="of that client, for the log")

    def request(self) -> SearchRequest:
        """The same search for the pipeline; a blank filter is no filter."""
        where = self.where.strip() if self.where else ""
        return SearchRequest(
            self.query.strip(), self.k, where or None, self.mode, self.depth, tuple(self.ignore), offset=self.offset,
            sort=self.sort, group_by=self.group_by, with_rules=self.with_rules, facets=tuple(self.facets),
            judge_ms=self.judge_ms, disjunctive=self.disjunctive,
        )  # fmt: skip


class SuggestBody(StrictBody):
    """GET /suggest."""

    query: str = Field(max_length=MAX_QUERY_CHARACTERS)
    k: int = Field(8, ge=1, le=MAX_SUGGESTIONS)


class PairBody(StrictBody):
    """One query and one item: an id of the index, or any text."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)
    item_id: str | None = None
    item_text: str | None = Field(None, max_length=MAX_TEXT_CHARACTERS)

    @model_validator(mode="after")
    def _one_item(self) -> PairBody:
        if (self.item_id is None) == (self.item_text is None):
            raise ValueError("expected either item_id or item_text")
        return self


class JudgeBody(StrictBody):
    """POST /judge."""

    pairs: list[PairBody] = Field(min_length=1, max_length=MAX_TEXTS)
