"""goodrate evaluate-policy: what a policy would earn, from the log of another one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.options import SkipBad
from goodrate.cli.terminal import column_names, console, parse_mapping, print_table, verb_app
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.policies import PolicyValue

app = verb_app()

HELP = """What a policy (a ranker, a weighting, a rule) would earn, from the log of the policy that ran.

LOG is a table, one decision a row: reward (a click is 1), propensity (with which probability the logging policy took
what it took) and target_propensity (with which the target would have taken it). With --target, LOG has action in its
place, and FILE has action, probability and the columns that the probabilities depend on, such as position.

IPS weighs each reward by target_propensity / propensity; SNIPS divides by the sum of the weights; DR adds a reward
model, and is there with --target or where LOG has predicted and predicted_target. Intervals are 95 %, by bootstrap.

Examples:

  goodrate evaluate-policy log.csv

  goodrate evaluate-policy log.parquet --target new_policy.csv --features position,segment --clip 100 --group session
"""


@app.command(help=HELP)
def evaluate_policy(
    log: Annotated[Path, typer.Argument(help="Decisions: csv, tsv, jsonl, parquet, xlsx.", show_default=False)],
    target: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Probabilities of the target policy.", show_default=False)
    ] = None,
    map: Annotated[
        str | None,
        typer.Option(help="Our names for the columns of LOG: reward=click,action=item_id.", show_default=False),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest weight; none unless said.", show_default=False)] = None,
    features: Annotated[
        str | None, typer.Option(help="Columns of LOG for the reward model: position,segment.", show_default=False)
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose rows belong together (a session).", show_default=False)
    ] = None,
    skip_bad: SkipBad = 0,
    seed: Annotated[int, typer.Option(help="Of the intervals and the reward model's folds.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api.policies import read_policy_log
    from goodrate.api.reading import bad_row_lines

    names = column_names(features)
    if names and target is None:
        raise ValueError("--features are those of the reward model, which needs --target")
    read = read_policy_log(log, target, parse_mapping(map), skip_bad, names, group)
    for line in bad_row_lines(log, read):
        console.print(f"  left out: {escape(line)}", highlight=False)
    found = read.value(clip, seed)
    if as_json:
        sys.stdout.write(dumps(found.as_dict(), indent=2) + "\n")
        return
    _show(found)


def _show(found: PolicyValue) -> None:
    """The numbers on stdout, warnings on stderr."""
    from rich.table import Table

    screen, table = Console(), Table("", "mean reward", "95 % interval", box=None)
    values = {"the log": found.logged, "target, IPS": found.ips, "target, SNIPS": found.snips, "target, DR": found.dr}
    for name, value in values.items():
        if value is not None:
            table.add_row(name, f"{value.value:.5f}", f"{value.low:.5f} to {value.high:.5f}")
    print_table(table)
    resampled = "" if found.groups == found.rows else f" in {found.groups:,} groups"
    cut = f", {found.clipped:,} clipped to {found.clip:g}" if found.clip is not None else ""
    screen.print(
        f"{found.rows:,} decisions{resampled}, worth {found.effective_rows:,.1f} of equal weight; mean weight "
        f"{found.mean_weight.value:.3f}, largest {found.largest_weight:,.4g}{cut}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for warning in found.warnings:
        console.print(f"warning: {warning}", highlight=False)


command = typer.main.get_command(app)
