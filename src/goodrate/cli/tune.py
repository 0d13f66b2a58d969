"""goodrate tune: choose the weights of an index on judgements."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import Encoder, IndexArgument, LabelFormat, LabelMap, ScaleName, SkipBad, WhoseLabels
from goodrate.cli.terminal import parse_mapping, tell_judgements, tick_progress, verb_app
from goodrate.strict_json import dumps

app = verb_app()

HELP = """Choose how an index is searched, on judgements: how much meaning counts beside words, attributes beside
titles, and whether unknown words have a floor.

Every setting is chosen without the queries that it is measured on (cross-validation; alike queries stay together). It
is written into the index only where the gain over the defaults lies above 0 with its whole interval; where it does not,
the index gets the defaults.

Examples:

  goodrate tune shop-index --judgements labels.csv --dry-run

  goodrate tune shop-index --judgements ratings.csv --map item_id=docid --scale graded_0_3 --judged-only

  goodrate tune shop-index --judgements labels.csv --fields title --fields title,description
"""


@app.command(help=HELP)
def tune(
    index: IndexArgument,
    judgements: Annotated[Path, typer.Option(help="Labels: query, item_id, label, and query_id if there is one.")],
    scale: ScaleName = None,
    format: LabelFormat = None,
    map: LabelMap = None,
    labels_by: WhoseLabels = "people",
    skip_bad: SkipBad = 0,
    encoder: Encoder = None,
    metric: Annotated[
        str, typer.Option(help="What is to be high: ndcg@10, mrr@10, recall@100, goodrate@10.")
    ] = "ndcg@10",
    judged_only: Annotated[bool, typer.Option("--judged-only", help="Order the judged items only.")] = False,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the queries.")] = 5,
    fields: Annotated[
        list[str] | None,
        typer.Option(help="What the encoder could read instead: encoded and measured only.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    seed: Annotated[int, typer.Option(help="Of folds and intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api import tuning
    from goodrate.api.index import Index
    from goodrate.api.reading import read_judgements

    opened = Index.open(index, encoder)
    labels = read_judgements(
        judgements, scale=scale, format=format, map=parse_mapping(map), skip_bad=skip_bad, labels_by=labels_by
    )
    tell_judgements(judgements, labels)
    named = [[name.strip() for name in one.split(",") if name.strip()] for one in fields or ()]
    with tick_progress("settings", len(tuning.candidates_of(opened))) as tick:
        tuned = tuning.tune(
            opened, labels, metric=metric, judged_only=judged_only, folds=folds, fields=named, dry_run=dry_run,
            seed=seed, tick=tick,
        )  # fmt: skip
    if as_json:
        sys.stdout.write(dumps(tuned.as_dict(), indent=2) + "\n")
        return
    out = Console()
    out.print(tuned.table())
    for line in tuned.lines():
        out.print(escape(line), highlight=False)


command = typer.main.get_command(app)
