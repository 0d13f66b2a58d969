"""Which pairs to label next: those that teach a judge most, as a table for people or for goodrate label."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api.judging import JudgeRun
from goodrate.api.warming import most_frequent

if TYPE_CHECKING:
    import polars as pl

    from goodrate.api.index import Index
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pairs import Pair

Told = Callable[[int, int], None]  # (pairs judged, of how many)
WAY = "random"
DEPTH = 30  # results of a query among which pairs are picked


@dataclass(frozen=True)
class ToLabel:
    """The pairs to label, one a row: query, item_id, title, label (empty), and what the judge says of them.

    candidates: how many pairs they are picked from; labelled: how many were left out because they have a label; failed:
    because the judge gave none. silent: queries that nothing was found for.
    """

    frame: pl.DataFrame
    candidates: int
    labelled: int
    failed: int
    silent: int

    def __len__(self) -> int:
        return len(self.frame)

    def __str__(self) -> str:
        """One line."""
        queries = self.frame["query"].n_unique()
        left = f"{self.labelled:,} labelled ones left out"
        silent = f"; nothing was found for {self.silent:,} queries" if self.silent else ""
        failed = f"; no verdict on {self.failed:,}" if self.failed else ""
        return f"{len(self):,} pairs of {queries:,} queries, picked from {self.candidates:,} ({left}{failed}){silent}"

    def write(self, path: str | Path) -> None:
        """Write .csv, .jsonl or .parquet. In a csv, cells that begin as a formula does get a quote in front, which
        read_judgements and goodrate label take away again."""
        from goodrate.catalog.tables import write_table

        path = Path(path)
        write_table(path, self.frame)


def next_labels(
    judge: CalibratedJudge, queries: Iterable[str | tuple[str, float]] | str | Path, items: Catalog | Any = None,
    *, index: Index | None = None, count: int = 200, judgements: Judgements | None = None, depth: int = DEPTH,
    per_query: int | None = None, way: str = WAY, seed: int = 0, verdicts: str | Path | None = None,
    progress: Told | None = None,
) -> ToLabel:  # fmt: skip
    """The pairs of these queries and what a search finds for them whose labels would teach the judge most.

    queries: texts, (text, count) pairs or a query log. items: the catalogue, searched by words; or index: searched as
    it is. judgements: what is labelled already, left out. depth: results of a query that are looked at. per_query:
    pairs of one query at most; None = twice the even share, 3 at least. way: random, unsure, diverse or unsure_diverse
    (docs/next_labels.md says what each is worth). seed: of draws; equal seeds give equal tables. verdicts: the file
    that keeps the judge's verdicts. progress: told how many pairs are judged.

    Raises ValueError for no query, neither or both of items and index, another way, and when no pair is left.
    """
    from goodrate.relevance.label_picks import WAYS

    if way not in WAYS:
        raise ValueError(f"no way {way!r} to pick pairs; expected one of {', '.join(WAYS)}")
    if (items is None) == (index is None):
        raise ValueError("give items (a catalogue) or index, and not both")
    if count < 1 or depth < 1 or (per_query is not None and per_query < 1):
        raise ValueError(f"count {count}, depth {depth}, per_query {per_query}: expected 1 or more")
    asked = most_frequent(queries)
    with tempfile.TemporaryDirectory() as scratch:
        searched = index if index is not None else _word_index(Path(scratch) / "index", items)
        noted = judge if index is None or judge.notes is not None else judge.with_notes(index.notes(judge))
        found = [_candidates(searched, noted, query, depth) for query in asked]
        pairs, labelled = _unlabelled([pair for each in found for pair in each], judgements)
        silent = sum(not each for each in found)
        if not pairs:
            raise ValueError(f"no pair is left to label: {labelled:,} are labelled, {silent:,} queries find nothing")
        path = Path(verdicts) if verdicts is not None else Path(scratch) / "verdicts.sqlite"
        pairs, probabilities, failed = _judged(noted, pairs, path, progress)
    share = per_query or max(3, -(-2 * count // len(asked)))
    frame = _picked(noted, pairs, probabilities, (way, count, share, seed), judgements)
    return ToLabel(frame, len(pairs), labelled, failed, silent)


def _word_index(path: Path, items: Catalog | Any) -> Index:
    """An index without vectors."""
    from goodrate.api.index import Index

    return Index.create(path, items)


def _candidates(index: Index, judge: CalibratedJudge, query: str, depth: int) -> list[Pair]:
    """The pairs of a query and its first results, without the index's own judge."""
    hits = index.searcher.search(query, depth, mode=index.mode or index.modes[0])
    rows = index.store.items([hit.item_id for hit in hits]).to_dicts() if hits else []
    return judge.pairs(query, rows)


