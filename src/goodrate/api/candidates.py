"""goodrate over a search engine that a shop runs already: that retrieves, the judge puts in tiers and orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.serving.pipeline import SearchPipeline
    from goodrate.serving.text_encoder import TextEncoder

WARM_UP = "warm up"  # the first query; nobody typed it


def open_candidates(
    url: str, model: str | None = None, encoder: str | None = None, verdicts: Path | None = None,
    judge_ms: float | None = None, keep_verdicts: int | None = None,
) -> tuple[SearchPipeline, TextEncoder | None]:  # fmt: skip
    """What searches an engine (opensearch://host:9200/products, docs/candidates.md), and the encoder that was given.

    model: the judge's folder; None = the engine's own order. encoder: a folder or hub id, for engines that are searched
    by vectors and for /v1/embeddings. verdicts: the file that keeps verdicts; None = none are kept. judge_ms: as
    Index.rerank. keep_verdicts: how many the file holds at most; None = all. One search is made, so that what is wrong
    with the address is known. Raises ValueError for an address that cannot be read, OSError for an engine that does
    not answer, and what open_judge does.
    """
    require("serve", "--candidates")
    from goodrate.api.encoders import load_encoder, single_query_encoder
    from goodrate.serving.pipeline import SearchPipeline
    from goodrate.serving.sources.opening import open_source
    from goodrate.serving.sources.searching import SourceSearcher, SourceStore
    from goodrate.serving.text_encoder import TextEncoder

    loaded = single_query_encoder(load_encoder(encoder)) if encoder else None
    source, address = open_source(url, loaded)
    store = SourceStore(source, address.columns)
    len(store)
    store.keep(source.search(WARM_UP, 1))
    judge = None
    if model is not None:
        from goodrate.api.judging import open_judge
        from goodrate.serving.kept_verdicts import ServingVerdictStore

        judge = open_judge(model)
        if verdicts is not None:
            judge = judge.with_notes(None, ServingVerdictStore(verdicts, keep_verdicts))
    pipeline = SearchPipeline(store, SourceSearcher(source, store), judge, (source.name,), judge_ms=judge_ms)
    return pipeline, TextEncoder(Path(str(encoder)).name, loaded) if loaded is not None else None
