"""goodrate evaluate: measure systems against judgements."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import (
    ContextEncoder,
    Contexts,
    Encoder,
    Facts,
    IndexArgument,
    LabelFormat,
    LabelMap,
    MergeRule,
    Mode,
    Queries,
    Raters,
    Rules,
    ScaleName,
    SkipBad,
    WhoseLabels,
)
from goodrate.cli.terminal import (
    column_names,
    console,
    parse_mapping,
    print_table,
    report_warnings,
    require_file_name,
    tell_judgements,
    tick_progress,
    verb_app,
)
from goodrate.extras import require
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate import CalibratedJudge, Judgements
    from goodrate.api.evaluating import Evaluation, RunFile
    from goodrate.api.index import Index

app = verb_app()
SYSTEMS = ("random", "lexical", "dense", "hybrid", "rules", "judge")
ON_REQUEST = ("rules",)  # of these, measured only when they are named

HELP = """Measure systems against judgements: every metric with an interval, every system against the first.

With --judged-only each system orders the judged items of a query; without it each searches the whole index, and what
nobody judged counts as nothing (see the unjudged column before believing such numbers). The system judge reranks the
first results of --rerank, whatever other systems are named; it is told the facts and texts in INDEX. Queries
that it was trained or tuned on, as its folder says, are left out for all systems (--trained-queries keep: not).
No system heeds the shop's ranking rules but one, rules, which is measured only when it is named.

Labels that a model made (raters called "model:...", as goodrate label writes them) are left out; --labels-by model
measures against them alone, and says so. No table mixes them with people's.

--run takes another engine's results (TREC: query id or text, Q0, item id, rank, score, tag) as a system of the file's
name; --systems can name it too, to put it first. --changes writes a page of the queries that changed most.

Examples:

  goodrate evaluate shop-index --judgements labels.csv

  goodrate evaluate shop-index --judgements ratings.csv --map item_id=docid --scale graded_0_3 --judged-only

  goodrate evaluate shop-index --judgements labels.csv --systems lexical,judge --model runs/judge/judge --plot a.png

  goodrate evaluate shop-index --judgements qrels.txt --queries topics.tsv --run engine.trec --per-query all.csv

  goodrate evaluate shop-index --judgements labels.csv --run engine.trec --systems engine,hybrid --changes page.html
