"""goodrate grade: a queue of pairs for people, how far they are, and what they said as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import Encoder, Judge, Verdicts, index_place
from goodrate.cli.terminal import (
    console,
    item_progress,
    parse_mapping,
    print_table,
    require_file_name,
    tell_judgements,
    uncollected,
    verb_app,
)
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.grading import Index, Judgements, QueuedPair

app = verb_app()
TABLES = (".csv", ".jsonl", ".parquet")

HELP = """Have people grade pairs of a query and an item, at the page /grade/ of goodrate serve --workbench DIR.

make puts pairs into the queue of a workbench: those that goodrate next-labels picked, those on which people and the
judge disagree, or the top of a query set. export writes what raters said; status, how far they are and how they agree.

Examples:

  goodrate grade make team --index shop-index --queue top --queries queries.csv --rules esci --raters 2

  goodrate serve shop-index --workbench team

  goodrate grade export team --out labels.csv
"""
MAKE_HELP = """Put pairs at the end of the queue of WORKBENCH, which is made where there is none.

next-labels: the pairs of --pairs, a file of goodrate next-labels, in its order; rows with a label are left out.
disagreement: pairs of --judgements whose label is not that of --model, the furthest apart first. top: the first -k
results of each query of --queries, as the index is served; those in --judgements are left out.

With --rules raters mark the columns of a rule book and the label follows; they may overrule it and say why. With
--scale alone they choose a label.

Examples:

  goodrate grade make team --index shop-index --queue next-labels --pairs to_label.csv --rules esci

  goodrate grade make team --index shop-index --queue disagreement --judgements labels.csv --model runs/judge/judge
  --scale graded_0_3 -n 100

  goodrate grade make team --index shop-index --queue top --queries queries.csv -k 10 --rules my_rules.toml --raters 2
"""
EXPORT_HELP = """Write what raters said, a row each: query, item_id, label, rater, reason, and more.

OUT is a file that every verb reads as judgements, with its raters; what one could not tell has no label. Several labels
of a pair become one by --merge, as they do where the file is read; --resolved writes that one label a pair. --reasons
writes the reasons of labels for goodrate train (data.rationales): what raters marked, in the words of query and item.

Examples:

  goodrate grade export team --out labels.csv

  goodrate grade export team --out labels.csv --merge majority --resolved resolved.csv

  goodrate grade export team --out labels.csv --reasons rationales.jsonl --index shop-index
"""
STATUS_HELP = """Say how far raters are, and how they agree as time goes on.

kappa is Cohen's of every two raters, weighed by the pairs that they share; alpha is Krippendorff's, ordinal.

Examples:

  goodrate grade status team

  goodrate grade status team --pairs 100
