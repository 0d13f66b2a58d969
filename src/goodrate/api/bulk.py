"""Bulk work on a Ray cluster or on several processes here: judging, encoding, labelling, finding entities."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.api.judging import ItemSource, JudgeRun, noted_pairs, notices, verdict_counts, verdict_frame

PART_ROWS = 200_000  # of a pair file

if TYPE_CHECKING:
    from goodrate.api.endpoints import Endpoint
    from goodrate.api.index import Index
    from goodrate.api.labelling import LabelTask
    from goodrate.bulk.cluster import Cluster
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.pairs import Pair
    from goodrate.relevance.verdict_store import VerdictStore


@contextlib.contextmanager
def ray_cluster(address: str) -> Iterator[Cluster]:
    """Workers to work on until the block ends. address: local, local:N, auto, HOST:PORT or ray://HOST:PORT.

    A process that has called ray.init works there. Raises MissingExtra without Ray; ValueError for another address,
    where no cluster answers, and where its workers lack this goodrate.
    """
    from goodrate.bulk.cluster import Place, cluster

    with cluster(Place.of(address)) as opened:
        yield opened


@contextlib.contextmanager
def workers(address: str | None) -> Iterator[Cluster | None]:
    """ray_cluster where an address is given, else None."""
    with contextlib.nullcontext() if address is None else ray_cluster(address) as cluster:
        yield cluster


def encoding_on(index: Index, cluster: Cluster | None) -> Index:
    """The same index, whose items are encoded by the workers of a cluster; as it is without one.

    Raises ValueError for an index without an encoder, or of one that lies nowhere.
    """
    from goodrate.bulk.encoding import ClusterEncoder
    from goodrate.retrieval.manifest import encoder_place

    if cluster is None:
        return index
    remembered = index.store.manifest.encoder
    if index.encoder is None or remembered is None:
        raise ValueError(
            "--ray shares out the work of an encoder, and this index has none; leave it out"
        )
    return index.but(encoder=ClusterEncoder(index.encoder, cluster, encoder_place(index.store.path, remembered)))


def ask_on(cluster: Cluster, task: LabelTask, asked: Endpoint, told: Callable[[int], None] | None = None) -> int:
    """Have workers ask for the labels of a task that are not kept, and keep them; returns how many were asked for.

    LabelTask.ask then finds them. asked.concurrency is of each worker, and caps are shared out between them equally.
    """
    from goodrate.bulk.asking import Address, ask
    from goodrate.teaching.answer_store import AnswerStore

    prompts, done = asked.unpaid(task.messages), 0
    caps = _shares(asked, task, cluster.workers)
    key = os.environ.get(asked.key_env, "") if asked.key_env else ""
    address = Address(str(asked.url), str(asked.model), key, asked.max_answer_tokens, asked.concurrency, asked.timeout,
                      asked.prices, *caps)  # fmt: skip
    with AnswerStore(asked.answers) as store:
        for count in ask(cluster, address, task.prompt.scale, prompts, store):
            done += count
            if told is not None:
                told(done)
    return done


def _shares(asked: Endpoint, task: LabelTask, count: int) -> tuple[int | None, float | None]:
    """What each worker may spend in tokens and money of what the kept answers have left."""
    from goodrate.teaching.answer_store import AnswerStore, answer_key

    keys = [answer_key(one, str(asked.model), str(asked.url).rstrip("/"), asked.max_answer_tokens)
            for one in task.messages]  # fmt: skip
    with AnswerStore(asked.answers) as store:
        spent = store.spent(keys)
    tokens = None if asked.max_tokens_total is None else max(0, asked.max_tokens_total - sum(spent)) // count
    cost = None if asked.max_cost is None else max(0.0, asked.max_cost - asked.prices.cost(*spent)) / count
    return tokens, cost


@dataclass
class BulkJudging:
    """The work on a pair file of any length: a part at a time is read, judged by workers and stored here.

    folder: the judge's, which every worker can read. options: see JudgeRun.plan. rows: of a part of a parquet file; the
    workers load the judge for each. told: called with each part. The numbers are of the parts that were begun: pairs
    with an item, those to judge, and distinct queries without a text.
    """

    path: Path
    source: ItemSource
    judge: CalibratedJudge
    folder: str
    store: VerdictStore
    options: Mapping[str, bool] = field(default_factory=dict)
    map: Mapping[str, str] | None = None
    skip_bad: int = 0
    rows: int = PART_ROWS
    told: Callable[[PairFile], None] = lambda table: None
    pairs: int = 0
    pending: int = 0
    without_text: int = 0

    def work(self, cluster: Cluster) -> Iterator[int]:
        """Judge what has no verdict, each distinct pair once; gives how many pairs were stored, block by block."""
        from goodrate.bulk.judging import Work, judged

        reasons = bool(self.options.get("reasons") and not self.options.get("missing"))
        for table, pairs in self._parts():
            self.told(table)
            run = JudgeRun.plan(self.judge, self.store, pairs, **self.options)
            self.pairs += len(pairs)
            self.pending += run.pending
            self.without_text += len({pair.query for pair in pairs if not pair.context})
            stored = self.store.get_many(run.keys)
            named = [[Work(run.keys[n], pairs[n], stored.get(run.keys[n])) for n in block] for block in run.blocks]
            for verdicts in judged(cluster, self.folder, named, reasons):
                self.store.put_many(verdicts)
                yield len(verdicts)

    def write(self, out: Path) -> BulkVerdicts:
        """Write the verdicts of all rows from the store: the whole file (.csv or .jsonl), or none."""
        from goodrate.bulk.growing_file import growing_file

        done = BulkVerdicts()
        with growing_file(out) as append:
            for table, pairs in self._parts():
                verdicts = JudgeRun.plan(self.judge, self.store, pairs).verdicts()
                append(verdict_frame(table, verdicts, self.judge.scale))
                for total, counted in zip((done.tiers, done.failures, done.notes),
                                          verdict_counts(table, verdicts), strict=True):  # fmt: skip
                    total.update(counted)
                done.notices.update(dict.fromkeys(notices(self.judge.inner, pairs, verdicts)))
        return done

    def _parts(self) -> Iterator[tuple[PairFile, list[Pair]]]:
        """The parts of the file, and of each the pairs that can be judged."""
        from goodrate.relevance.pair_parts import read_pair_parts

        source = self.source
        find = source.find if source.catalog is not None or source.index is not None else None
        mapping = dict(self.map) if self.map else None
        for table in read_pair_parts(self.path, mapping, find, self.skip_bad, self.rows):
            yield table, noted_pairs(table, self.judge.notes)[0]


@dataclass
class BulkVerdicts:
    """What was written. tiers: how many rows each has; failures, by status; what else has to be said, with its count.

    notices: of a part's verdicts as a whole, see relevance.notices.
    """

    tiers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    notices: dict[str, None] = field(default_factory=dict)
