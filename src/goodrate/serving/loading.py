"""Open everything that a search server needs, once: the index, its encoder, the judge and the kept verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.serving.judging import Judging
from goodrate.serving.pipeline import MODES, SearchPipeline

if TYPE_CHECKING:
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.store import Store


def load_pipeline(
    index: Path,
    model: str | None = None,
    encoder: str | None = None,
    verdicts: Path | None = None,
    facts: Path | None = None,
) -> SearchPipeline:
    """The pipeline over an index folder.

    model: a judge's folder; None = search without verdicts. encoder: where the index's encoder lies, if it has moved.
    verdicts: the SQLite file of kept verdicts, made when absent; None = verdicts are not kept. facts: a facts.jsonl
    (relevance.facts); None or an absent file = no facts.
    Raises FileNotFoundError and ValueError for a folder that is not what it should be.
    """
    from goodrate.retrieval.search import Searcher
    from goodrate.retrieval.store import Store

    store = Store.open(index)
    judge = load_judge(model, verdicts, facts) if model else None
    loaded = _load_encoder(store, encoder)
    return SearchPipeline(store, Searcher(store, loaded), judge, MODES if loaded else ("lexical",))


def _load_encoder(store: Store, path: str | None) -> Encoder | None:
    """The encoder that made the index's vectors; none for an index of words only."""
    if store.fingerprint is None:
        return None
    from goodrate.models.encoder import Encoder

    where = path or store.about["encoder"]
    if where is None:
        raise ValueError(f"{store.path} does not say where its encoder lies; give it with --encoder")
    return Encoder.load(where)


def load_judge(model: str, verdicts: Path | None, facts: Path | None) -> Judging:
    """The judge of a folder, with the verdicts it has given before and the shop's facts."""
    from goodrate.relevance.facts import FactBook
    from goodrate.relevance.judge import Judge
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.serving.kept import KeptVerdicts

    judge = Judge.load(model)
    kept = VerdictStore(verdicts) if verdicts else None
    return KeptVerdicts(judge, Path(model).name, kept, FactBook.load(facts) if facts else None)
