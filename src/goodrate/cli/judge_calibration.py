"""goodrate judge --calibrate: set the temperature and the tier threshold of a judge from labelled pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from goodrate.relevance.calibration import Reliability
    from goodrate.relevance.judge import Judge, Pair
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.tuning import Tuning


def calibrate(model: str, loaded: Judge, table: PairFile, pairs: list[Pair], console: Console) -> None:
    """Tune the judge on the labels of the file, write them into its judge.json, and print what changed."""
    from goodrate.relevance.judge_card import write_judge_card
    from goodrate.relevance.tuning import tune

    labels = table.gold(loaded.scale)
    known = [(p, label) for p, label in zip(pairs, labels, strict=True) if label is not None]
    if not known:
        raise ValueError("--calibrate needs a column label with a label in some rows (--map label=COLUMN)")
    with console.status(f"judging {len(known):,} labelled pairs"):
        tuning = tune(loaded, [pair for pair, _ in known], [label for _, label in known])
    write_judge_card(model, tuning.card)
    _report(tuning, loaded, console)


def _report(tuning: Tuning, loaded: Judge, console: Console) -> None:
    """The two scalars, before and after, and the reliability table."""
    old, new = loaded.card, tuning.card
    grid = Table(title=f"{tuning.used:,} labelled pairs, {tuning.failed:,} without a verdict")
    for heading in ("", "before", "after"):
        grid.add_column(heading)
    before, after = tuning.reliability
    rows = [
        ("temperature", old.temperature, new.temperature),
        ("beta_cum", old.beta_cum, new.beta_cum),
        ("negative log likelihood", *tuning.nll),
        ("calibration error (ECE)", before.ece, after.ece),
        (f"tier accuracy (constant: {tuning.constant_tier:.3f})", *tuning.tier_accuracy),
    ]
    for name, *values in rows:
        grid.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(grid)
    console.print(_bins(after))
    console.print("Chosen on these pairs: measure the judge on others.")


def _bins(table: Reliability) -> Table:
    """How often the judge was right at each confidence."""
    grid = Table(title="after calibration")
    for heading in ("confidence", "pairs", "mean confidence", "right"):
        grid.add_column(heading)
    for row in table.bins:
        if row.count:
            means = (f"{row.confidence:.3f}", f"{row.accuracy:.3f}")
            grid.add_row(f"{row.low:.1f} to {row.high:.1f}", f"{row.count:,}", *means)
    return grid