"""
Workbench = Annotated[Path, typer.Argument(help="Folder of the workbench, as in goodrate serve --workbench.")]
IndexFolder = Annotated[
    Path, typer.Option("--index", help="The index that has the items.", callback=index_place)
]
Pairs = Annotated[Path | None, typer.Option(help="For next-labels: the file of pairs.", show_default=False)]
Asked = Annotated[Path | None, typer.Option("--queries", help="For top: a file of queries.", show_default=False)]
People = Annotated[Path | None, typer.Option(help="Labels that you have.", show_default=False)]
Rules = Annotated[
    str | None, typer.Option(help="Rule book: esci, graded_0_3, shop or a TOML file.", show_default=False)
]
GradeScale = Annotated[
    str | None, typer.Option(help="Of the labels: a name or a TOML file. Default: the rule book's.", show_default=False)
]
Raters = Annotated[
    int | None, typer.Option(min=1, help="How many people grade each pair. Default: 1.", show_default=False)
]
QueryColumns = Annotated[
    str | None, typer.Option(help="Our names for the columns of --pairs or --queries: query=q.", show_default=False)
]
Count = Annotated[int | None, typer.Option("-n", "--count", min=1, help="At most so many pairs.", show_default=False)]


@app.callback(help=HELP, no_args_is_help=True)
def grade() -> None:
    """See HELP."""


@app.command(help=MAKE_HELP)
def make(
    workbench: Workbench,
    index: IndexFolder,
    queue: Annotated[Literal["next-labels", "disagreement", "top"], typer.Option(help="Where pairs come from.")],
    pairs: Pairs = None,
    queries: Asked = None,
    judgements: People = None,
    model: Judge = None,
    rules: Rules = None,
    scale: GradeScale = None,
    raters: Raters = None,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="Results of each query, for top.")] = 10,
    count: Count = None,
    map: QueryColumns = None,
    verdicts: Verdicts = None,
    encoder: Encoder = None,
) -> None:
    """See MAKE_HELP."""
    from goodrate.api import grading
    from goodrate.api.index import Index
    from goodrate.api.serving import with_judge

    needed = {
        "next-labels": ("--pairs", pairs),
        "disagreement": ("--judgements", judgements),
        "top": ("--queries", queries),
    }
    if needed[queue][1] is None:
        raise ValueError(f"--queue {queue} needs {needed[queue][0]} FILE")
    if queue == "disagreement" and model is None:
        raise ValueError("--queue disagreement needs --model JUDGE: whose labels are held against people's?")
    grading.require_labels(rules, scale)
    mapping = parse_mapping(map)
    with uncollected(), console.status("loading"):
        opened = Index.open(index, encoder)
        opened = with_judge(opened, model, verdicts, must_keep=True) if model is not None else opened
    labels = _labels(judgements, model)
    found = _found(queue, opened, (pairs, queries), labels, k, mapping)
    left, told = (found, "") if queue == "disagreement" else grading.unlabelled(found, labels)
    report = grading.make_queue(workbench, left[:count], rules, scale, raters, len(found), told)
    console.print(escape(str(report)), highlight=False)
    console.print(escape(f"grade them at /grade/ of: goodrate serve {index} --workbench {workbench}"), highlight=False)


def _found(
    queue: str, index: Index, files: tuple[Path | None, Path | None], labels: Judgements | None, k: int,
    mapping: dict[str, str] | None,
) -> list[QueuedPair]:  # fmt: skip
    """The pairs of a queue. files: of pairs, and of queries."""
    from goodrate.api import grading
    from goodrate.api.synonyms import read_query_log

    if queue == "next-labels":
        assert files[0] is not None
        return grading.next_label_pairs(index, files[0], mapping)
    if queue == "disagreement":
        assert index.judge is not None and labels is not None
        with item_progress("pairs judged") as progress:
            return grading.disagreement_pairs(index, index.judge, labels, progress=progress)
    assert files[1] is not None
    with console.status("searching"):
        return grading.top_pairs(index, read_query_log(files[1], 0, mapping), k)


def _labels(path: Path | None, model: str | None) -> Judgements | None:
    """The labels that there are, on the scale of the judge where one is named."""
    from goodrate.api.overruling import scale_of
    from goodrate.api.reading import read_judgements

    if path is None:
        return None
    labels = read_judgements(path, scale_of(model) if model else None)
    tell_judgements(path, labels)
    return labels


@app.command(help=EXPORT_HELP)
def export(
    workbench: Workbench,
    out: Annotated[Path, typer.Option(help="Where the labels go: .csv, .jsonl or .parquet.")],
    merge: Annotated[
        Literal["median", "majority", "mean", "min"], typer.Option(help="How several labels of a pair become one.")
    ] = "median",
    resolved: Annotated[Path | None, typer.Option(help="One label a pair, there.", show_default=False)] = None,
    reasons: Annotated[Path | None, typer.Option(help="Reasons of labels, .jsonl.", show_default=False)] = None,
    index: Annotated[Path | None, typer.Option(help="For --reasons: whose items.", show_default=False)] = None,
) -> None:
    """See EXPORT_HELP."""
    from goodrate.api import grading
    from goodrate.api.index import Index

    for option, path, endings in (
        ("--out", out, TABLES),
        ("--resolved", resolved, TABLES),
        ("--reasons", reasons, (".jsonl",)),
    ):
        if path is not None:
            require_file_name(option, path, endings)
    opened = Index.open(index, words_only=True) if index is not None else None
    done = grading.export(workbench, out, merge=merge, resolved=resolved, reasons=reasons, index=opened)
    for line in done.lines():
        console.print(escape(line), highlight=False)
    written = ", ".join(str(path) for path in (out, resolved, reasons) if path is not None)
    console.print(escape(f"written: {written}"), highlight=False)


@app.command(help=STATUS_HELP)
def status(
    workbench: Workbench,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="A period is so many pairs. Default: a day.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See STATUS_HELP."""
    from goodrate.api.grading import open_grading

    grading = open_grading(workbench)
    progress, periods = grading.progress(), [one.as_dict() for one in grading.agreement(pairs or "day")]
    if as_json:
        sys.stdout.write(dumps({"progress": progress, "agreement": periods}, indent=2) + "\n")
        return
    _show(progress, periods)


def _show(progress: dict[str, int], periods: list[dict[str, Any]]) -> None:
    """The numbers on stdout."""
    from rich.table import Table

    screen = Console()
    screen.print(
        f"{progress['finished']:,} of {progress['pairs']:,} pairs are graded by {progress['raters']} rater(s) each; "
        f"{progress['votes']:,} votes, {progress['cannot_tell']:,} of them \"cannot tell\", {progress['overruled']:,} "
        "against the rules", highlight=False,
    )  # fmt: skip
    if not periods:
        screen.print("no pair is labelled by two raters yet", highlight=False)
        return
    table = Table("until", "pairs", "same label", "kappa", "quadratic", "alpha", box=None)
    for one in periods:
        numbers = [_number(one[name]) for name in ("kappa", "kappa_quadratic", "alpha")]
        table.add_row(one["last"][:16].replace("T", " "), f"{one['pairs']:,}", f"{one['same']:.1%}", *numbers)
    print_table(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


command = typer.main.get_command(app)
