"""Pairs judged by workers: what goes out, what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from goodrate.bulk.cluster import Cluster, whole_path

if TYPE_CHECKING:
    import pyarrow as pa

    from goodrate.relevance.pairs import Pair
    from goodrate.relevance.verdicts import Verdict


class Work(NamedTuple):
    """A pair to judge. stored: what is stored of it, None for nothing."""

    key: str
    pair: Pair
    stored: Verdict | None = None


def judged(
    cluster: Cluster, folder: str, blocks: Iterable[list[Work]], reasons: bool = False
) -> Iterator[dict[str, Verdict]]:
    """The verdicts of each block by key, as the blocks are done. folder: the judge's, which every worker can read."""
    for table in cluster.stream([_block(block) for block in blocks], JudgeWorker, (whole_path(folder), reasons)):
        yield _verdicts(table)


class JudgeWorker:
    """A judge in a process of its own."""

    def __init__(self, folder: str, reasons: bool) -> None:
        from goodrate.relevance.judge import open_judge

        self.judge, self.reasons = open_judge(folder), reasons

    def __call__(self, block: pa.Table) -> pa.Table:
        """The verdicts of a block of work."""
        import pyarrow as pa

        from goodrate.relevance.judge import new_verdicts

        work = {one.key: (one.pair, one.stored) for one in map(_work, block.to_pylist())}
        new = new_verdicts(self.judge, work, self.reasons)
        return pa.Table.from_pylist([_verdict_row(key, verdict) for key, verdict in new.items()], _verdict_schema())


def _block(work: list[Work]) -> pa.Table:
    """A table of work; items are JSON, which gives every value back."""
    import pyarrow as pa

    rows = [
        {
            "key": one.key, "query": one.pair.query, "item": json.dumps(dict(one.pair.item)), "facts": one.pair.facts,
            "context": one.pair.context, "stored": one.stored and json.dumps(_verdict_row(one.key, one.stored)),
        }
        for one in work
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]]))


def _work(row: Mapping[str, Any]) -> Work:
    from goodrate.relevance.pairs import Pair
    from goodrate.relevance.verdict_store import COLUMNS, verdict_of_row

    stored = json.loads(row["stored"]) if row["stored"] else None
    pair = Pair(row["query"], json.loads(row["item"]), row["facts"], row["context"])
    return Work(row["key"], pair, verdict_of_row(tuple(stored[name] for name in COLUMNS)) if stored else None)


def _verdict_row(key: str, verdict: Verdict) -> dict[str, Any]:
    from goodrate.relevance.verdict_store import COLUMNS, verdict_row

    return dict(zip(COLUMNS, verdict_row(key, verdict), strict=True))


def _verdict_schema() -> pa.Schema:
    import pyarrow as pa

    from goodrate.relevance.verdict_store import COLUMNS

    others = {"expected_gain": pa.float64(), "item_cut": pa.int64(), "written": pa.float64(), "used": pa.float64()}
    return pa.schema([(name, others.get(name, pa.string())) for name in COLUMNS])


def _verdicts(table: pa.Table) -> dict[str, Verdict]:
    from goodrate.relevance.verdict_store import COLUMNS, verdict_of_row

    return {row["key"]: verdict_of_row(tuple(row[name] for name in COLUMNS)) for row in table.to_pylist()}
