"""goodrate agreement: how far raters agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import LabelFormat, LabelMap, MergeRule, Queries, Raters, ScaleName, SkipBad
from goodrate.cli.terminal import (
    column_names,
    console,
    parse_mapping,
    print_table,
    require_file_name,
    tell_judgements,
    verb_app,
)
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.agreeing import Agreement, Interval

app = verb_app()
SHOWN = 30  # twos of raters

HELP = """How far the people agree who labelled the same pairs of query and item.

FILE has a column rater (annotator, worker, assessor), or a column for each rater (--raters), or several rows a pair
(--merge). Cohen's kappa is of every two raters, on the pairs that both labelled: 1 is full agreement, 0 what chance
gives; weighted, a label that is far off counts more. Krippendorff's alpha is of all raters at once and takes pairs that
only some labelled. --out writes the pairs that raters disagree on, those furthest apart first.

Examples:

  goodrate agreement labels.csv --scale graded_0_3 --out disagreements.csv

  goodrate agreement ratings.csv --map item_id=docid --raters "agent_*_rating"
"""


@app.command(help=HELP)
def agreement(
    file: Annotated[Path, typer.Argument(help="Labels of several raters.", show_default=False)],
    scale: ScaleName = None,
    format: LabelFormat = None,
    map: LabelMap = None,
    queries: Queries = None,
    raters: Raters = None,
    merge: MergeRule = None,
    skip_bad: SkipBad = 0,
    out: Annotated[Path | None, typer.Option(help="Pairs with different labels: .csv.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api.agreeing import rater_agreement, write_disagreements
    from goodrate.api.reading import read_judgements

    if out is not None:
        require_file_name("--out", out, (".csv",))
    labels = read_judgements(
        file, scale, format, parse_mapping(map), skip_bad, queries, column_names(raters), merge, "any"
    )
    tell_judgements(file, labels)
    found = rater_agreement(labels, seed)
    if as_json:
        sys.stdout.write(dumps(found.as_dict(), indent=2) + "\n")
    else:
        _show(found)
    if out is not None:
        console.print(f"{write_disagreements(labels, out):,} pairs with different labels: {escape(str(out))}")


def _show(found: Agreement) -> None:
    """The numbers on stdout."""
    from rich.table import Table

    screen = Console()
    sizes = ", ".join(f"{count:,} with {number}" for number, count in found.by_raters.items())
    if found.models:
        screen.print(
            f"models among the raters: {escape(', '.join(found.models))}; first, people alone", highlight=False
        )
    screen.print(f"{sum(found.by_raters.values()):,} pairs by number of labels: {sizes}", highlight=False)
    if found.several:
        share = f"{found.differing / found.several:.1%}"
        screen.print(f"{found.differing:,} of {found.several:,} pairs ({share}) have different labels", highlight=False)
    for level, interval in found.alpha.items():
        screen.print(f"Krippendorff's alpha, {level}: {_shown(interval)}", highlight=False)
    if found.rater_pairs:
        table = Table("raters", "pairs", "same label", "kappa", "linear", "quadratic", box=None)
        for two in found.rater_pairs[:SHOWN]:
            kappas = (_number(two.kappa[weights]) for weights in ("none", "linear", "quadratic"))
            table.add_row(escape(" / ".join(two.raters)), f"{two.pairs:,}", f"{two.same:.1%}", *kappas)
        print_table(table)
    if len(found.rater_pairs) > SHOWN:
        screen.print(f"and {len(found.rater_pairs) - SHOWN:,} more twos of raters (--json has all)", highlight=False)
    if found.unshared:
        screen.print(f"{found.unshared:,} twos of raters labelled no pair both", highlight=False)


def _shown(interval: Interval) -> str:
    bounds = f" ({interval.low:.3f} to {interval.high:.3f} over queries)" if interval.low == interval.low else ""
    return f"{_number(interval.value)}{bounds}"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


command = typer.main.get_command(app)
