"""Search systems by name: an index with a mode, a judge and ranker settings, as a TOML file or in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from goodrate.settings import check_keys, complete, load, parse_override

if TYPE_CHECKING:
    from goodrate.api.index import Index
    from goodrate.ranking.results import Result


class SystemSettings(BaseModel):
    """A search system. index: the folder. mode: None = the best that the index has. judge: its folder, None = none;
    depth, judge_ms: as Index.rerank. rules: a file of ranking rules in place of the index's own, "off" for none.
    as_typed, group_by: as Index.search. encoder: where the index's encoder lies, if it has moved. verdicts: the file
    that keeps the judge's verdicts. name: for reports.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    index: str
    name: str = ""
    mode: Literal["hybrid", "lexical", "dense"] | None = None
    judge: str | None = None
    depth: int = Field(50, ge=1, le=500)
    judge_ms: float | None = Field(None, ge=0)
    rules: str | None = None
    as_typed: bool = False
    group_by: str | None = None
    encoder: str | None = None
    verdicts: str | None = None


def read_system(text: str) -> SystemSettings:
    """The system of a TOML file, or of "INDEX,key=value,...", such as "shop-index,mode=lexical".

    Raises FileNotFoundError, or ValueError that names the file or the text, the key and what was expected.
    """
    if text.endswith(".toml") and "," not in text:
        settings = load(SystemSettings, Path(text))
        return settings.model_copy(update={"name": settings.name or Path(text).stem})
    index, *options = text.split(",")
    values: dict[str, object] = {"index": index}
    for option in options:
        change = parse_override(option.strip())
        check_keys(SystemSettings, change, text)
        values |= change
    settings = complete(SystemSettings, values, text)
    return settings.model_copy(update={"name": settings.name or text})


def open_systems(*systems: SystemSettings) -> list[Index]:
    """The index of each system with its judge, which reads and writes the verdicts of the index's searches.

    What several systems read is read once.
    """
    from goodrate.api.index import Index

    plain: dict[tuple[str, str | None, bool], Index] = {}
    for one in systems:
        place = (one.index, one.encoder, one.mode == "lexical")
        if place not in plain:
            plain[place] = Index.open(one.index, one.encoder, words_only=one.mode == "lexical")
    return [_with_settings(plain[one.index, one.encoder, one.mode == "lexical"], one) for one in systems]


def _with_settings(plain: Index, one: SystemSettings) -> Index:
    from goodrate.api.serving import with_judge

    opened = plain.in_mode(one.mode) if one.mode else plain
    opened = opened.but(rules=None if one.rules in (None, "off") else one.rules, as_typed=one.as_typed)
    if one.judge is None:
        return opened
    return with_judge(opened, one.judge, Path(one.verdicts) if one.verdicts else None, one.depth, one.judge_ms)


def system_results(index: Index, one: SystemSettings, query: str, k: int) -> list[Result]:
    """The first k results of a system for a query."""
    return index.search(query, k, group_by=one.group_by, with_rules=one.rules != "off").results
