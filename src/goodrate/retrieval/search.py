"""Search an index by identifiers, by words and by meaning."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.retrieval.fusion import ChannelPart, FusedHit, Hit, reciprocal_rank_fusion
from goodrate.retrieval.indexing import ItemEncoder
from goodrate.retrieval.store import Store

MODES = ("hybrid", "lexical", "dense")
CHANNELS = ("identifier", "lexical", "dense")
CHANNEL_DEPTH = 100  # hits a channel gives to the fusion; deeper ones weigh under 1 / 160
# More than words and meaning together: who types an article number wants that article.
IDENTIFIER_WEIGHT = 3.0


class Searcher:
    """An index with the encoder that made it. Raises ValueError when it is another encoder.

    channels: those that hybrid asks; None = all that the index has.
    """

    def __init__(self, store: Store, encoder: ItemEncoder | None, channels: Sequence[str] | None = None) -> None:
        if encoder is not None:
            store.require_encoder(encoder.fingerprint)
        self.store = store
        self.encoder = encoder
        self.channels = tuple(channels) if channels else CHANNELS if encoder else CHANNELS[:2]

    def search(self, query: str, k: int = 10, where: str | None = None, mode: str | None = None) -> list[FusedHit]:
        """The best k items, best first, each with the part of every channel. Fewer come back when fewer match.

        mode: hybrid (identifiers, words and meaning), lexical (identifiers and words) or dense (meaning alone); None
        means hybrid, or lexical without an encoder. Where one channel alone finds items in mode lexical or dense, the
        score is that channel's own (BM25, or the cosine). A query without a letter or digit finds nothing.
        """
        mode = mode or ("hybrid" if self.encoder else "lexical")
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; accepted: {', '.join(MODES)}")
        if not query.strip():
            raise ValueError("the query is empty")
        if mode != "lexical" and self.encoder is None:
            raise ValueError(f"{self.store.path} is searched without an encoder; only mode lexical is possible")
        if not any(sign.isalnum() for sign in query):
            return []
        asked = {"lexical": CHANNELS[:2], "dense": CHANNELS[2:], "hybrid": self.channels}[mode]
        depth = k if len(asked) == 1 else max(k, CHANNEL_DEPTH)
        found = {channel: self._hits(channel, query, depth, where) for channel in asked}
        found = {channel: hits for channel, hits in found.items() if hits or channel != "identifier"}
        if mode != "hybrid" and len(found) == 1:
            return _single(*found.popitem(), k)
        return reciprocal_rank_fusion(found, k=k, weights={"identifier": IDENTIFIER_WEIGHT})

    def _hits(self, channel: str, query: str, k: int, where: str | None) -> list[Hit]:
        """What one channel finds."""
        if channel == "identifier":
            return self.store.search_identifiers(query, k, where)
        if channel == "lexical":
            return self.store.search_text(query, k, where)
        assert self.encoder is not None
        return self.store.search_vector(self.encoder.encode_queries([query])[0], k, where)


def _single(channel: str, hits: list[Hit], k: int) -> list[FusedHit]:
    """The hits of one channel in the shape of fused ones."""
    return [FusedHit(h.item_id, h.score, h.rank, {channel: ChannelPart(h.rank, h.score, 1.0)}) for h in hits[:k]]
