"""goodrate evaluate: measure systems against judgements."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import ContextEncoder, Contexts, Encoder, Facts, Mode, Rules, SkipBad
from goodrate.cli.terminal import console, parse_mapping, report_warnings, require_file_name, tick_progress, verb_app
from goodrate.extras import require
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate import CalibratedJudge, Judgements
    from goodrate.api.evaluating import Evaluation
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

Examples:

  goodrate evaluate shop-index --judgements labels.csv

  goodrate evaluate shop-index --judgements ratings.csv --map item_id=docid --scale graded_0_3 --judged-only

  goodrate evaluate shop-index --judgements labels.csv --systems lexical,judge --model runs/judge/judge --plot a.png
"""


@app.command(help=HELP)
def evaluate(
    index: Annotated[Path, typer.Argument(help="The folder that goodrate index made.")],
    judgements: Annotated[Path, typer.Option(help="Labels: query, item_id, label, and query_id if there is one.")],
    scale: Annotated[str, typer.Option(help="four_level, esci, esci_swapped, wands or graded_0_3.")] = "four_level",
    format: Annotated[str | None, typer.Option(help="esci, wands or chorus.", show_default=False)] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for their columns: item_id=docid,label=rating.", show_default=False)
    ] = None,
    skip_bad: SkipBad = 0,
    systems: Annotated[
        str | None, typer.Option(help="From random,lexical,dense,hybrid,rules,judge. Default: all there are but rules.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A judge's folder, for the system judge.")] = None,
    rerank: Annotated[
        Mode | None, typer.Option(help="What the judge reranks. Default: hybrid, or lexical without vectors.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Results that the judge reranks.")] = 50,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    encoder: Encoder = None,
    rules: Rules = None,
    judged_only: Annotated[bool, typer.Option("--judged-only", help="Order the judged items only.")] = False,
    single_grade: Annotated[
        Literal["keep", "drop"], typer.Option(help="Queries whose judged items all have one label.")
    ] = "keep",
    trained_queries: Annotated[
        Literal["drop", "keep"],
        typer.Option(help="Queries that the judge was trained or tuned on: leave them out for all systems, or not."),
    ] = "drop",
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=1_000_000, help="Cut-off of the metrics.")] = 10,
    seed: Annotated[int, typer.Option(help="Of random orders, intervals and tests.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (.png, .svg, .pdf).")] = None,
) -> None:
    """See HELP."""
    from goodrate.api.evaluating import evaluate as measure
    from goodrate.api.index import Index
    from goodrate.api.judging import named_texts, require_facts

    _require_picture(plot)
    plain = Index.open(index, words_only=True)
    names = chosen_systems(systems, plain.store.fingerprint is not None, model)
    of_judge = {"model": model, "contexts": contexts, "context_encoder": context_encoder, "rerank": rerank}
    _require_effect(names, judged_only, rules, of_judge)
    require_facts(facts)
    texts = named_texts(model, contexts, context_encoder, index / "contexts.jsonl") if model else None
    labels = _judgements(judgements, plain, scale, format, map, skip_bad)
    judge = _judge(plain, model, facts, texts, context_encoder) if model and "judge" in names else None
    words_only = not {"dense", "hybrid", "rules"} & set(names) and (judge is None or rerank == "lexical" or judged_only)
    opened = plain if words_only else Index.open(index, encoder).but(rules=rules)
    chosen = [opened.rerank(judge, depth, rerank) if judge and name == "judge" else name for name in names]
    with tick_progress("queries", len(labels.queries()) * len(names)) as tick:
        evaluation = measure(
            chosen, labels, index=opened, judged_only=judged_only, drop_single_grade=single_grade == "drop",
            trained_queries=trained_queries, k=k, seed=seed, tick=tick,
        )  # fmt: skip
    _report_left_out(evaluation, as_json)
    _show(evaluation, as_json, plot)


def chosen_systems(text: str | None, has_vectors: bool, model: Path | None) -> list[str]:
    """The systems to run, in the given order. Raises ValueError for an unknown one or one that lacks what it needs.

    >>> chosen_systems(None, False, None)
    ['random', 'lexical']
    """
    lacking = {} if has_vectors else dict.fromkeys(("dense", "hybrid"), "the index has no vectors")
    lacking |= {} if model else {"judge": "give its folder with --model"}
    if text is None:
        return [name for name in SYSTEMS if name not in lacking and name not in ON_REQUEST]
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in SYSTEMS:
            raise ValueError(f"--systems: unknown system {name!r}; accepted: {', '.join(SYSTEMS)}")
        if name in lacking:
            raise ValueError(f"--systems: {name} cannot run: {lacking[name]}")
    if not names:
        raise ValueError(f"--systems names none; accepted: {', '.join(SYSTEMS)}")
    return names


def _require_picture(plot: Path | None) -> None:
    """What --plot needs, before anything is measured: its packages, and a name that says which kind of picture."""
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


def _judgements(path: Path, index: Index, scale: str, format: str | None, map: str | None, skip_bad: int) -> Judgements:
    """The judgements of items that the index has; what was lost is said before an hour of judging."""
    from goodrate.api.reading import bad_row_lines, read_judgements

    labels = read_judgements(path, scale, format, parse_mapping(map), skip_bad)
    for line in bad_row_lines(path, labels):
        console.print(f"  {escape(line)}", highlight=False)
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


def _show(evaluation: Evaluation, as_json: bool, plot: Path | None) -> None:
    """The report as a picture where one is wanted, and on stdout, as a table or as JSON."""
    if plot is not None:
        evaluation.write_plot(plot)
    if as_json:
        sys.stdout.write(dumps(evaluation.as_dict(), indent=2) + "\n")
        return
    out = Console()
    out.print(evaluation.table())
    for line in evaluation.footnotes():
        out.print(escape(line), style="dim", highlight=False)


command = typer.main.get_command(app)
