"""goodrate monitor: follow a search over time, in CI or on a schedule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import Encoder, IndexArgument, Judge, LabelFormat, LabelMap, SkipBad, Verdicts
from goodrate.cli.terminal import (
    console,
    item_progress,
    parse_mapping,
    report_warnings,
    require_folder,
    tell_judgements,
    uncollected,
    verb_app,
)
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.monitoring import Judgements, Monitored

app = verb_app()
FAILING = 1  # exit code; wrong input is 2

HELP = """Follow the Goodrates of a search over time: a set of queries, searched for as goodrate serve would.

Query Goodrate is the share of result pages that are Good or Mid, Item Goodrate the mean share of good results on a
page. The judge that ranks (--model) grades too, unless another one does (--grader); labels of people (--judgements) go
before both. Each run is kept in OUT, and OUT/report.html shows all of them and what has changed since the run that is
compared with. A run that is broken off goes on where it stopped.

Exit code 1: a bound (--fail-under, --fail-drop) does not hold; 2: the input is wrong. Bounds are about query_goodrate,
item_goodrate, confidence and judged_share. A webhook gets the numbers as JSON, without queries and items.

Examples:

  goodrate monitor shop-index --queries queries.csv --model runs/judge/judge --out monitor

  goodrate monitor shop-index --queries queries.csv --model runs/judge/judge --out monitor --last
  --fail-under query_goodrate=0.8 --fail-drop item_goodrate=0.05 --webhook https://hooks.example.com/search

  goodrate monitor new-index --queries queries.csv --model runs/judge/judge --out ci --against monitor
"""

Grader = Annotated[
    Path | None, typer.Option(help="Folder of the judge that grades, if not the one of --model.", show_default=False)
]
People = Annotated[
    Path | None, typer.Option(help="Labels of people: they go before the judge's, and are marked.", show_default=False)
]
Against = Annotated[
    Path | None, typer.Option(help="Compare with this run, or the last one of this history.", show_default=False)
]
Last = Annotated[bool, typer.Option("--last", help="Compare with the last run in OUT, if there is one.")]
Under = Annotated[
    list[str] | None, typer.Option(metavar="NAME=SHARE", help="Exit 1 when the rate is below; may come again.")
]
Drop = Annotated[
    list[str] | None, typer.Option(metavar="NAME=SHARE", help="Exit 1 when the rate fell by more; may come again.")
]
Webhook = Annotated[
    str | None, typer.Option(help="POST the numbers there as JSON.", envvar="GOODRATE_WEBHOOK", show_default=False)
]
WebhookFailing = Annotated[bool, typer.Option("--webhook-failing", help="Only when a bound does not hold.")]
WebhookRequired = Annotated[bool, typer.Option("--webhook-required", help="Exit 1 when the webhook could not be told.")]
Depth = Annotated[int, typer.Option(min=1, max=500, help="Results that the judge ranks; as the server has it.")]
QueryMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of --queries: query=q.", show_default=False)
]


@app.command(help=HELP)
def monitor(
    index: IndexArgument,
    queries: Annotated[Path, typer.Option(help="The queries: a file with a column query.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="The folder of the history.", metavar="DIR")],
    model: Judge = None,
    grader: Grader = None,
    judgements: People = None,
    format: LabelFormat = None,
    map: LabelMap = None,
    against: Against = None,
    last: Last = False,
    fail_under: Under = None,
    fail_drop: Drop = None,
    webhook: Webhook = None,
    webhook_failing: WebhookFailing = False,
    webhook_required: WebhookRequired = False,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="Results of a page.")] = 10,
    depth: Depth = 50,
    page_mid: Annotated[float, typer.Option(help="Share of good results from which on a page is Mid.")] = 0.5,
    page_good: Annotated[float, typer.Option(help="The same for Good.")] = 0.8,
    query_map: QueryMap = None,
    verdicts: Verdicts = None,
    encoder: Encoder = None,
    skip_bad: SkipBad = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api import alerts, monitoring
    from goodrate.api.synonyms import read_query_log

    require_folder("--out", out)
    under = alerts.parse_bounds(fail_under or [], "--fail-under")
    drop = alerts.parse_bounds(fail_drop or [], "--fail-drop")
    address = alerts.require_address(webhook) if webhook else None
    asked = read_query_log(queries, skip_bad, parse_mapping(query_map))
    labels = _labels(judgements, grader or model, format, parse_mapping(map)) if judgements else None
    with uncollected(), console.status("loading"):
        watched = monitoring.watch(
            index, asked, model, grader=grader, judgements=labels, depth=depth, verdicts=verdicts, encoder=encoder,
            k=k, page_good=page_good, page_mid=page_mid,
        )  # fmt: skip
    report_warnings(watched.judge)
    with item_progress("queries") as progress:
        found = monitoring.monitor(
            watched, out, against=against, last=last, under=under, drop=drop, progress=progress
        )  # fmt: skip
    _tell(found, as_json)
    told = address is None or (webhook_failing and not found.failures) or _told(address, found)
    if found.failures or (webhook_required and not told):
        raise typer.Exit(FAILING)


def _labels(path: Path, judge: str | Path | None, format: str | None, mapping: dict[str, str] | None) -> Judgements:
    """The labels of people, on the scale of the judge beside whose they stand."""
    from goodrate.api.overruling import scale_of
    from goodrate.api.reading import read_judgements

    labels = read_judgements(path, scale_of(judge) if judge else None, format, mapping)
    tell_judgements(path, labels)
    return labels


def _tell(found: Monitored, as_json: bool) -> None:
    """The run on stdout; what failed, and where the page is, on stderr."""
    if as_json:
        sys.stdout.write(dumps(found.as_dict(), indent=2) + "\n")
    else:
        Console(soft_wrap=True).print(escape("\n".join(found.lines())), highlight=False)
    console.print(escape(f"report: {found.report}"), highlight=False)
    for failure in found.failures:
        console.print(escape(f"FAILED: {failure}"), style="bold red", highlight=False)


def _told(address: str, found: Monitored) -> bool:
    """Whether the webhook took the message; says what went wrong where it did not."""
    from goodrate.api import alerts

    problem = alerts.send(address, found.message)
    if problem:
        console.print(escape(f"the webhook was not told: {problem}"), style="yellow", highlight=False)
    return not problem


command = typer.main.get_command(app)
