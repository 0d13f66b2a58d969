"""One ranking from several channels, with the part that each channel had in every score: by scores, by ranks, or both.

Scores order well and choose badly: where one channel's scores vary more, it fills the whole list. So a list can be
chosen by scores that are stretched to the same range in every channel, and be ordered by the scores as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace


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
    """One fused result. channels: name -> its part; a channel that did not find the item is absent. rank, not score,
    says where it stands (listed).

    excluded: the item has what the query asks to be without, and stands behind others for it, whatever its score.
    """

    item_id: str
    score: float
    rank: int
    channels: dict[str, ChannelPart]
    excluded: bool = False


Found = Mapping[str, Sequence[Hit]]  # channel -> hits, best first
Instead = Mapping[str, Mapping[str, float]]  # channel -> item -> what is summed in place of the channel's score
_ByItem = dict[str, dict[str, Hit]]  # item -> channel -> hit
_Parts = dict[str, dict[str, float]]  # item -> channel -> its part of the sum


def score_fusion(
    channels: Found, weights: Mapping[str, float] | None = None, k: int | None = None,
    from_lowest: Collection[str] = (), deciding: Collection[str] = (), instead: Instead | None = None,
) -> list[FusedHit]:  # fmt: skip
    """score(item) = sum over the channels that found it of weight * (score - base), best first, ties by id.

    channels: name -> hits, best first. weights: by channel, 1 where none is given; a score of one channel is worth
    weight of another's. base: 0, or the channel's lowest score for those in from_lowest, whose scores have no zero
    (cosines): an item that such a channel did not find is as good as its last one. deciding: channels whose items stand
    before all others; in place of a weight they get what the best of the others has. k: how many, None = all. instead:
    scores that are summed in place of a channel's own, of items that it has found; a hit keeps its own.
    Scores are not stretched query by query: where all items match all words, small differences stay small. Bruch et al.
    2023 (arXiv 2210.11934) compare such sums with rank fusion.
    Raises ValueError when a channel names an item twice.
    >>> lexical, dense = [Hit("a", 9.0, 1), Hit("b", 8.0, 2)], [Hit("b", 0.7, 1), Hit("c", 0.2, 2)]
    >>> fused = score_fusion({"lexical": lexical, "dense": dense}, {"dense": 10.0}, from_lowest=["dense"])
    >>> [(hit.item_id, hit.score) for hit in fused]
    [('b', 13.0), ('a', 9.0), ('c', 0.0)]
    """
    by_item = _by_item(channels)
    base = {name: hits[-1].score if hits and name in from_lowest else 0.0 for name, hits in channels.items()}
    weight = {name: (weights or {}).get(name, 1.0) for name in channels}
    other = {name: (instead or {}).get(name, {}) for name in channels}
    parts = {
        item: {name: weight[name] * (other[name].get(item, hit.score) - base[name]) for name, hit in found.items()}
        for item, found in by_item.items()
    }
    best = max((sum(own.values()) for own in parts.values()), default=0.0)
    for own in parts.values():
        own.update({name: best + own[name] for name in own if name in deciding})
    return _ranked(by_item, parts, k)


def reciprocal_rank_fusion(
    channels: Found, k0: int = 60, k: int | None = None, weights: Mapping[str, float] | None = None
) -> list[FusedHit]:
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
    by_item = _by_item(channels)
    weight = {channel: (weights or {}).get(channel, 1.0) for channel in channels}
    parts = {
        item: {channel: weight[channel] / (k0 + hit.rank) for channel, hit in by_name.items()}
        for item, by_name in by_item.items()
    }
    return _ranked(by_item, parts, k)


def relative_fusion(
    channels: Found, weights: Mapping[str, float], depth: int, from_lowest: Collection[str] = (),
    deciding: Collection[str] = (),
) -> list[FusedHit]:  # fmt: skip
    """score(item) = sum over the channels that found it of weight * (score - base) / (highest - base), ties by id.

    The convex combination of min-max scores (Bruch et al. 2023, arXiv 2210.11934). channels, deciding: as in
    score_fusion. weights: of every channel that does not decide. base: 0 of a channel that has found fewer than depth,
    so all that it knows; the lowest score of a full one, which may have left out items as good as its last, and of
    those in from_lowest. Raises ValueError when a channel names an item twice.
    >>> lexical, dense = [Hit("a", 9.0, 1), Hit("b", 8.0, 2)], [Hit("b", 0.7, 1), Hit("c", 0.2, 2)]
    >>> fused = relative_fusion({"lexical": lexical, "dense": dense}, {"lexical": 0.5, "dense": 0.5}, 2)
    >>> [(hit.item_id, hit.score) for hit in fused]
    [('a', 0.5), ('b', 0.5), ('c', 0.0)]
    """
    full = {name for name, hits in channels.items() if len(hits) >= depth or name in from_lowest}
    stretched = {name: hits if name in deciding else _stretched(hits, name in full) for name, hits in channels.items()}
    return score_fusion(stretched, weights, deciding=deciding)


def listed(chosen: Sequence[FusedHit], ordered: Sequence[FusedHit], head: int) -> list[FusedHit]:
    """The first `head` of one ranking in the order of another of the same items, then the others in that of the first.

    Scores and parts are those of `ordered`.
    """
    first = {hit.item_id for hit in chosen[:head]}
    by_id = {hit.item_id: hit for hit in ordered}
    hits = [hit for hit in ordered if hit.item_id in first] + [by_id[hit.item_id] for hit in chosen[head:]]
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]


def _stretched(hits: Sequence[Hit], from_lowest: bool) -> list[Hit]:
    """The hits with scores from 0 (or above, where not from the lowest) to 1."""
    if not hits:
        return []
    low = hits[-1].score if from_lowest else 0.0
    span = hits[0].score - low
    return [replace(hit, score=(hit.score - low) / span if span > 0 else 1.0) for hit in hits]


def _by_item(channels: Found) -> _ByItem:
    """The hits of each item."""
    by_item: _ByItem = {}
    for channel, hits in channels.items():
        for hit in hits:
            if channel in by_item.setdefault(hit.item_id, {}):
                raise ValueError(f"channel {channel!r} names item {hit.item_id!r} twice")
            by_item[hit.item_id][channel] = hit
    return by_item


def _ranked(by_item: _ByItem, parts: _Parts, k: int | None) -> list[FusedHit]:
    """The best k items by the sum of their parts, which are >= 0."""
    scores = {item: sum(own.values()) for item, own in parts.items()}
    ordered = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    return [
        FusedHit(item, scores[item], rank, _channel_parts(by_item[item], parts[item]))
        for rank, item in enumerate(ordered, start=1)
    ]


def _channel_parts(hits: Mapping[str, Hit], parts: Mapping[str, float]) -> dict[str, ChannelPart]:
    """Each channel's rank, score and share of the sum; equal shares of a sum of nothing."""
    total = sum(parts.values())
    share = {name: part / total if total > 0 else 1 / len(parts) for name, part in parts.items()}
    return {name: ChannelPart(hit.rank, hit.score, share[name]) for name, hit in hits.items()}
