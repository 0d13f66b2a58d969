"""People as a judge: their stored labels, of known pairs only; what a search looks like when every verdict is right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.relevance.judge_card import JudgeCard, write_judge_card
from goodrate.relevance.pairs import TEXT, Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.verdicts import OK, Explanation, ReasonStep
from goodrate.scale import RelevanceScale, scale_entry

if TYPE_CHECKING:
    from goodrate.catalog.judgements import Judgements

LABELS_FILE = "labels.parquet"
NO_LABEL = "no_label"


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """Nothing but the scale; the labels lie beside it."""

    kind: ClassVar[str] = "human"
    required: ClassVar[frozenset[str]] = frozenset({"scale"})


def open_kind(folder: Path, card: JudgeCard) -> HumanJudge:
    """The judge of a folder. Raises FileNotFoundError or ValueError naming its file of labels."""
    import polars as pl

    from goodrate.catalog.parquet_file import read_parquet

    path = folder / LABELS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it holds the labels of this judge")
    try:
        rows = read_parquet(path).select("query", "item_id", "label").rows()
        labels = {(query, item): card.relevance_scale.index(label) for query, item, label in rows}
    except (pl.exceptions.PolarsError, ValueError) as error:
        named = card.relevance_scale.name
        raise ValueError(f"{path}: expected columns query, item_id, label on {named}: {error}") from error
    return HumanJudge(labels, card.relevance_scale)


def write_human_judge(folder: Path, judgements: Judgements) -> Path:
    """Make a judge folder of people's labels."""
    folder.mkdir(parents=True, exist_ok=True)
    judgements.frame.select("query", "item_id", "label").write_parquet(folder / LABELS_FILE)
    write_judge_card(folder, Card(scale=scale_entry(judgements.scale)))
    return folder


class HumanJudge:
    """labels: position on the scale by query text and item id. A pair that nobody labelled is a failure, no_label."""

    def __init__(self, labels: Mapping[tuple[str, str], int], scale: RelevanceScale) -> None:
        self.scale = scale
        self._labels = {(_key(query), item): label for (query, item), label in labels.items()}

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """A hash of all labels."""
        return {"labels": hashlib.sha256(repr(sorted(self._labels.items())).encode()).hexdigest()[:16]}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The id; an item without one (a bare text) is nobody's."""
        return [f"id {item['id']}" if item.get("id") else str(item.get(TEXT, "")) for item in items]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """All mass on the label that people gave."""
        labels = [self._labels.get((_key(pair.query), str(pair.item.get("id") or ""))) for pair in pairs]
        one_hot = np.eye(len(self.scale))
        rows = [np.full(len(self.scale), np.nan) if label is None else one_hot[label] for label in labels]
        status = [NO_LABEL if label is None else OK for label in labels]
        return Assessment.of(np.asarray(rows).reshape(len(pairs), len(self.scale)), status)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """That people said so."""
        named = [self.scale.labels[label] for label in labels]
        return [Explanation(name, (ReasonStep("label", "Labelled by people", name, name),)) for name in named]


def _key(query: str) -> str:
    """Queries are the same whatever their case and blanks."""
    return " ".join(query.casefold().split())