def _unlabelled(pairs: Sequence[Pair], judgements: Judgements | None) -> tuple[list[Pair], int]:
    """The pairs that have no label, and how many have one. Queries are the same in their normal form."""
    from goodrate.catalog.normal_form import normal_text

    if judgements is None:
        return list(pairs), 0
    known = {(normal_text(query), item) for query, item in judgements.frame.select("query", "item_id").iter_rows()}
    left = [pair for pair in pairs if (normal_text(pair.query), pair.item["id"]) not in known]
    return left, len(pairs) - len(left)


def _judged(
    judge: CalibratedJudge, pairs: list[Pair], path: Path, progress: Told | None
) -> tuple[list[Pair], Any, int]:
    """The pairs that the judge has a verdict on, its probabilities (N, L), and how many it failed on."""
    import numpy as np

    from goodrate.relevance.verdict_store import VerdictStore

    with VerdictStore(path) as store:
        verdicts = JudgeRun.plan(judge, store, pairs).finish(progress)
    kept = [(pair, verdict.probabilities) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.label]
    if not kept:
        raise ValueError(f"the judge has no verdict on any of {len(pairs):,} pairs: {verdicts[0].status}")
    return [pair for pair, _ in kept], np.asarray([row for _, row in kept]), len(pairs) - len(kept)


def _picked(
    judge: CalibratedJudge, pairs: Sequence[Pair], probabilities: Any, how: tuple[str, int, int, int],
    judgements: Judgements | None,
) -> pl.DataFrame:  # fmt: skip
    """The table of the pairs that are picked. how: way, count, per_query, seed."""
    import polars as pl

    from goodrate.catalog.normal_form import normal_text
    from goodrate.relevance.label_picks import distinct_pairs, pair_vectors, pick, unsureness

    way, count, per_query, seed = how
    texts = judge.inner.reads([pair.item for pair in pairs])
    rows = distinct_pairs([pair.query for pair in pairs], texts)
    of_rows = [pairs[row] for row in rows]
    unsure = unsureness(probabilities[rows], judge.scale)
    vectors = pair_vectors(judge.inner, of_rows) if "diverse" in way else None
    picks = pick(way, unsure, vectors, [pair.query for pair in of_rows], count, per_query, seed)
    seen = set() if judgements is None else {normal_text(query) for query in judgements.frame["query"].unique()}
    good = probabilities[rows][:, judge.scale.is_positive].sum(axis=1)
    table = {
        "query": [of_rows[place].query for place in picks],
        "item_id": [of_rows[place].item["id"] for place in picks],
        "title": [str(of_rows[place].item["title"]) for place in picks],
        "label": pl.Series([None] * len(picks), dtype=pl.String),
        "judge_label": [judge.scale.labels[int(probabilities[rows[place]].argmax())] for place in picks],
        "judge_good": [round(float(good[place]), 3) for place in picks],
        "judge_unsure": [round(float(unsure[place]), 3) for place in picks],
        "why": [_why(way, normal_text(of_rows[place].query) in seen) for place in picks],
    }
    return pl.DataFrame(table)


REASONS = {
    "random": "drawn at random",
    "unsure": "the judge is unsure",
    "diverse": "unlike the other picks",
    "unsure_diverse": "the judge is unsure, and it is unlike the other picks",
}


def _why(way: str, seen: bool) -> str:
    """Why a pair was picked, in words."""
    return f"{REASONS[way]}; {'a query with labels' if seen else 'a query without labels'}"
