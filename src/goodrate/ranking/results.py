"""Results and their order by what the judge says: tier, then expected gain."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodrate.relevance.verdicts import Verdict

# An unjudged item is unknown: it stands above what the judge called Bad and below what it called Good or Mid.
TIER_ORDER: dict[str | None, int] = {"Good": 3, "Mid": 2, None: 1, "Bad": 0}


@dataclass(frozen=True)
class Result:
    """One result. score and retrieval_rank are those of retrieval; channels: rank, score and share of each channel.

    excluded: the item has what the query asks to be without, and retrieval put it behind others for that.
    """

    rank: int
    item: dict[str, Any]
    retrieval_rank: int
    score: float
    channels: dict[str, dict[str, float | int]]
    verdict: Verdict | None
    excluded: bool = False

    def __str__(self) -> str:
        tier = f"{self.verdict.tier or 'unjudged':9s}" if self.verdict else ""
        price = "" if self.item.get("price") is None else f"  {self.item['price']:,.2f}"
        return f"{self.rank:3d}  {tier}{self.item['title']}{price}"


def shown_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item for JSON: attributes read, and a price or rating that is not a finite number given as none."""
    numbers = {name: row[name] if _finite(row[name]) else None for name in ("price", "rating")}
    return {**row, **numbers, "attributes": json.loads(row["attributes"] or "{}")}


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def rank(hits: Sequence[Any], items: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> list[Result]:
    """Results by tier, then those without what the query excludes, then expected gain, then retrieval rank.

    hits: K, best first. items: K, same order. verdicts: one for each of the first hits. An item without a label (not
    judged, or failed) has no gain and keeps its retrieval order among its like.
    """
    by_item = [*verdicts, *[None] * (len(hits) - len(verdicts))]

    def key(position: int) -> tuple[int, bool, float, int]:
        verdict = by_item[position]
        gain = verdict.expected_gain if verdict is not None and verdict.expected_gain is not None else 0.0
        return -TIER_ORDER[verdict.tier if verdict else None], hits[position].excluded, -gain, position

    order = sorted(range(len(hits)), key=key)
    return [
        Result(
            rank=place,
            item=dict(items[position]),
            retrieval_rank=position + 1,
            score=float(hits[position].score),
            channels={name: _part(part) for name, part in hits[position].channels.items()},
            verdict=by_item[position],
            excluded=hits[position].excluded,
        )
        for place, position in enumerate(order, start=1)
    ]


def _part(part: Any) -> dict[str, float | int]:
    """What one retrieval channel gave: its rank and raw score, and its share of the fused score (0..1)."""
    return {"rank": int(part.rank), "score": float(part.score), "share": float(part.share)}
