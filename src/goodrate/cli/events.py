"""goodrate events: logs of what was shown and clicked, as one table of impressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import SkipBad
from goodrate.cli.terminal import column_names, console, parse_mapping, require_file_name, verb_app

if TYPE_CHECKING:
    from goodrate.api.events import ImpressionLog

app = verb_app()

HELP = """Make one table of impressions of a log: which item stood where in the results of a query, and was it clicked.

FILES are user behaviour insights (UBI, as OpenSearch collects them: queries and events, jsonl or ndjson, in one file or
several), or tables of query, item_id, position, clicked and, if there is one, time. What is written can be streamed
into trainings (docs/events.md).

Examples:

  goodrate events ubi_queries.ndjson ubi_events.ndjson --out impressions.parquet

  goodrate events ubi.ndjson --clicks click,add_to_cart --impressions view --out impressions.parquet

  goodrate events log.csv --map item_id=sku,position=rank --out impressions.parquet
"""


@app.command(help=HELP)
def events(
    files: Annotated[list[Path], typer.Argument(help="Logs.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Impressions: .parquet, .csv or .jsonl.", show_default=False)] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the columns of a table: item_id=sku.", show_default=False)
    ] = None,
    clicks: Annotated[
        str | None, typer.Option(help="UBI actions that are clicks: click,add_to_cart.", show_default=False)
    ] = None,
    impressions: Annotated[
        str | None, typer.Option(help="UBI actions that show an item: impression,view.", show_default=False)
    ] = None,
    skip_bad: SkipBad = 0,
) -> None:
    """See HELP."""
    from goodrate.api.events import read_impressions
    from goodrate.api.reading import bad_row_lines

    if out is not None:
        require_file_name("--out", out, (".parquet", ".csv", ".jsonl"))
    log = read_impressions(
        files, mapping=parse_mapping(map), clicks=column_names(clicks), impressions=column_names(impressions),
        skip_bad=skip_bad,
    )  # fmt: skip
    for line in bad_row_lines(files[0], log):
        console.print(f"  left out: {escape(line)}", highlight=False)
    for note in log.notes:
        console.print(escape(note), highlight=False)
    _show(log)
    if out is not None:
        log.write(out)
        console.print(f"impressions: {escape(str(out))}", highlight=False, soft_wrap=True)


def _show(log: ImpressionLog) -> None:
    """What there is, on stdout."""
    frame = log.frame
    clicked, items, queries = int(frame["clicked"].sum()), frame["item_id"].n_unique(), frame["query"].n_unique()
    times = ""
    if "time" in frame.columns:
        first, last = frame["time"].dt.strftime("%Y-%m-%d %H:%M").sort()[[0, -1]]
        times = f", {first} to {last} UTC"
    unknown = frame["position"].null_count()
    without = f", {unknown:,} without a position" if unknown else ""
    Console().print(
        f"{len(frame):,} impressions of {items:,} items for {queries:,} queries, "
        f"{clicked:,} clicked ({clicked / len(frame):.2%}){without}{times}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


command = typer.main.get_command(app)
