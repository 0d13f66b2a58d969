"""Open everything that a search server needs, once: the index, its encoder, the judge and the kept verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.serving.judging import Judging
from goodrate.serving.pipeline import MODES, SearchPipeline

if TYPE_CHECKING:
    import numpy as np

    from goodrate.relevance.context import ContextFinder
    from goodrate.retrieval.indexing import ItemEncoder
    from goodrate.retrieval.store import Store

WARM_UP = "warm up"  # the first query; nobody typed it


def load_pipeline(
    index: Path,
    model: str | None = None,
    encoder: str | None = None,
    verdicts: Path | None = None,
    facts: Path | None = None,
    contexts: str | None = None,
    context_encoder: str | None = None,
) -> SearchPipeline:
    """The pipeline over an index folder.

    model: a judge's folder; None = search without verdicts. encoder: where the index's encoder lies, if it has moved.
    verdicts: the SQLite file of kept verdicts, made when absent; None = verdicts are not kept. facts: a facts.jsonl
    (relevance.facts); None or an absent file = no facts. contexts: file of texts for a judge that reads some, or
    "items"; their index lies in the folder of the index. context_encoder: they are found as it was done in training, by
    words alone (None) or with that encoder, too.
    Everything has answered once when this returns: the first query of a shopper does not wait for what is only set up
    on use. Raises FileNotFoundError and ValueError for a folder that is not what it should be.
    """
    from goodrate.retrieval.search import Searcher
    from goodrate.retrieval.store import Store

    store = Store.open(index)
    finder = _load_contexts(store, model, contexts, context_encoder) if contexts else None
    judge = load_judge(model, verdicts, facts, finder) if model else None
    loaded = _load_encoder(store, encoder)
    searcher = Searcher(store, loaded)
    searcher.search(WARM_UP, k=1)
    return SearchPipeline(store, searcher, judge, MODES if loaded else ("lexical",))


class SingleQueries:
    """An encoder for one query at a time, on one thread: several get into each other's way on a busy machine.

    The number of threads is set for the call only; the judge's batches use all of them.
    """

    def __init__(self, encoder: ItemEncoder) -> None:
        self._encoder = encoder
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of queries."""
        from goodrate.models.precision import torch_threads

        with torch_threads(1):
            return self._encoder.encode_queries(texts)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        """Vectors (N, D) of items."""
        return self._encoder.encode_items(texts)


def _load_encoder(store: Store, path: str | None) -> SingleQueries | None:
    """The encoder that made the index's vectors; none for an index of words only."""
    if store.fingerprint is None:
        return None
    from goodrate.models.encoder import Encoder

    where = path or store.about["encoder"]
    if where is None:
        raise ValueError(f"{store.path} does not say where its encoder lies; give it with --encoder")
    return SingleQueries(Encoder.load(where, longest=store.dimension))


def _load_contexts(store: Store, model: str | None, named: str, encoder: str | None) -> ContextFinder:
    """What finds the texts of queries. ValueError without a judge, or for one that reads none."""
    from goodrate.relevance.context import finder_for

    if model is None:
        raise ValueError(f"texts are given ({named}), and no judge to read them")
    return finder_for(model, named, store.all_items, encoder, store.path)


def load_judge(model: str, verdicts: Path | None, facts: Path | None, contexts: ContextFinder | None = None) -> Judging:
    """The judge of a folder, with the verdicts it has given before and the shop's facts."""
    from goodrate.relevance.facts import FactBook
    from goodrate.relevance.judge import Judge, Pair
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.serving.kept import KeptVerdicts

    judge = Judge.load(model)
    judge.probabilities([Pair(WARM_UP, "lamp"), Pair(WARM_UP, "chair")])  # checks its shared prefixes, keeps nothing
    kept = VerdictStore(verdicts) if verdicts else None
    return KeptVerdicts(judge, Path(model).name, kept, FactBook.load(facts) if facts else None, contexts)
