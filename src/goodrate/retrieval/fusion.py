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
    """One fused result. channels: name -> its part; a channel that did not find the item is absent.

    excluded: the item has what the query asks to be without, and stands behind others for it, whatever its score.
    """

    item_id: str
    score: float
    rank: int
    channels: dict[str, ChannelPart]
    excluded: bool = False


def reciprocal_rank_fusion(
    channels: Mapping[str, Sequence[Hit]], k0: int = 60, k: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[FusedHit]:  # fmt: skip
    """score(item) = sum over the channels that found it of weight / (k0 + rank), best first, ties by id.

    channels: name -> hits, best first. k0: > 0, larger flattens the ranks (Cormack et al. 2009 use 60). k: how many to
    return, None = all. weights: by channel, 1 where none is given; a lone channel whose weight is more than that of
    all others together decides. Raises ValueError when a channel names an item twice.
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
    weight = {channel: (weights or {}).get(channel, 1.0) for channel in channels}
    parts = {
        item: {channel: weight[channel] / (k0 + hit.rank) for channel, hit in by_name.items()}
        for item, by_name in by_item.items()
    }
    scores = {item: sum(values.values()) for item, values in parts.items()}
    ordered = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    return [
        FusedHit(item, scores[item], rank, _channel_parts(by_item[item], parts[item]))
        for rank, item in enumerate(ordered, start=1)
    ]


def _channel_parts(hits: Mapping[str, Hit], parts: Mapping[str, float]) -> dict[str, ChannelPart]:
    """Each channel's rank, score and share of the sum."""
    total = sum(parts.values())
    return {name: ChannelPart(hit.rank, hit.score, parts[name] / total) for name, hit in hits.items()}
