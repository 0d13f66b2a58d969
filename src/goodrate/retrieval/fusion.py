"""Reciprocal rank fusion: one ranking from several, with the part that each channel had in every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """One result of one channel. rank counts from 1; score is any real number, higher is better."""

    item_id: str
    score: float
    rank: int


@dataclass(frozen=True)
class ChannelPart:
    """What one channel said of a result: its rank and score there, and its share of the fused score (0..1)."""

    rank: int
    score: float
    share: float


@dataclass(frozen=True)
class FusedHit:
    """One fused result. channels: name -> its part; a channel that did not find the item is absent."""

    item_id: str
    score: float
    rank: int
    channels: dict[str, ChannelPart]


def reciprocal_rank_fusion(channels: Mapping[str, Sequence[Hit]], k0: int = 60, k: int | None = None) -> list[FusedHit]:
    """score(item) = sum over the channels that found it of 1 / (k0 + rank), best first, ties by id.

    channels: name -> hits, best first. k0: > 0, larger flattens the ranks (Cormack et al. 2009 use 60). k: how many to
    return, None = all. Raises ValueError when a channel names an item twice.
    >>> lexical, dense = [Hit("a", 9.0, 1), Hit("b", 8.0, 2)], [Hit("b", 0.7, 1)]
    >>> [(hit.item_id, round(hit.score, 4)) for hit in reciprocal_rank_fusion({"lexical": lexical, "dense": dense})]
    [('b', 0.0325), ('a', 0.0164)]
    """
    if k0 <= 0:
        raise ValueError(f"k0 must be positive; got {k0}")
    by_item: dict[str, dict[str, Hit]] = {}
    for channel, hits in channels.items():
        for hit in hits:
            if channel in by_item.setdefault(hit.item_id, {}):
                raise ValueError(f"channel {channel!r} names item {hit.item_id!r} twice")
            by_item[hit.item_id][channel] = hit
    scores = {item: sum(1.0 / (k0 + hit.rank) for hit in by_name.values()) for item, by_name in by_item.items()}
    ordered = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    return [
        FusedHit(item, scores[item], rank, _channel_parts(by_item[item], k0))
        for rank, item in enumerate(ordered, start=1)
    ]


def _channel_parts(hits: Mapping[str, Hit], k0: int) -> dict[str, ChannelPart]:
    """Each channel's rank, score and share of the sum."""
    weights = {channel: 1.0 / (k0 + hit.rank) for channel, hit in hits.items()}
    total = sum(weights.values())
    return {name: ChannelPart(hit.rank, hit.score, weights[name] / total) for name, hit in hits.items()}
