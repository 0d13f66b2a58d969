"""Judge the results of known queries in advance, so that their searches wait for no judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.api.index import Index

Warmth = Callable[[int, int], None]  # (queries done, of how many)


@dataclass(frozen=True)
class WarmReport:
    """queries: how many were searched, of how many that were given. Their results: stored: were judged before; judged:
    are now; failed: of both, those without a verdict, which is remembered too. verdicts: in the file, all in all.
    """

    queries: int
    of: int
    stored: int
    judged: int
    failed: int
    verdicts: int

    def __str__(self) -> str:
        """One line."""
        failed = f" ({self.failed:,} of both without a verdict)" if self.failed else ""
        return (
            f"{self.queries:,} of {self.of:,} queries: {self.stored:,} results were judged before, {self.judged:,} now"
            f"{failed}; the file holds {self.verdicts:,} verdicts"
        )


def warm(
    index: Index | str | Path, queries: Iterable[str | tuple[str, float]] | str | Path, judge: str | Path | None = None,
    *, depth: int | None = None, verdicts: str | Path | None = None, max_minutes: float | None = None,
    progress: Warmth | None = None,
) -> WarmReport:  # fmt: skip
    """Judge the first `depth` results of each query into the verdict store that `serve` and `search` read.

    index: an index folder, or an open index with a judge that keeps verdicts. queries: texts, (text, count) pairs, or
    a query log (see read_query_log); the most frequent come first. judge: its folder. depth: as searches will have it,
    50 unless said. verdicts: the file, verdicts.sqlite in the index unless said. max_minutes: no query is begun after
    so long. What is stored is not judged again, so the same call goes on where one was stopped.

    Raises ValueError without a judge, without a query, and for a judge that keeps nothing.
    """
    from goodrate.relevance.verdict_store import VerdictStore

    listed = most_frequent(queries)
    if isinstance(index, str | Path):
        reranked = _reranked(Path(index), judge, verdicts, depth)
    elif judge is not None or verdicts is not None:
        raise ValueError("judge and verdicts are for the folder of an index; an open one has both: Index.rerank")
    else:
        reranked = index.but(judge_ms=None, depth=depth or index.depth)
    store = reranked.judge.store if reranked.judge is not None else None
    if not isinstance(store, VerdictStore):
        raise ValueError("no judge that keeps verdicts: name a judge's folder, or open_judge(FOLDER, store=FILE)")
    counts = _searched(reranked, listed, max_minutes, progress)
    return WarmReport(*counts, verdicts=sum(store.counts().values()))


def _searched(
    index: Index, queries: Sequence[str], max_minutes: float | None, progress: Warmth | None
) -> tuple[int, int, int, int, int]:
    """Search for the queries while there is time. Each search keeps its verdicts; the counts of WarmReport."""
    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    done = stored = judged = failed = 0
    for query in queries:
        if end is not None and time.monotonic() >= end:
            break
        response = index.search(query, k=1)
        stored += response.cached
        judged += response.live
        failed += response.failed
        done += 1
        if progress is not None:
            progress(done, len(queries))
    return done, len(queries), stored, judged, failed


def _reranked(folder: Path, judge: str | Path | None, verdicts: str | Path | None, depth: int | None) -> Index:
    from goodrate.api.index import Index
    from goodrate.api.serving import with_judge

    if judge is None:
        raise ValueError(f"{folder} is warmed with the verdicts of a judge, and none is named")
    return with_judge(Index.open(folder), str(judge), Path(verdicts) if verdicts else None, depth, must_keep=True)


def most_frequent(queries: Iterable[str | tuple[str, float]] | str | Path) -> list[str]:
    """Distinct queries, the most frequent first, else in the order of their list. Raises ValueError for none."""
    if isinstance(queries, str | Path):
        from goodrate.catalog.query_log import read_query_log

        queries = read_query_log(queries)
    counts: dict[str, float] = {}
    for one in queries:
        text, count = (one, 1.0) if isinstance(one, str) else one
        counts[text.strip()] = counts.get(text.strip(), 0.0) + count
    counts.pop("", None)
    if not counts:
        raise ValueError("no query to warm; expected one at least")
    return sorted(counts, key=lambda text: -counts[text])
