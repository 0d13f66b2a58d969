"""What hybrid search makes of its channels: which items are on the list, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from goodrate.retrieval.calibration import Calibration
from goodrate.retrieval.fusion import (
    FusedHit,
    Hit,
    Instead,
    listed,
    reciprocal_rank_fusion,
    relative_fusion,
    score_fusion,
)
from goodrate.retrieval.search_settings import DENSE_SHARE, HEAD, SYNONYM_WEIGHT, SearchSettings
from goodrate.retrieval.weighing import FURTHER

CHANNELS = ("identifier", "lexical", "dense")
CHANNEL_DEPTH = 100  # hits a channel gives to the fusion
# By ranks, more than words and meaning together: who types an article number wants that article.
IDENTIFIER_WEIGHT = 3.0
Covering = Callable[[Sequence[str]], Instead]  # ids -> the shares of a query's words that they have (coverage)


def fused(
    found: Mapping[str, Sequence[Hit]], settings: SearchSettings, calibration: Calibration, k: int | None = None,
    depth: int = CHANNEL_DEPTH, factors: Mapping[str, float] | None = None, covering: Covering | None = None,
) -> list[FusedHit]:  # fmt: skip
    """One ranking of what the channels found, as an index is searched. depth: hits that a channel was asked for.

    factors: what a channel's part is multiplied with, 1 where none is given; synonyms have that of words. The best hit
    of a further channel (weighing.FURTHER) is then worth as much as the best item of all others. covering: by which
    the head of the list is ordered in place of BM25; None = by BM25.
    """
    factor = {name: (factors or {}).get("lexical" if name == "synonym" else name, 1.0) for name in found}
    if settings.fusion == "ranks":
        weights = {name: one * factor.get(name, 1.0) for name, one in _weights(found, settings, calibration).items()}
        return reciprocal_rank_fusion(found, k=k, weights=weights | _further(factor))
    ordered = _summed(found, _weights(found, settings, calibration), factor)
    if settings.dense_weight == 0 or not _has_head(found, settings):
        return ordered[:k]
    words = 1 - DENSE_SHARE
    shares = {"lexical": words, "synonym": words * SYNONYM_WEIGHT, "dense": DENSE_SHARE}
    shares = {name: share * factor.get(name, 1.0) for name, share in shares.items()} | _further(factor)
    chosen = relative_fusion(found, shares, depth, from_lowest=CHANNELS[2:], deciding=CHANNELS[:1])
    hits = listed(chosen, ordered, HEAD)
    if covering is None or settings.share_weight == 0:
        return hits[:k]
    asked = chosen if factors else chosen[:HEAD]  # weights that are learned compare all items with the best
    covered = covering([hit.item_id for hit in asked])
    by_share = _summed(found, _share_weights(settings, calibration), factor, covered)
    return [*listed(chosen, by_share, HEAD)[:HEAD], *hits[HEAD:]][:k]


def channel_features(
    found: Mapping[str, Sequence[Hit]], settings: SearchSettings, calibration: Calibration, channels: Sequence[str],
    covering: Covering | None = None,
) -> tuple[list[str], np.ndarray]:  # fmt: skip
    """Ids (K,) and features (K, C) of what the channels found, identifiers aside: <weights, features> orders as fused
    does with weighing.factors_of(channels, weights), but for identifiers and for what is chosen for the head of a list.

    A feature is a channel's part, synonyms with words, of what the best item has of words and meaning together.
    """
    told = {name: hits for name, hits in found.items() if name != "identifier"}
    if covering is None or 0 in (settings.share_weight, settings.dense_weight) or not _has_head(found, settings):
        hits, unit = fused(told, _one_sum(settings), calibration), _best(told, settings, calibration)
    else:
        weights = _share_weights(settings, calibration)
        covered = covering(list(dict.fromkeys(hit.item_id for one in told.values() for hit in one)))
        hits = _summed(told, weights, dict.fromkeys(told, 1.0), covered)
        unit = _best_sum(told, weights, covered)
    place = {name: at for at, name in enumerate(channels)} | {"synonym": tuple(channels).index("lexical")}
    features = np.zeros((len(hits), len(channels)))
    for row, hit in enumerate(hits):
        for name, part in hit.channels.items():
            if name in place:
                features[row, place[name]] += part.share * hit.score / unit
    return [hit.item_id for hit in hits], features


def _has_head(found: Mapping[str, Sequence[Hit]], settings: SearchSettings) -> bool:
    """Whether the head of the list is chosen apart from how it is ordered."""
    return settings.fusion == "listed" and bool(found.get("dense"))


def _summed(
    found: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], factor: Mapping[str, float],
    instead: Instead | None = None,
) -> list[FusedHit]:  # fmt: skip
    """All that was found by the sum of weighed scores."""
    further = _further(factor)
    own = {name: one * factor.get(name, 1.0) for name, one in weights.items()}
    if further:
        unit = _best_sum(found, weights, instead)
        own |= {name: unit * share for name, share in further.items()}
    return score_fusion(found, own, from_lowest=CHANNELS[2:], deciding=CHANNELS[:1], instead=instead)


def _further(factor: Mapping[str, float]) -> dict[str, float]:
    return {name: one for name, one in factor.items() if name in FURTHER}


def _best_sum(
    found: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], instead: Instead | None = None
) -> float:  # fmt: skip
    """What the best item has of words, synonyms and meaning together, without factors; 1 where that is nothing."""
    told = {name: found[name] for name in ("lexical", "synonym", "dense") if name in found}
    hits = score_fusion(told, weights, 1, from_lowest=CHANNELS[2:], instead=instead)
    return hits[0].score if hits and hits[0].score > 0 else 1.0


def _best(found: Mapping[str, Sequence[Hit]], settings: SearchSettings, calibration: Calibration) -> float:
    """The score of the best item by words, synonyms and meaning; by ranks where the settings say so."""
    told = {name: found[name] for name in ("lexical", "synonym", "dense") if name in found}
    hits = fused(told, _one_sum(settings), calibration, 1)
    return hits[0].score if hits and hits[0].score > 0 else 1.0


def _one_sum(settings: SearchSettings) -> SearchSettings:
    """The settings by which one sum orders the whole list: without a head chosen otherwise."""
    return settings if settings.fusion == "ranks" else settings.model_copy(update={"fusion": "scores"})


def _share_weights(settings: SearchSettings, calibration: Calibration) -> dict[str, float]:
    """What the shares of a query's words and cosines are multiplied with; synonyms add a share of their own."""
    words = settings.share_weight * calibration.rare_word
    dense = calibration.dense_gain(settings.dense_weight)
    return {"lexical": words, "synonym": SYNONYM_WEIGHT * words, "dense": dense}


def _weights(
    found: Mapping[str, Sequence[Hit]], settings: SearchSettings, calibration: Calibration
) -> dict[str, float]:  # fmt: skip
    """What the scores, or the ranks, of each channel are multiplied with."""
    if settings.fusion == "ranks":
        own = {"lexical": 1.0, "synonym": SYNONYM_WEIGHT, "dense": settings.dense_weight}
        return {"identifier": IDENTIFIER_WEIGHT, **own}
    typed, meant = (max((hit.score for hit in found.get(name, ())), default=0.0) for name in ("lexical", "synonym"))
    # A synonym that is rarer than the word that was typed is not worth more for it.
    synonym = SYNONYM_WEIGHT * (min(1.0, typed / meant) if typed > 0 and meant > 0 else 1.0)
    return {"lexical": 1.0, "synonym": synonym, "dense": calibration.dense_gain(settings.dense_weight)}