"""


JudgementsFile = Annotated[Path, typer.Option(help="Labels: query, item_id, label, and query_id if there is one.")]
Runs = Annotated[
    list[Path] | None, typer.Option(help="Another engine's results, a TREC run; may come again.", show_default=False)
]
Systems = Annotated[
    str | None,
    typer.Option(help="From random,lexical,dense,hybrid,rules,judge and the names of runs. Default: all but rules."),
]
JudgeFolder = Annotated[Path | None, typer.Option(help="A judge's folder, for the system judge.")]
Reranked = Annotated[
    Mode | None, typer.Option(help="What the judge reranks. Default: hybrid, or lexical without vectors.")
]
Depth = Annotated[int, typer.Option(min=1, help="Results that the judge reranks.")]
JudgedOnly = Annotated[bool, typer.Option("--judged-only", help="Order the judged items only.")]
SingleGrade = Annotated[
    Literal["keep", "drop"], typer.Option(help="Queries whose judged items all have one label: no order changes them.")
]
TrainedQueries = Annotated[
    Literal["drop", "keep"],
    typer.Option(help="Queries that the judge was trained or tuned on: leave them out for all systems, or not."),
]
Cutoff = Annotated[int, typer.Option("-k", "--k", min=1, max=1000000, help="Cut-off of the metrics.")]
Seed = Annotated[int, typer.Option(help="Of random orders, intervals and tests.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Plot = Annotated[Path | None, typer.Option(help="Write a picture (.png, .svg, .pdf).")]
PerQuery = Annotated[Path | None, typer.Option(help="Write every query's numbers (.csv, .parquet).")]
Changes = Annotated[
    Path | None, typer.Option(help="Write a page of the queries that changed most between two systems (.html).")
]
Compare = Annotated[
    str | None, typer.Option(help="The two systems of --changes, old,new. Default: the only two measured.")
]


@app.command(help=HELP)
def evaluate(
    index: IndexArgument,
    judgements: JudgementsFile,
    scale: ScaleName = None,
    format: LabelFormat = None,
    map: LabelMap = None,
    queries: Queries = None,
    raters: Raters = None,
    merge: MergeRule = None,
    labels_by: WhoseLabels = "people",
    skip_bad: SkipBad = 0,
    run: Runs = None,
    systems: Systems = None,
    model: JudgeFolder = None,
    rerank: Reranked = None,
    depth: Depth = 50,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    encoder: Encoder = None,
    rules: Rules = None,
    judged_only: JudgedOnly = False,
    single_grade: SingleGrade = "keep",
    trained_queries: TrainedQueries = "drop",
    k: Cutoff = 10,
    seed: Seed = 0,
    as_json: AsJson = False,
    plot: Plot = None,
    per_query: PerQuery = None,
    changes: Changes = None,
    compare: Compare = None,
) -> None:
    """See HELP."""
    from goodrate.api.evaluating import evaluate as measure
    from goodrate.api.index import Index
    from goodrate.api.judging import named_texts

    _require_files(plot, per_query, changes, facts)
    plain = Index.open(index, words_only=True)
    runs = _runs(run or [])
    names = chosen_systems(systems, plain.store.fingerprint is not None, model, list(runs))
    pair = compared(changes, compare, names) if changes or compare else None
    of_judge = {"model": model, "contexts": contexts, "context_encoder": context_encoder, "rerank": rerank}
    _require_effect(names, judged_only, rules, of_judge)
    texts = named_texts(model, contexts, context_encoder, index / "contexts.jsonl") if model else None
    how = (scale, format, parse_mapping(map), skip_bad, queries, column_names(raters), merge, labels_by)
    labels = _joined(judgements, how, plain)
    judge = _judge(plain, model, facts, texts, context_encoder) if model and "judge" in names else None
    words_only = not {"dense", "hybrid", "rules"} & set(names) and (judge is None or rerank == "lexical" or judged_only)
    opened = plain if words_only else Index.open(index, encoder).but(rules=rules)
    other: dict[str, Index | RunFile] = {**runs, **({"judge": opened.rerank(judge, depth, rerank)} if judge else {})}
    chosen = [other.get(name, name) for name in names]
    with tick_progress("queries", len(labels.queries()) * len(names)) as tick:
        evaluation = measure(
            chosen, labels, index=opened, judged_only=judged_only, drop_single_grade=single_grade == "drop",
            trained_queries=trained_queries, k=k, seed=seed, tick=tick,
        )  # fmt: skip
    _report_left_out(evaluation, as_json)
    _write(evaluation, plot, per_query, changes, pair)
    _show(evaluation, as_json)


def _write(
    evaluation: Evaluation,
    plot: Path | None,
    per_query: Path | None,
    changes: Path | None,
    pair: tuple[int, int] | None,
) -> None:
    """The files that were asked for. pair: the places of the two systems of the page."""
    if plot is not None:
        evaluation.write_plot(plot)
    if per_query is not None:
        evaluation.write_per_query(per_query)
    if changes is not None and pair is not None:
        old, new = (evaluation.report.systems[place].name for place in pair)
        evaluation.write_changes(changes, old, new)


def _runs(paths: list[Path]) -> dict[str, RunFile]:
    """The runs by name. Raises ValueError for two of one name, or one with the name of a system."""
    from goodrate.api.evaluating import read_run

    runs: dict[str, RunFile] = {}
    for path in paths:
        run = read_run(path)
        if run.name in runs or run.name in SYSTEMS:
            raise ValueError(f"--run {path}: {run.name!r} is the name of another system; rename the file")
        runs[run.name] = run
    return runs


def compared(changes: Path | None, compare: str | None, names: list[str]) -> tuple[int, int]:
    """The places of the two systems of --changes among those that are measured.

    >>> compared(Path("page.html"), "hybrid, lexical", ["random", "lexical", "hybrid"])
    (2, 1)
    """
    if changes is None:
        raise ValueError("--compare names the systems of --changes, which is not given")
    pair = names if compare is None else [name.strip() for name in compare.split(",")]
    if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(names):
        raise ValueError(f"--changes compares two systems: --compare OLD,NEW, two of {', '.join(names)}")
    if "random" in pair:
        raise ValueError("--changes: random is a mean of many orders and has no one list to show")
    return names.index(pair[0]), names.index(pair[1])


def chosen_systems(text: str | None, has_vectors: bool, model: Path | None, runs: Sequence[str] = ()) -> list[str]:
    """The systems to measure, in the given order, runs that are not named last.

    Raises ValueError for an unknown one or one that lacks what it needs.
    >>> chosen_systems(None, False, None), chosen_systems("solr,lexical", False, None, ["solr", "vespa"])
    (['random', 'lexical'], ['solr', 'lexical', 'vespa'])
    """
    lacking = {} if has_vectors else dict.fromkeys(("dense", "hybrid"), "the index has no vectors")
    lacking |= {} if model else {"judge": "give its folder with --model"}
    if text is None:
        own = [name for name in SYSTEMS if name not in lacking and name not in ON_REQUEST]
        return [*own, *runs]
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in (*SYSTEMS, *runs):
            raise ValueError(f"--systems: unknown system {name!r}; accepted: {', '.join([*SYSTEMS, *runs])}")
        if name in lacking:
            raise ValueError(f"--systems: {name} cannot run: {lacking[name]}")
    if not names:
        raise ValueError(f"--systems names none; accepted: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys([*names, *runs]))


def _require_files(plot: Path | None, per_query: Path | None, changes: Path | None, facts: Path | None) -> None:
    """What the files to write and to read need, before anything is measured: packages, telling names, to be there."""
    from goodrate.api.judging import require_facts

    require_facts(facts)
    if per_query is not None:
        require_file_name("--per-query", per_query, (".csv", ".parquet"))
    if changes is not None:
        require_file_name("--changes", changes, (".html",))
    if plot is not None:
        require("plots", "--plot")
        require_file_name("--plot", plot, (".png", ".svg", ".pdf"))


def _require_effect(names: list[str], judged_only: bool, rules: Path | None, of_judge: dict[str, Any]) -> None:
    """ValueError for options of a system that is not measured, and for --rerank where nothing is searched."""
    unread = [f"--{name.replace('_', '-')}" for name, value in of_judge.items() if value is not None]
    measured = f"which is not measured; the systems: {', '.join(names)}"
    if unread and "judge" not in names:
        raise ValueError(f"{unread[0]} is for the system judge, {measured}")
    if rules is not None and "rules" not in names:
        raise ValueError(f"--rules is for the system rules, {measured}")
    if judged_only and of_judge["rerank"]:
        raise ValueError("--rerank says what is searched; with --judged-only nothing is, judged items are ordered")


def _judge(index: Index, model: Path, facts: Path | None, contexts: str | None, encoder: str | None) -> CalibratedJudge:
    """The judge with what it is told of queries."""
    from goodrate.api.judging import open_judge

    judge = open_judge(model)
    report_warnings(judge)
    notes = index.notes(judge, facts, contexts, encoder)
    if judge.contexts and contexts is None:
        console.print("every query is judged without a text; this judge reads some: --contexts FILE")
    return judge.with_notes(notes)


def _joined(path: Path, how: tuple[Any, ...], index: Index) -> Judgements:
    """The judgements of items that the index has; what was lost is said before an hour of judging.

    how: what read_judgements takes after the path.
    """
    from goodrate.api.reading import read_judgements

    labels = read_judgements(path, *how)
    tell_judgements(path, labels)
    joined = labels.join(index.items)
    console.print(str(joined.join_report), highlight=False)
    return joined


def _report_left_out(evaluation: Evaluation, as_json: bool) -> None:
    """Which queries are not measured, on stderr."""
    if as_json and evaluation.seen:  # the table says it below itself
        console.print(evaluation.notes[0], highlight=False)
    if dropped := evaluation.dropped_queries:
        every = dropped + evaluation.report.queries
        console.print(f"{dropped} of {every} queries have one grade only and are left out")


def _show(evaluation: Evaluation, as_json: bool) -> None:
    """The report on stdout, as a table or as JSON."""
    if as_json:
        sys.stdout.write(dumps(evaluation.as_dict(), indent=2) + "\n")
        return
    out = Console()
    print_table(evaluation.table())
    for line in evaluation.footnotes():
        out.print(escape(line), style="dim", highlight=False)


command = typer.main.get_command(app)
