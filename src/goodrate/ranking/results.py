"""Results and their order by what the judge says: tier, then expected gain, or what a click ranker predicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodrate.catalog.inferred import INFERRED, NONE, shown
from goodrate.relevance.verdicts import Verdict

# An unjudged item is unknown: it stands above what the judge called Bad and below what it called Good or Mid.
TIER_ORDER: dict[str | None, int] = {"Good": 3, "Mid": 2, None: 1, "Bad": 0}


@dataclass(frozen=True)
class Variant:
    """One of several variants behind a result. differing: attributes in which the variants are not alike."""

    id: str
    title: str
    price: float | None
    image: str
    differing: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One result. score and retrieval_rank are those of retrieval; channels: rank, score and share of each channel.

    retrieval_rank: None for an item that was not retrieved: a ranking rule put it there. excluded: the item has what
    the query asks to be without, and retrieval put it behind others for that. rules: names of the ranking rules that
    apply to it. variants: the others of its group when results are grouped; variant_count: how many they are, of which
    the first are listed. utility: the chance of a click once it is seen, as a click ranker predicts it; None without
    one, and for what is not judged because it stands too deep.
    """

    rank: int
    item: dict[str, Any]
    retrieval_rank: int | None
    score: float
    channels: dict[str, dict[str, float | int]]
    verdict: Verdict | None
    excluded: bool = False
    rules: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    variant_count: int = 0
    utility: float | None = None

    def __str__(self) -> str:
        tier = f"{self.verdict.tier or 'unjudged':9s}" if self.verdict else ""
        price = "" if self.item.get("price") is None else f"  {self.item['price']:,.2f}"
        return f"{self.rank:3d}  {tier}{self.item['title']}{price}"


def shown_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item for JSON: attributes read, those that models fill in apart from the shop's own (catalog.inferred.shown),
    and a price or rating that is not a finite number given as none.
    """
    numbers = {name: row[name] if _finite(row[name]) else None for name in ("price", "rating")}
    own = json.loads(row["attributes"] or "{}")
    return {**row, **numbers, "attributes": own, INFERRED: shown(row.get(INFERRED) or NONE, own, row)}


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def rank(
    hits: Sequence[Any], items: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict | None], before: int = 0,
    utilities: Sequence[float] = (), across_tiers: bool = False,
) -> list[Result]:  # fmt: skip
    """Results by tier, then those without what the query excludes, then expected gain, then retrieval rank.

    hits: K, best first. items: K, same order. verdicts: one for each of the first hits, None where the judge was not
    asked. before: hits of the search that stand in front of these. An item without a label (not judged, or failed) has
    no gain and keeps its retrieval order among its like. utilities: one of each hit, in place of the gain; none without
    a click ranker. across_tiers: all tiers but Bad are one.
    """
    by_item = [*verdicts, *[None] * (len(hits) - len(verdicts))]

    def key(position: int) -> tuple[int, bool, float, int]:
        verdict = by_item[position]
        gain = verdict.expected_gain if verdict is not None and verdict.expected_gain is not None else 0.0
        tier = TIER_ORDER[verdict.tier if verdict else None]
        placed = min(tier, 1) if across_tiers else tier
        return -placed, hits[position].excluded, -(utilities[position] if len(utilities) else gain), position

    order = sorted(range(len(hits)), key=key)
    return [
        Result(
            rank=before + place,
            item=dict(items[position]),
            retrieval_rank=before + position + 1,
            score=float(hits[position].score),
            channels={name: _part(part) for name, part in hits[position].channels.items()},
            verdict=by_item[position],
            excluded=hits[position].excluded,
            utility=float(utilities[position]) if len(utilities) else None,
        )
        for place, position in enumerate(order, start=1)
    ]


def unretrieved(item: Mapping[str, Any]) -> Result:
    """A result that a ranking rule shows and retrieval has not found."""
    return Result(rank=0, item=dict(item), retrieval_rank=None, score=0.0, channels={}, verdict=None)


def _part(part: Any) -> dict[str, float | int]:
    """What one retrieval channel gave: its rank and raw score, and its share of the fused score (0..1)."""
    return {"rank": int(part.rank), "score": float(part.score), "share": float(part.share)}
