"""An invented catalogue with a searcher and a judge that need no model, for the tests of serving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Item, Pair, item_texts
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.rationale import Rationale, Want, write
from goodrate.relevance.reason_words import steps_of_text
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import OK, Explanation
from goodrate.retrieval.facets import Facets
from goodrate.retrieval.filters import DECLARED_COLUMNS
from goodrate.retrieval.rewriting.suggestions import Suggestion
from goodrate.retrieval.search import QueryReading
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.pipeline import SearchPipeline

SCRIPT = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"
ITEMS = [
    # id, title, brand, category, price, rating, attributes, description
    ("a1", "Trail running shoes, red", "Zorvo", "running shoes", 89.0, 4.6, {"sizes": [41, 42]}, "Light."),
    ("a2", "Road running shoes, blue", "Zorvo", "running shoes", 120.5, 4.1, {"colour": "blue"}, "For hard roads."),
    ("a3", "Running socks, red", "Mel & Quist", "socks", 9.9, 3.9, {"colour": "red"}, "Three pairs."),
    ("a4", f"Shoe polish {SCRIPT}", "O'Dare", "shoe care", None, None, {"scent": SCRIPT}, SCRIPT),
    ("a5", "Red kettle", "Brumm", "kettles", 35.0, 4.9, {"litres": 1.5}, "Boils water."),
]  # fmt: skip
COLUMNS = ["id", "title", "brand", "category", "price", "rating", "attributes", "description"]
CATALOGUE = pl.DataFrame([(*item[:6], json.dumps(item[6]), item[7]) for item in ITEMS], schema=COLUMNS, orient="row")


@dataclass(frozen=True)
class Part:
    rank: int
    score: float
    share: float


@dataclass(frozen=True)
class Hit:
    item_id: str
    score: float
    rank: int
    channels: dict[str, Part]
    excluded: bool = False


class FakeSearcher:
    """Every item in catalogue order, whatever the filter; none for the query "nothing"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str | None, str]] = []

    def read(self, query: str, ignore: tuple[str, ...] = ()) -> QueryReading:
        return QueryReading(query)

    def condition(self, read: QueryReading, where: str | None = None) -> str | None:
        return where

    def suggest(self, typed: str, k: int) -> list[Suggestion]:
        return [Suggestion("red kettle", "title", 1)][:k]

    def facets(
        self, read: QueryReading, asked: Any, where: str | None, mode: str, hits: Sequence[Any], without: Any = ()
    ) -> Facets:
        empty = {"label": "", "kind": "values", "values": [], "others": 0}
        return Facets([{"name": name, **empty} for name in asked], len(hits), complete=True)

    def find(self, read: QueryReading, k: int, where: str | None = None, mode: str = "hybrid") -> list[Hit]:
        self.asked.append((read.text, k, where, mode))
        ids = [] if read.text == "nothing" else [item[0] for item in ITEMS][:k]
        return [hit_at(rank, item_id) for rank, item_id in enumerate(ids, start=1)]


def hit_at(rank: int, item_id: str) -> Hit:
    """A hit that both channels put at the same rank; three quarters of its score are lexical."""
    channels = {"lexical": Part(rank, 9.0 - rank, 0.75), "dense": Part(rank, 0.5, 0.25)}
    return Hit(item_id, 1 / (60 + rank), rank, channels)


class FakeStore:
    """Items of the invented catalogue."""

    columns = DECLARED_COLUMNS
    version = 1

    def __len__(self) -> int:
        return len(ITEMS)

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        known = CATALOGUE if where is None else pl.SQLContext(items=CATALOGUE).execute(
            f"SELECT * FROM items WHERE {where}", eager=True
        )  # fmt: skip
        return set(ids) & set(known["id"])

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        rows = {row["id"]: row for row in CATALOGUE.to_dicts()}
        unknown = [item_id for item_id in ids if item_id not in rows]
        if unknown:
            raise ValueError(f"unknown ids: {unknown}")
        return pl.DataFrame([rows[item_id] for item_id in ids], schema=CATALOGUE.schema)

    def images(self) -> pl.Series:
        return pl.Series([], dtype=pl.String)


REASON = write(
    Rationale(
        label=3,
        category="running shoes",
        wants=(Want("colour", "red", "must"), Want("price", "100", "below")),
        found_category="running shoes",
        found=("red", None),
        relation="same",
        checks=("match", "unknown"),
        rule="same_unknown",
    )
)
BECAUSE = {"same_unknown": "the item does not say all that was required"}


class FakeJudge:
    """Probabilities by the words of the item; "polish" cannot be judged. Tiers at the median: Bad, Mid, Good, Good."""

    scale = FOUR_LEVEL
    identity: Mapping[str, Any] = {"fake": 1}
    table = {
        "kettle": (0.9, 0.1, 0.0, 0.0),
        "socks": (0.2, 0.5, 0.2, 0.1),
        "Trail": (0.0, 0.1, 0.4, 0.5),
        "Road": (0.0, 0.0, 0.2, 0.8),
    }

    def reads(self, items: Sequence[Item]) -> list[str]:
        return item_texts(items, "text")

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        rows = [self._row(text) for text in self.reads([pair.item for pair in pairs])]
        status = ["no_label" if row is None else OK for row in rows]
        return Assessment.of(np.asarray([row or (np.nan,) * 4 for row in rows]), status)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        texts = self.reads([pair.item for pair in pairs])
        return [Explanation(REASON, steps_of_text(REASON, BECAUSE), inconsistent="Road" in text) for text in texts]

    def _row(self, text: str) -> tuple[float, ...] | None:
        return next((row for word, row in self.table.items() if word in text), None)


def fake_judge(store: Path | None = None, judge: FakeJudge | None = None) -> CalibratedJudge:
    """The judge as it is served. store: the file that keeps its verdicts, None = none are kept."""
    return CalibratedJudge(judge or FakeJudge(), name="fake", store=VerdictStore(store) if store else None)


def fake_pipeline(judge: CalibratedJudge | None = None) -> SearchPipeline:
    """A pipeline over the invented catalogue."""
    return SearchPipeline(FakeStore(), FakeSearcher(), judge)
