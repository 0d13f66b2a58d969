"""goodrate warm: judge the results of known queries in advance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from goodrate.api.serving import KEEP
from goodrate.cli.options import Encoder, IndexArgument, SkipBad, Verdicts
from goodrate.cli.terminal import console, item_progress, parse_mapping, report_warnings, uncollected, verb_app

app = verb_app()

HELP = """Judge the results of known queries in advance, so that their searches wait for no judge.

Each query of the file is searched for as goodrate serve would, and its first results are judged into the file of
verdicts that goodrate serve and goodrate search read. The most frequent queries come first. What is stored is not
judged again: interrupt when you like, the same command goes on. Changed items, and another judge, are judged anew.
With a judge of entities, --entities N fills what it keeps of each query and entity beyond those results.

FILE is a csv, tsv, jsonl or parquet file with a column query and, if you have it, count.

Examples:

  goodrate warm shop-index --queries queries.csv --model runs/judge/judge

  goodrate warm shop-index --queries log.parquet --map query=q,count=searches --model runs/judge/judge --max-minutes 60

  goodrate warm shop-index --queries log.csv --model runs/entities/judge --entities 2000
"""


@app.command(help=HELP)
def warm(
    index: IndexArgument,
    queries: Annotated[Path, typer.Option(help="What shoppers search for.", metavar="FILE")],
    model: Annotated[str, typer.Option(help="The judge's folder (it holds a judge.json).")],
    depth: Annotated[int, typer.Option(min=1, max=500, help="Results of each query; as searches will have it.")] = 50,
    verdicts: Verdicts = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no query after so long.", show_default=False)
    ] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the columns of FILE: query=q,count=searches.", show_default=False)
    ] = None,
    entities: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of a judge of entities: for each query, also the N entities that most items have; 0 = all.",
            metavar="N", show_default=False,
        ),
    ] = None,  # fmt: skip
    encoder: Encoder = None,
    skip_bad: SkipBad = 0,
) -> None:
    """See HELP."""
    from goodrate.api.index import Index
    from goodrate.api.serving import verdicts_file, with_judge
    from goodrate.api.synonyms import read_query_log
    from goodrate.api.warming import most_frequent, warm

    listed = most_frequent(read_query_log(queries, skip_bad, parse_mapping(map)))  # before the models are loaded
    with uncollected(), console.status("loading"):
        opened = with_judge(Index.open(index, encoder), model, verdicts, depth, must_keep=True)
    if opened.judge is not None:
        report_warnings(opened.judge)
    try:
        with item_progress("queries") as progress:
            report = warm(opened, listed, max_minutes=max_minutes, progress=progress, entities=entities)
    except KeyboardInterrupt as stop:
        kept = verdicts_file(index, verdicts)
        raise KeyboardInterrupt(f"{kept} keeps what was judged, the same command goes on") from stop
    console.print(escape(str(report)), highlight=False)
    if report.filled is not None:
        console.print(escape(str(report.filled)), highlight=False)
    if report.queries < report.of:
        console.print("the time is over; the same command goes on", highlight=False)
    if report.verdicts > KEEP:
        told = f"goodrate serve keeps the last used {KEEP:,} of them unless told otherwise (--keep-verdicts)"
        console.print(told, highlight=False)


command = typer.main.get_command(app)
