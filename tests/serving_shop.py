"""An invented catalogue with a searcher and a judge that need no model, for the tests of serving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from goodrate.catalog.rendering import render_items
from goodrate.relevance.rationale import Rationale, Want, write
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.judging import ServedVerdict
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
    parts: dict[str, Part]


class FakeSearcher:
    """Every item in catalogue order; `where` is an item id to keep, or "bad" for a refusal, or "none"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str | None, str]] = []

    def search(self, query: str, k: int, where: str | None = None, mode: str = "hybrid") -> list[Hit]:
        self.asked.append((query, k, where, mode))
        if where == "(bad)" or where == "bad":
            raise ValueError("filter 'bad': no such column; columns: id, title, brand, category, price, rating")
        ids = [] if query == "nothing" else [item[0] for item in ITEMS][:k]
        return [hit_at(rank, item_id) for rank, item_id in enumerate(ids, start=1)]


def hit_at(rank: int, item_id: str) -> Hit:
    """A hit that both channels put at the same rank; three quarters of its score are lexical."""
    parts = {"lexical": Part(rank, 9.0 - rank, 0.75), "dense": Part(rank, 0.5, 0.25)}
    return Hit(item_id, 1 / (60 + rank), rank, parts)


class FakeStore:
    """Items of the invented catalogue."""

    def __len__(self) -> int:
        return len(ITEMS)

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        rows = {row["id"]: row for row in CATALOGUE.to_dicts()}
        unknown = [item_id for item_id in ids if item_id not in rows]
        if unknown:
            raise ValueError(f"unknown ids: {unknown}")
        return pl.DataFrame([rows[item_id] for item_id in ids], schema=CATALOGUE.schema)


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


class FakeJudge:
    """Probabilities by the words of the item; "polish" cannot be judged. Remembers what it has judged."""

    name = "fake"
    scale = FOUR_LEVEL
    table = {
        "kettle": ((0.9, 0.1, 0.0, 0.0), 0, "Bad"),
        "socks": ((0.2, 0.5, 0.2, 0.1), 1, "Mid"),
        "Trail": ((0.0, 0.1, 0.4, 0.5), 3, "Good"),
        "Road": ((0.0, 0.0, 0.2, 0.8), 3, "Good"),
    }

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def item_texts(self, frame: pl.DataFrame) -> list[str]:
        return render_items(frame)

    def verdicts(self, query: str, item_texts: Sequence[str]) -> list[ServedVerdict]:
        return [self._verdict(query, text) for text in item_texts]

    def explain(self, query: str, item_text: str) -> ServedVerdict:
        verdict = self._verdict(query, item_text)
        return ServedVerdict(**{**vars(verdict), "reason": REASON, "inconsistent": "Road" in item_text})

    def _verdict(self, query: str, text: str) -> ServedVerdict:
        cached = (query, text) in self.seen
        self.seen.add((query, text))
        for word, (probabilities, label, tier) in self.table.items():
            if word in text:
                gain = float(self.scale.expected_gain([probabilities])[0])
                return ServedVerdict(self.scale.labels[label], tier, probabilities, gain, cached=cached)
        return ServedVerdict(None, None, (), None, status="no_label")


def fake_pipeline(judge: Any = None) -> SearchPipeline:
    """A pipeline over the invented catalogue."""
    return SearchPipeline(FakeStore(), FakeSearcher(), judge)
