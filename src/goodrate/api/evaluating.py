"""Measure systems against judgements: every metric with an interval, every system against the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from goodrate.api.index import Index

if TYPE_CHECKING:
    from polars import DataFrame

    from goodrate.catalog.judgement_reports import JoinReport
    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.report import Report
    from goodrate.evaluation.run_file import RunFile
    from goodrate.evaluation.systems import SystemRuns, Task
    from goodrate.relevance.pairs import Item

CATALOG_DEPTH = 100  # results that a search gives when the whole index is searched
SYSTEMS = ("random", "lexical", "dense", "hybrid", "rules", "judge")
Tick = Callable[[], None]


@dataclass(frozen=True)
class Evaluation:
    """A report over systems, and how well a judge's labels agree with the judgements (None without a judge).

    dropped_queries: those of one grade that were left out. seen: how many queries a judge was trained on ("train") or
    tuned on ("dev"), and whether they were left out ("dropped"); None where no judge has seen any. runs: what was
    measured, one a system of the report. titles: item ids -> the titles of those that the index has.
    labels_by: the models that made the labels; none where people did.
    """

    report: Report
    join_report: JoinReport
    labels: dict[str, Any] | None = None
    dropped_queries: int = 0
    notes: tuple[str, ...] = ()
    seen: dict[str, Any] | None = None
    runs: tuple[SystemRuns, ...] = ()
    task: Task | None = None
    k: int = 10
    titles: Callable[[set[str]], dict[str, str]] = lambda ids: {}
    labels_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        from goodrate.evaluation.report import as_text

        return "\n".join([as_text(self.report), *self.footnotes()])

    def table(self) -> Any:
        """The report as a table for a terminal (rich)."""
        from goodrate.evaluation.report import as_table

        return as_table(self.report)

    def __getitem__(self, system: str) -> dict[str, float]:
        """Metric -> value of a system by name."""
        names = {one.name: one for one in self.report.systems}
        if system not in names:
            raise KeyError(f"no system {system!r}; measured: {', '.join(names)}")
        return {metric: interval.value for metric, interval in names[system].metrics.items()}

    def as_dict(self) -> dict[str, Any]:
        """All numbers as JSON."""
        from goodrate.evaluation.report import as_dict

        more = {"labels": self.labels, "seen_queries": self.seen, "labels_by": list(self.labels_by)}
        return as_dict(self.report) | {name: value for name, value in more.items() if value}

    def footnotes(self) -> list[str]:
        """What the table cannot show: gains, tests, what was left out, agreement of labels."""
        from goodrate.evaluation.report import footnotes

        by = [f"measured against labels made by {', '.join(self.labels_by)}, not by people"] if self.labels_by else []
        return [*by, *footnotes(self.report), *_label_lines(self.labels or {}), *self.notes]

    def write_plot(self, path: str | Path) -> None:
        """Write a picture (.png, .svg, .pdf): one panel per metric, one dot with its interval per system."""
        from goodrate.evaluation.plot import write_plot

        write_plot(self.report, Path(path))

    def per_query(self) -> DataFrame:
        """One row a query and system: query_id, query, system, results, judged_results, judged_items, the metrics."""
        from goodrate.evaluation.per_query import per_query

        assert self.task is not None
        return per_query(self.report, self.task, self.k)

    def write_per_query(self, path: str | Path) -> None:
        """Write per_query() as .csv or .parquet."""
        from goodrate.catalog.tables import write_table

        write_table(Path(path), self.per_query())

    def write_changes(self, path: str | Path, old: str, new: str, limit: int = 50) -> None:
        """Write an HTML page of the queries whose nDCG changed most from system old to system new.

        Raises ValueError for a system that was not measured, and for random orders, which have no one list.
        """
        from goodrate.evaluation.changes import write_changes

        assert self.task is not None
        write_changes(Path(path), self.report, self.runs, self.task, (old, new), self.k, self.titles, limit)


def read_run(path: str | Path) -> RunFile:
    """Another engine's results, a run in TREC's format, to give to evaluate among the systems."""
    from goodrate.evaluation import run_file

    return run_file.read_run(path)


def evaluate(
    systems: Sequence[Index | RunFile | str],
    judgements: Judgements,
    metrics: Sequence[str] | None = None,
    *,
    index: Index | None = None,
    judged_only: bool = False,
    drop_single_grade: bool = False,
    trained_queries: Literal["drop", "keep"] = "drop",
    k: int = 10,
    seed: int = 0,
    tick: Tick | None = None,
) -> Evaluation:
    """Measure systems on the queries of the judgements; the first is what the others are compared with.

    systems: indexes, with a judge or without, other engines' runs (read_run), and the names random, lexical, dense,
    hybrid, and rules: the search with the index's ranking rules, which no other system heeds. index: whose items are
    drawn and searched by these names; None = the first of systems. metrics: such as "ndcg@10", "mrr@10", "recall@100",
    "goodrate@10"; None = the usual ones at k. judged_only: every system orders the judged items of a query; else it
    searches the whole index, where what nobody judged counts as nothing (see the unjudged share). drop_single_grade:
    leave out queries whose judged items all have one label. trained_queries: "drop" leaves out, for all systems, the
    queries that a judge among them was trained or tuned on, and those nearly the same; "keep" measures them too and
    says how many they are. tick: called after each query.

    Raises ValueError when no judged item is in the index, no query is left, or a system cannot run.
    """
    from goodrate.evaluation.report import evaluate_systems
    from goodrate.evaluation.systems import Task

    judgements.require_one_kind()
    first = index or next((system for system in systems if isinstance(system, Index)), None)
    if first is None:
        raise ValueError("evaluate needs an index: among systems, or as index=")
    joined = judgements.join(first.items)
    queries, qrels = joined.queries(), joined.qrels()
    seen, told, queries = _unseen(systems, queries, trained_queries)
    kept = {q: text for q, text in queries.items() if not drop_single_grade or len(set(qrels[q].values())) > 1}
    if not kept:
        raise ValueError("every query has one grade only: without them nothing is left")
    task = Task(kept, {query_id: qrels[query_id] for query_id in kept}, judged_only, max(k, CATALOG_DEPTH))
    runs = _distinct([_run(system, first, task, queries, seed, tick or (lambda: None)) for system in systems])
    names = list(metrics) if metrics is not None else metric_names(k, judged_only)
    report = evaluate_systems(runs, task, joined.scale, names, k, seed)
    labels, notes = _label_agreement(systems, runs, joined, seed)
    assert joined.join_report is not None
    return Evaluation(
        report, joined.join_report, labels, len(queries) - len(kept), (*told, *notes), seen, tuple(runs), task, k,
        lambda ids: {item: row["title"] for item, row in _rows(first, ids & set(first.items.ids)).items()},
        joined.models,
    )  # fmt: skip


def _unseen(
    systems: Sequence[Index | RunFile | str], queries: dict[str, str], what: str
) -> tuple[dict[str, Any] | None, tuple[str, ...], dict[str, str]]:
    """How many queries the judges among the systems have seen, what is said of that, and the queries to measure.

    Raises ValueError when they have seen all and these are to be dropped.
    """
    from goodrate.relevance.seen_queries import PARTS, seen_queries

    if what not in ("drop", "keep"):
        raise ValueError(f"trained_queries {what!r}: expected 'drop' or 'keep'")
    judges = [one.judge for one in systems if isinstance(one, Index) and one.judge]
    folders = dict.fromkeys(judge.folder for judge in judges if judge.folder is not None)
    part_of: dict[str, str] = {}
    for folder in folders:
        part_of = {**part_of, **seen_queries(folder, queries)}
    if not part_of:
        return None, (), queries
    counts = {part: sum(own == part for own in part_of.values()) for part in PARTS}
    told = (
        f"{len(part_of):,} of {len(queries):,} queries, or ones nearly the same, were in the data of the judge "
        f"({', '.join(map(str, folders))}): {counts['train']:,} trained on, {counts['dev']:,} tuned on"
    )
    seen = {**counts, "dropped": what == "drop"}
    if what == "keep":
        return seen, (f"{told}. They are measured too: on new queries the judge is worse than this.",), queries
    left = {query_id: text for query_id, text in queries.items() if query_id not in part_of}
    if not left:
        raise ValueError(f"{told}. Give labels of other queries, or --trained-queries keep to measure these")
    return seen, (f"{told}. They are left out for all systems; --trained-queries keep measures them too.",), left


def metric_names(k: int, judged_only: bool) -> list[str]:
    """The metrics of a report. nDCG over the whole list means something only where the whole list is ordered.

    >>> metric_names(10, True)
    ['ndcg@10', 'ndcg', 'mrr@10', 'recall@10', 'goodrate@10']
    """
    whole = ["ndcg"] if judged_only else []
    deep = [] if judged_only or k >= CATALOG_DEPTH else [f"recall@{CATALOG_DEPTH}"]
    return [f"ndcg@{k}", *whole, f"mrr@{k}", f"recall@{k}", *deep, f"goodrate@{k}"]


def _run(
    system: Index | RunFile | str, index: Index, task: Task, judged: dict[str, str], seed: int, tick: Tick
) -> SystemRuns:
    """The runs of one system. judged: texts of all judged queries, those of the task among them."""
    from goodrate.evaluation.run_file import RunFile, run_system
    from goodrate.evaluation.systems import random_runs

    if isinstance(system, RunFile):
        return run_system(system, task, judged, index.items.ids)
    if isinstance(system, Index):
        return _index_runs(system, task, tick)
    if system == "random":
        runs = random_runs(task, [] if task.judged_only else index.items.ids, seed)
        for _ in task.queries:
            tick()
        return runs
    if system == "rules":
        return _ruled_runs(index, task, tick)
    if system not in ("lexical", "dense", "hybrid"):
        known = "random, lexical, dense, hybrid, rules"
        raise ValueError(f"unknown system {system!r}; accepted: an index, a run, {known}")
    plain = Index(index.store, index.encoder, as_typed=index.as_typed).in_mode(system)
    return replace(_index_runs(plain, task, tick), name=system)


def _index_runs(index: Index, task: Task, tick: Tick) -> SystemRuns:
    """An index, or a judge on the judged lists, or reranking what its own index finds."""
    from goodrate.evaluation.systems import judge_runs, search_runs

    mode = index.mode or index.modes[0]
    searcher = index.searcher
    if index.judge is None:
        return replace(search_runs(task, searcher, mode, tick), name=index.name)
    candidates = None if task.judged_only else search_runs(task, searcher, mode).runs[0]
    wanted = task.qrels if candidates is None else {q: dict(hits) for q, hits in candidates.items()}
    rows = _rows(index, {item for items in wanted.values() for item in items})
    name = index.judge.name if candidates is None else index.name
    people = index.overrules or (lambda query: {})
    return replace(judge_runs(task, index.judge, rows, candidates, tick, index.depth, people), name=name)


def _ruled_runs(index: Index, task: Task, tick: Tick) -> SystemRuns:
    """The index searched with its ranking rules, without a judge."""
    from goodrate.evaluation.systems import SystemRuns

    if task.judged_only:
        raise ValueError("system rules: ranking rules act on a whole search, not on the judged items of a query")
    if not index.rules:
        raise ValueError(f"system rules: {index.rules_file or index.store.path} has no ranking rules")
    run = {}
    for query_id, query in task.queries.items():
        found = index.search(query, task.depth, depth=0, group_by="none") if query.strip() else ()
        run[query_id] = [(result.item["id"], -float(result.rank)) for result in found]
        tick()
    return SystemRuns("rules", [run], (f"{len(index.rules.all())} ranking rules",))


def _rows(index: Index, ids: set[str]) -> dict[str, Item]:
    """Catalogue rows by id."""
    return {row["id"]: row for row in index.store.items(sorted(ids)).to_dicts()}


def _distinct(runs: list[SystemRuns]) -> list[SystemRuns]:
    """Systems with names of their own: a second "hybrid" is "hybrid 2"."""
    seen: dict[str, int] = {}
    named = []
    for one in runs:
        seen[one.name] = seen.get(one.name, 0) + 1
        named.append(one if seen[one.name] == 1 else replace(one, name=f"{one.name} {seen[one.name]}"))
    return named


def _label_agreement(
    systems: Sequence[Index | RunFile | str], runs: Sequence[SystemRuns], judgements: Judgements, seed: int
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The first judge's labels against the judgements, beside the constant label, and why there is no such thing."""
    from goodrate.evaluation.classification import classify, constant_label, with_intervals

    judged = [(one, ran) for one, ran in zip(systems, runs, strict=True) if isinstance(one, Index) and one.judge]
    if not judged:
        return None, ()
    theirs = judged[0][0].judge.scale  # type: ignore[union-attr]
    if theirs.name != judgements.scale.name or theirs.labels != judgements.scale.labels:
        named = f"the judge's are on scale {theirs.name}, these on {judgements.scale.name}"
        same = " with other labels" if theirs.name == judgements.scale.name else ""
        return None, (f"labels are not compared: {named}{same}.",)
    predicted = judged[0][1].labels
    keys = list(judgements.frame.select("query_id", "item_id").iter_rows())
    rows = [row for row, key in enumerate(keys) if key in predicted]
    if not rows:
        return None, ()
    gold, guess = judgements.label_indices()[rows], [predicted[keys[row]] for row in rows]
    constant = constant_label(gold)
    always = classify(gold, [constant] * len(gold), judgements.scale)
    queries = [keys[row][0] for row in rows]
    intervals = with_intervals(gold, guess, judgements.scale, queries, seed=seed, resamples=500)
    agreement = {
        "judge": classify(gold, guess, judgements.scale).as_dict(),
        "intervals": {name: interval.as_dict() for name, interval in intervals.items()},
        f"always {judgements.scale.labels[constant]}": always.as_dict(),
    }
    return agreement, ()


def _label_lines(labels: dict[str, Any]) -> list[str]:
    """How well the judge's labels agree with the judgements, and how well one constant label does."""
    lines = []
    for name, scores in labels.items():
        if name != "intervals":
            named = {key: scores[key] for key in ("accuracy", "macro_f1", "good_f1")}
            numbers = ", ".join(f"{key} {'-' if value is None else f'{value:.3f}'}" for key, value in named.items())
            lines.append(f"labels, {name}: {numbers}; {scores['pairs']} pairs, {scores['failed']} failed.")
    return lines
