"""Three lamps and a judge of entities whose model is known, for the tests of overrides; it stands for a trained one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.relevance.entities import EntityRules
from goodrate.relevance.entity_judge import Card, EntityJudge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.serving.pipeline import SearchPipeline
from serving_shop import COLUMNS, FakeSearcher, FakeStore, hit_at

RULES = EntityRules(("brand", "color"), frozenset(), "structured")
CARD = Card(scale="four_level", types=RULES.types, sources="structured")
# support and conflict by entity, where the query says "lamp"; of "red lamp" colours count too
KIND = {"category: lamps": (0.9, 0.0), "category: lighting": (0.5, 0.0)}
RED = {"color: red": (0.8, 0.0), "color: blue": (0.0, 0.75), "wants: color": (0.8, 0.0)}
LAMPS = pl.DataFrame(
    [(name, f"{color or 'plain'} lamp", "", "Home > Lighting > Lamps", 9.5, 4.0,
      json.dumps({"color": color} if color else {}), "") for name, color in (("r", "red"), ("b", "blue"), ("c", ""))],
    schema=COLUMNS, orient="row",
)  # fmt: skip
LABELS = [
    ("red lamp", "r", "excellent"), ("red lamp", "b", "related"), ("red lamp", "c", "related"),
    ("red lamp", "gone", "related"), ("blue lamp", "b", "excellent"),
]  # fmt: skip
RULES_ROWS = (
    '[[override]]\nquery = "red lamp"\ntype = "color"\nverdict = "neutral"\n'
    '# the second\n[[override]]\nquery = "blue lamp"\nentity = "blue"\nverdict = "support"\n'
)


class LampModel:
    """Stands for a cross-encoder."""

    fingerprint = "lamps"

    def verdicts(self, queries: Sequence[str], entities: Sequence[str]) -> np.ndarray:
        """What KIND and RED say, else nothing."""
        return np.asarray([self._one(*one) for one in zip(queries, entities, strict=True)]).reshape(-1, 2)

    def _one(self, query: str, entity: str) -> tuple[float, float]:
        known = {**(KIND if "lamp" in query else {}), **(RED if "red lamp" in query else {})}
        return known.get(entity, (0.0, 0.0))


class LampStore(FakeStore):
    """The lamps."""

    def __len__(self) -> int:
        return len(LAMPS)

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        return set(ids) & set(LAMPS["id"])

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        rows = {row["id"]: row for row in LAMPS.to_dicts()}
        if unknown := [item_id for item_id in ids if item_id not in rows]:
            raise ValueError(f"unknown ids: {unknown}")
        return pl.DataFrame([rows[item_id] for item_id in ids], schema=LAMPS.schema)


class LampSearcher(FakeSearcher):
    """All of them."""

    def find(self, read: Any, k: int, where: str | None = None, mode: str = "hybrid") -> list[Any]:
        return [hit_at(rank, item_id) for rank, item_id in enumerate(LAMPS["id"].to_list()[:k], start=1)]


def entity_judge(folder: Path, **more: Any) -> CalibratedJudge:
    """The judge as open_judge gives it. folder: where its overrides are."""
    return CalibratedJudge(EntityJudge(LampModel(), RULES, CARD), name="entities", folder=folder, **more)


def entity_pipeline(folder: Path, judge: CalibratedJudge | None = None) -> SearchPipeline:
    """A search for lamps, judged."""
    return SearchPipeline(LampStore(), LampSearcher(), judge or entity_judge(folder))
