"""Judge the results of known queries in advance, so that their searches wait for no judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.api.index import Index
    from goodrate.catalog.items import Catalog

Filled = Callable[[str], int]  # verdicts on entities that were computed for a query
PART = 5_000  # items that are read together
Warmth = Callable[[int, int], None]  # (queries done, of how many)


@dataclass(frozen=True)
class EntityFill:
    """What was filled of a judge of entities. entities: for each query, the types that it can want included; share:
    of the entities of all items. computed: verdicts that the model was asked for; the others were kept.
    """

    entities: int
    share: float
    computed: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"verdicts on {self.entities:,} entities a query, {self.share:.1%} of what items hold: "
            f"{self.computed:,} computed now"
        )


@dataclass(frozen=True)
class WarmReport:
    """queries: how many were searched, of how many that were given. Their results: stored: were judged before; judged:
    are now; failed: of both, those without a verdict, which is remembered too. verdicts: in the file, all in all.
    filled: of a judge of entities, where that was asked for.
    """

    queries: int
    of: int
    stored: int
    judged: int
    failed: int
    verdicts: int
    filled: EntityFill | None = None

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
    progress: Warmth | None = None, entities: int | None = None,
) -> WarmReport:  # fmt: skip
    """Judge the first `depth` results of each query into the verdict store that `serve` and `search` read.

    index: an index folder, or an open index with a judge that keeps verdicts. queries: texts, (text, count) pairs, or
    a query log (see read_query_log); the most frequent come first. judge: its folder. depth: as searches will have it,
    50 unless said. verdicts: the file, verdicts.sqlite in the index unless said. max_minutes: no query is begun after
    so long. What is stored is not judged again, so the same call goes on where one was stopped. entities: of a judge of
    entities, the verdicts on so many entities that most items have (0 = all) are computed for each query too: they hold
    whatever items come, and whatever an editor overrules.

    Raises ValueError without a judge, without a query, for a judge that keeps nothing, and for entities of another one.
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
    fill, told = _filling(reranked, entities) if entities is not None else (lambda query: 0, None)
    report, computed = _searched(reranked, listed, max_minutes, progress, fill)
    filled = replace(told, computed=computed) if told is not None else None
    return replace(report, verdicts=sum(store.counts().values()), filled=filled)


def _filling(index: Index, entities: int) -> tuple[Filled, EntityFill]:
    """What fills the verdicts of a query, and the report so far. Raises ValueError for a judge of another kind."""
    from goodrate.relevance.entity_filling import filled, most_shared
    from goodrate.relevance.entity_judge import EntityJudge

    judge = index.judge
    if judge is None or not isinstance(judge.inner, EntityJudge):
        raise ValueError(f"{judge.name if judge else 'this'} is no judge of kind entity, which alone has entities")
    if judge.inner.kept.cache is None:
        raise ValueError(f"{judge.folder} cannot be written to, so that nothing would be kept")
    kept = judge.inner.kept
    numbers, share = most_shared(judge.inner.table, _parts(index.items), entities)
    return lambda query: filled(kept, query, numbers), EntityFill(len(numbers), share, 0)


def _parts(items: Catalog) -> Iterable[list[dict[str, object]]]:
    return (part.to_dicts() for part in items.frame.iter_slices(PART))


def _searched(
    index: Index, queries: Sequence[str], max_minutes: float | None, progress: Warmth | None, fill: Filled
) -> tuple[WarmReport, int]:
    """Search for the queries while there is time. Each search keeps its verdicts. The report but for what the file
    holds, and how many verdicts `fill` has computed.
    """
    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    done = stored = judged = failed = computed = 0
    for query in queries:
        if end is not None and time.monotonic() >= end:
            break
        computed += fill(query)
        response = index.search(query, k=1)
        stored += response.cached
        judged += response.live
        failed += response.failed
        done += 1
        if progress is not None:
            progress(done, len(queries))
    return WarmReport(done, len(queries), stored, judged, failed, verdicts=0), computed


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
