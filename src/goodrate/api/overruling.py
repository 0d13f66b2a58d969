"""Overrule an entity judge's verdicts: what a file of overrides changes on judged pairs, and saving it."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.relevance.override_effect import Effect as Effect
from goodrate.relevance.override_effect import effect as effect

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.entity_judge import EntityJudge
    from goodrate.relevance.judge_card import JudgeCard
    from goodrate.relevance.pairs import JudgedPair
    from goodrate.scale import RelevanceScale


def overrule(
    judge: str | Path, overrides: str | Path, judgements: Judgements | None = None, items: Catalog | None = None,
    preview: bool = True, by: str | None = None,
) -> Effect | None:  # fmt: skip
    """What a TOML file of overrides changes on judged pairs; without `preview` it then holds for the judge.

    judge: a folder of kind "entity". The file replaces the overrides that the judge has. What is saved is logged in its
    overrides.jsonl, by: whose change it is, the name of who is logged in unless said. None where no judgements are
    given. Raises FileNotFoundError and ValueError naming what is wrong.
    """
    from goodrate.relevance.override_file import OverrideFile
    from goodrate.relevance.overrides import read_overrides
    from goodrate.text_file import read_text

    rules = read_overrides(overrides)
    opened = _entity_judge(judge)
    if judgements is not None and judgements.scale.labels != opened.scale.labels:
        raise ValueError(f"the judge {judge} has scale {opened.scale.name}, the judgements {judgements.scale.name}")
    pairs = _judged_pairs(judgements, items) if judgements is not None and items is not None else []
    told = effect(opened, opened.overruled(rules), pairs) if pairs else None
    if not preview:
        OverrideFile(judge).replace(read_text(overrides), by or _user(), told)
    return told


def preview_labels(file: Path | None, judge: str | None, workbench: Path | None = None) -> Judgements | None:
    """The labels of a file, on which a server previews overrides of its judge of entities; None for no file.

    Raises ValueError without such a judge or a workbench, for labels that are not on its scale, and as read_judgements.
    """
    from goodrate.api.reading import read_judgements

    if file is None:
        return None
    if judge is None or workbench is None:
        raise ValueError(f"--judgements {file} is for overrides: --model JUDGE of kind entity, and --workbench DIR")
    _entity_card(judge)
    return read_judgements(file, scale=scale_of(judge))


def scale_of(judge: str | Path) -> RelevanceScale:
    """The scale of a judge's labels, from its judge.json alone. Raises as read_judge_card."""
    from goodrate.relevance.judge_card import read_judge_card

    return read_judge_card(judge).relevance_scale


def _entity_judge(folder: str | Path) -> EntityJudge:
    """The judge of a folder. Raises ValueError for one of another kind."""
    from goodrate.relevance.entity_judge import open_kind

    return open_kind(Path(folder), _entity_card(folder))


def _entity_card(folder: str | Path) -> JudgeCard:
    """The card of a judge of entities. Raises ValueError for one of another kind."""
    from goodrate.relevance.entity_judge import Card
    from goodrate.relevance.judge_card import read_judge_card

    card = read_judge_card(folder)
    if not isinstance(card, Card):
        raise ValueError(f"{folder} is a judge of kind {card.kind!r}; only one of kind 'entity' can be overruled")
    return card


def _judged_pairs(judgements: Judgements, items: Catalog) -> list[JudgedPair]:
    from goodrate.relevance.pairs import JudgedPair

    joined = judgements.join(items)
    rows: Mapping[str, Any] = {row["id"]: row for row in items.to_rows()}
    each = zip(joined.frame.select("query", "item_id").iter_rows(), joined.label_indices().tolist(), strict=True)
    return [JudgedPair(query, rows[item], label=label) for (query, item), label in each]


def _user() -> str:
    """Who is logged in; "unknown" in a container that has no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
