"""goodrate evaluate: measure systems against judgements."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.context_input import require_contexts
from goodrate.cli.outputs import require_folder
from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.report import Report
    from goodrate.evaluation.systems import SystemRuns, Task
    from goodrate.relevance.judge import Judge
    from goodrate.retrieval.search import Searcher
    from goodrate.retrieval.store import Store

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)

CATALOG_DEPTH = 100  # results that a search gives when the whole index is searched

HELP = """Measure systems against judgements: every metric with an interval, every system against the first.

With --judged-only each system orders the judged items of a query; without it each searches the whole index, and what
nobody judged counts as nothing (see the unjudged column before believing such numbers).

Examples:

  goodrate evaluate shop-index --judgements labels.csv

  goodrate evaluate shop-index --judgements ratings.csv --map item_id=docid --scale graded_0_3 --judged-only

  goodrate evaluate shop-index --judgements labels.csv --systems lexical,judge --model runs/judge/judge --plot a.png
"""


class SingleGrade(StrEnum):
    """What to do with queries whose judged items all have one label."""

    keep = "keep"
    drop = "drop"


@app.command(help=HELP)
def evaluate(
    index: Annotated[Path, typer.Argument(help="The folder that goodrate index made.")],
    judgements: Annotated[Path, typer.Option(help="Labels: query, item_id, label, and query_id if there is one.")],
    scale: Annotated[str, typer.Option(help="four_level, esci, esci_swapped, wands or graded_0_3.")] = "four_level",
    format: Annotated[str | None, typer.Option(help="esci, wands or chorus.", show_default=False)] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for their columns: item_id=docid,label=rating.", show_default=False)
    ] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")] = 0,
    systems: Annotated[
        str | None, typer.Option(help="From random,lexical,dense,hybrid,judge. Default: all there are.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A judge's folder, for the system judge.")] = None,
    facts: Annotated[Path | None, typer.Option(help="A facts.jsonl for the judge: what is known of queries.")] = None,
    contexts: Annotated[
        str | None,
        typer.Option(help='Texts for a judge that reads some: a file (id, text), or "items" of INDEX.'),
    ] = None,
    context_encoder: Annotated[str | None, typer.Option(help="Encoder to find texts with; none = by words.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Where the index's encoder lies, if it has moved.")] = None,
    judged_only: Annotated[bool, typer.Option("--judged-only", help="Order the judged items only.")] = False,
    single_grade: Annotated[
        SingleGrade, typer.Option(help="Queries whose judged items all have one label: no order changes them.")
    ] = SingleGrade.keep,
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=1_000_000, help="Cut-off of the metrics.")] = 10,
    seed: Annotated[int, typer.Option(help="Of random orders, intervals and tests.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (.png, .svg, .pdf).")] = None,
) -> None:
    """See HELP."""
    from goodrate.evaluation.report import evaluate_systems
    from goodrate.retrieval.store import Store
    from goodrate.scale import get_scale

    check_plot(plot)
    store = Store.open(index)
    names = chosen_systems(systems, store.fingerprint is not None, model)
    given = {"--model": model, "--contexts": contexts, "--context-encoder": context_encoder}
    unread = [name for name, value in given.items() if value is not None]
    if unread and "judge" not in names:
        raise ValueError(f"{unread[0]} is for the system judge, which is not measured; the systems: {', '.join(names)}")
    require_contexts(contexts, context_encoder)
    if contexts is not None and model is not None:
        from goodrate.relevance.context import require_text_reader

        require_text_reader(model, contexts)
    labels = _judgements(judgements, store, scale, format, map, skip_bad)
    task = _task(labels, judged_only, single_grade is SingleGrade.drop, max(k, CATALOG_DEPTH))
    runs = _runs(names, task, store, Options(model, facts, encoder, seed, contexts, context_encoder))
    report = evaluate_systems(runs, task, get_scale(scale), metric_names(k, judged_only), k, seed)
    judged = _classified(runs, labels, seed)
    if plot is not None:
        from goodrate.evaluation.plot import write_plot

        write_plot(report, plot)
    _show(report, judged, as_json)


@dataclass(frozen=True)
class Options:
    """What the systems need besides the index."""

    model: Path | None
    facts: Path | None
    encoder: str | None
    seed: int
    contexts: str | None
    context_encoder: str | None


def check_plot(path: Path | None) -> None:
    """Before an hour of work and not after: ValueError for a suffix that is no picture or a place that is no folder,
    MissingExtra where nothing can draw.
    """
    if path is None:
        return
    require("plots", "--plot")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot {path}: expected a name that ends in .png, .svg or .pdf")
    require_folder("--plot", path.parent)


def chosen_systems(text: str | None, has_vectors: bool, model: Path | None) -> list[str]:
    """The systems to run, in the given order. Raises ValueError for an unknown one or one that lacks what it needs.

    >>> chosen_systems(None, False, None)
    ['random', 'lexical']
    """
    from goodrate.evaluation.systems import SYSTEMS

    lacking = {} if has_vectors else dict.fromkeys(("dense", "hybrid"), "the index has no vectors")
    lacking |= {} if model else {"judge": "give its folder with --model"}
    if text is None:
        return [name for name in SYSTEMS if name not in lacking]
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in SYSTEMS:
            raise ValueError(f"--systems: unknown system {name!r}; accepted: {', '.join(SYSTEMS)}")
        if name in lacking:
            raise ValueError(f"--systems: {name} cannot run: {lacking[name]}")
    if not names:
        raise ValueError(f"--systems names none; accepted: {', '.join(SYSTEMS)}")
    return names


def metric_names(k: int, judged_only: bool) -> list[str]:
    """The metrics of a report. nDCG over the whole list means something only where the whole list is ordered.

    >>> metric_names(10, True)
    ['ndcg@10', 'ndcg', 'mrr@10', 'recall@10', 'goodrate@10']
    """
    whole = ["ndcg"] if judged_only else []
    deep = [] if judged_only or k >= CATALOG_DEPTH else [f"recall@{CATALOG_DEPTH}"]
    return [f"ndcg@{k}", *whole, f"mrr@{k}", f"recall@{k}", *deep, f"goodrate@{k}"]


def _judgements(path: Path, store: Store, scale: str, format: str | None, map: str | None, skip_bad: int) -> Judgements:
    """The judgements of items that the index has; what was lost is said."""
    from goodrate.catalog.judgements import read_judgements
    from goodrate.catalog.problems import describe
    from goodrate.cli.index import parse_mapping
    from goodrate.scale import get_scale

    read = read_judgements(path, get_scale(scale), format, parse_mapping(map), skip_bad)
    for line in describe(path, read.skipped):
        console.print(f"  {escape(line)}", highlight=False)
    joined, report = read.join(store.all_items())
    console.print(str(report), highlight=False)
    return joined


def _task(labels: Judgements, judged_only: bool, drop_single: bool, depth: int) -> Task:
    """What to rank. Raises ValueError when no query is left."""
    from goodrate.evaluation.systems import Task

    qrels, queries = labels.qrels(), labels.queries()
    if drop_single:
        queries = {query_id: text for query_id, text in queries.items() if len(set(qrels[query_id].values())) > 1}
        console.print(f"{len(qrels) - len(queries)} of {len(qrels)} queries have one grade only and are left out")
        if not queries:
            raise ValueError("every query has one grade only: with --single-grade drop nothing is left")
    return Task(queries, {query_id: qrels[query_id] for query_id in queries}, judged_only, depth)


def _runs(names: list[str], task: Task, store: Store, options: Options) -> list[SystemRuns]:
    """All systems, with progress. What reads an encoder or a judge is loaded when it is needed."""
    from goodrate.evaluation.systems import random_runs, search_runs

    searcher = _searcher(store, options.encoder, {"dense", "hybrid"} & set(names) or names == ["judge"])
    made: dict[str, SystemRuns] = {}
    with _progress(len(task.queries) * len(names)) as tick:
        for name in names:
            if name == "random":
                made[name] = random_runs(task, [] if task.judged_only else store.all_items().ids, options.seed)
                tick(len(task.queries))
            elif name == "judge":
                made[name] = _judge(task, store, searcher, options, tick)
            else:
                made[name] = search_runs(task, searcher, name, lambda: tick(1))
    return list(made.values())


def _searcher(store: Store, encoder: str | None, dense: Any) -> Searcher:
    from goodrate.cli.index import load_encoder
    from goodrate.retrieval.search import Searcher

    needed = bool(dense) and store.fingerprint is not None
    return Searcher(
        store, load_encoder(encoder or store.about["encoder"], threads=1, longest=store.dimension) if needed else None
    )


def _judge(task: Task, store: Store, searcher: Searcher, options: Options, tick: Callable[[int], None]) -> SystemRuns:
    """The judge on the judged lists, or reranking what the index finds."""
    from goodrate.evaluation.systems import judge_runs, search_runs
    from goodrate.relevance.facts import FactBook
    from goodrate.relevance.judge import Judge
    from goodrate.relevance.pair_file import item_texts

    assert options.model is not None
    judge = Judge.load(options.model)
    candidates = None
    if not task.judged_only:
        candidates = search_runs(task, searcher, "hybrid" if searcher.encoder else "lexical").runs[0]
    wanted = {item for items in task.qrels.values() for item in items} if candidates is None else {
        item for found in candidates.values() for item, _ in found
    }  # fmt: skip
    ids = sorted(wanted)
    texts = dict(zip(ids, item_texts(store.items(ids), judge.card.item_form), strict=True))
    known = FactBook.load(options.facts).of if options.facts else (lambda query: "")
    return judge_runs(task, judge, texts, candidates, known, lambda: tick(1), _context(judge, store, options))


def _context(judge: Judge, store: Store, options: Options) -> Callable[[str], str | None]:
    """What gives a query the text that the judge reads beside it."""
    count = judge.card.contexts
    if options.contexts is None:
        if count:
            console.print("every query is judged without a text; this judge reads some: --contexts FILE")
        return lambda query: None
    from goodrate.relevance.context import finder_for

    assert options.model is not None
    finder = finder_for(options.model, options.contexts, store.all_items, options.context_encoder)
    return lambda query: finder.line(query, count)


def _classified(runs: list[SystemRuns], labels: Judgements, seed: int) -> dict[str, Any] | None:
    """A judge's labels against the judgements it shares a scale with, beside the constant label."""
    from goodrate.evaluation.classification import classify, constant_label, with_intervals

    predicted = next((system.labels for system in runs if system.labels), None)
    if predicted is None:
        return None
    keys = list(labels.frame.select("query_id", "item_id").iter_rows())
    rows = [row for row, key in enumerate(keys) if key in predicted]
    if not rows:
        return None
    gold = labels.label_indices()[rows]
    guess = [predicted[keys[row]] for row in rows]
    if max(guess) >= len(labels.scale):
        return None
    constant = constant_label(gold)
    always = classify(gold, [constant] * len(gold), labels.scale)
    intervals = with_intervals(gold, guess, labels.scale, [keys[row][0] for row in rows], seed=seed, resamples=500)
    return {
        "judge": classify(gold, guess, labels.scale).as_dict(),
        "intervals": {name: interval.as_dict() for name, interval in intervals.items()},
        f"always {labels.scale.labels[constant]}": always.as_dict(),
    }


def _show(report: Report, judged: dict[str, Any] | None, as_json: bool) -> None:
    """The report on stdout, as a table or as JSON."""
    from goodrate.evaluation.report import as_dict, as_table, footnotes

    if as_json:
        document = as_dict(report) | ({"labels": judged} if judged else {})
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    out = Console()
    out.print(as_table(report))
    for line in [*footnotes(report), *_label_lines(judged or {})]:
        out.print(escape(line), style="dim", highlight=False)


def _label_lines(judged: dict[str, Any]) -> Iterator[str]:
    """How well the judge's labels agree with the judgements, and how well one constant label does."""
    for name, found in judged.items():
        if name != "intervals":
            numbers = ", ".join(f"{key} {found[key]:.3f}" for key in ("accuracy", "macro_f1", "good_f1"))
            yield f"labels, {name}: {numbers}; {found['pairs']} pairs, {found['failed']} failed."


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over queries on stderr; nothing where stderr is no terminal."""
    if not console.is_terminal:
        yield lambda count: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        number = bar.add_task("queries", total=total)
        yield lambda count: bar.update(number, advance=count)


command = typer.main.get_command(app)
