"""Search an index by words, by meaning, or by both."""

from __future__ import annotations

from goodrate.retrieval.fusion import ChannelPart, FusedHit, Hit, reciprocal_rank_fusion
from goodrate.retrieval.indexing import ItemEncoder
from goodrate.retrieval.store import Store

MODES = ("hybrid", "lexical", "dense")
CHANNEL_DEPTH = 100  # hits a channel gives to the fusion; deeper ones weigh under 1 / 160


class Searcher:
    """An index with the encoder that made it. Raises ValueError when it is another encoder."""

    def __init__(self, store: Store, encoder: ItemEncoder | None) -> None:
        if encoder is not None:
            store.require_encoder(encoder.fingerprint)
        self.store = store
        self.encoder = encoder

    def search(self, query: str, k: int = 10, where: str | None = None, mode: str | None = None) -> list[FusedHit]:
        """The best k items, best first, each with the part of every channel.

        mode: hybrid, lexical or dense; None means hybrid, or lexical without an encoder. In one-channel modes the score
        is the channel's own (BM25, or the cosine). Fewer than k come back when fewer match.
        """
        mode = mode or ("hybrid" if self.encoder else "lexical")
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; accepted: {', '.join(MODES)}")
        if not query.strip():
            raise ValueError("the query is empty")
        if mode == "lexical":
            return _single("lexical", self.store.search_text(query, k, where))
        if mode == "dense":
            return _single("dense", self._dense(query, k, where))
        depth = max(k, CHANNEL_DEPTH)
        channels = {
            "lexical": self.store.search_text(query, depth, where),
            "dense": self._dense(query, depth, where),
        }
        return reciprocal_rank_fusion(channels, k=k)

    def _dense(self, query: str, k: int, where: str | None) -> list[Hit]:
        """The items nearest in meaning."""
        if self.encoder is None:
            raise ValueError(f"{self.store.path} is searched without an encoder; only mode lexical is possible")
        return self.store.search_vector(self.encoder.encode_queries([query])[0], k, where)


def _single(channel: str, hits: list[Hit]) -> list[FusedHit]:
    """The hits of one channel in the shape of fused ones."""
    return [FusedHit(h.item_id, h.score, h.rank, {channel: ChannelPart(h.rank, h.score, 1.0)}) for h in hits]
