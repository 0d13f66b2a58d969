"""From runs to a report: every metric with an interval, every system against the first, every count that matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.side_by_side import SideBySide, side_by_side
from goodrate.evaluation.significance import (
    Interval,
    bootstrap_interval,
    paired_bootstrap_difference,
    paired_randomisation,
)
from goodrate.evaluation.systems import SystemRuns, Task
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from rich.table import Table

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Against:
    """A system compared with the first one on one metric: mean difference, randomisation test, wins and losses."""

    difference: Interval
    p: float
    sides: SideBySide


@dataclass(frozen=True)
class SystemReport:
    """One system: a row per query (values), metric -> interval, metric -> comparison with the first system.

    against is empty for the first system. undefined: metric -> queries where it cannot be told. unjudged: mean share
    of the first results that nobody judged. missing: queries without a result.
    """

    name: str
    values: pl.DataFrame
    metrics: dict[str, Interval]
    against: dict[str, Against]
    undefined: dict[str, int]
    missing: int
    unjudged: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All systems on the same queries. single_grade: queries whose judged items all have one label (no order helps)."""

    systems: list[SystemReport]
    scale: RelevanceScale
    metrics: list[str]
    queries: int
    judged_pairs: int
    single_grade: int
    judged_only: bool
    seed: int


def evaluate_systems(
    systems: Sequence[SystemRuns], task: Task, scale: RelevanceScale, metrics: Sequence[str], k: int, seed: int = 0
) -> Report:
    """Score every system on the queries of the task and compare each with the first."""
    qrels = {query_id: task.qrels[query_id] for query_id in task.queries}
    columns = list(dict.fromkeys([*metrics, f"judged@{k}"]))  # the unjudged share comes from the last
    tables = [average([evaluate_run(run, qrels, scale, columns, task.judged_only) for run in s.runs]) for s in systems]
    shown = [name for name in metrics if not (task.judged_only and name.startswith("judged"))]  # 1 by construction
    reports = [
        _system(system, table, None if table is tables[0] else tables[0], shown, k, seed)
        for system, table in zip(systems, tables, strict=True)
    ]
    pairs = sum(len(items) for items in qrels.values())
    single = sum(len(set(items.values())) == 1 for items in qrels.values())
    return Report(reports, scale, shown, len(qrels), pairs, single, task.judged_only, seed)


def average(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Per-query tables of equal queries as one, numbers averaged; a query is missing when it is in all of them."""
    if len(tables) == 1:
        return tables[0]
    together = pl.concat(tables).group_by("query_id", maintain_order=True)
    flags = [pl.col("missing").all(), pl.col("single_grade").any()]
    return together.agg(pl.exclude("query_id", "missing", "single_grade").mean(), *flags)


def _system(
    system: SystemRuns, table: pl.DataFrame, first: pl.DataFrame | None, metrics: list[str], k: int, seed: int
) -> SystemReport:
    """The numbers of one system."""
    values = {name: numbers(table, name) for name in metrics}
    against = {} if first is None else {name: _against(values[name], numbers(first, name), seed) for name in metrics}
    judged_share = table.filter(~pl.col("missing"))[f"judged@{k}"].to_numpy()
    return SystemReport(
        name=system.name,
        values=table,
        metrics={name: bootstrap_interval(values[name], seed) for name in metrics},
        against=against,
        undefined={name: int(np.isnan(values[name]).sum()) for name in metrics},
        missing=int(table["missing"].sum()),
        unjudged=float(1 - judged_share.mean()) if len(judged_share) else float("nan"),
        notes=system.notes,
    )


def numbers(table: pl.DataFrame, metric: str) -> np.ndarray:
    """A metric's column (Q,) float64 with NaN for undefined."""
    return table[metric].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _against(new: np.ndarray, old: np.ndarray, seed: int) -> Against:
    return Against(
        paired_bootstrap_difference(new, old, seed), paired_randomisation(new, old, seed), side_by_side(new, old)
    )


def as_dict(report: Report) -> dict[str, Any]:
    """The report as JSON: settings first, then one object per system. Unknown numbers are null."""
    facts = {
        "scale": report.scale.name,
        "gains": dict(zip(report.scale.labels, report.scale.gains, strict=True)),
        "positive": sorted(report.scale.positive),
        "queries": report.queries,
        "judged_pairs": report.judged_pairs,
        "single_grade_queries": report.single_grade,
        "judged_only": report.judged_only,
        "seed": report.seed,
    }
    return {**facts, "systems": [_system_dict(system) for system in report.systems]}


def _system_dict(system: SystemReport) -> dict[str, Any]:
    against = {
        name: {
            "difference": comparison.difference.as_dict(),
            "p": comparison.p if comparison.p == comparison.p else None,
            "side_by_side": asdict(comparison.sides),
        }
        for name, comparison in system.against.items()
    }
    return {
        "name": system.name,
        "metrics": {name: interval.as_dict() for name, interval in system.metrics.items()},
        "against_first": against,
        "undefined": system.undefined,
        "missing_queries": system.missing,
        "unjudged_share": system.unjudged if system.unjudged == system.unjudged else None,
        "notes": list(system.notes),
    }


def as_table(report: Report) -> Table:
    """The report for a terminal: mean and interval per metric; a star where it differs from the first system."""
    from rich.table import Table

    way = "judged lists reordered" if report.judged_only else "whole index searched"
    table = Table(
        title=f"{report.queries} queries, {report.judged_pairs:,} judged pairs; {way}", title_justify="left", box=None
    )
    table.add_column("system", no_wrap=True)
    for name in report.metrics:
        table.add_column(name, justify="right")
    counts = not report.judged_only
    if counts:
        table.add_column("unjudged", justify="right", style="dim")
    for system in report.systems:
        cells = [_cell(system, name) for name in report.metrics]
        table.add_row(system.name, *cells, *([_percent(system.unjudged)] if counts else []))
    return table


def as_text(report: Report) -> str:
    """as_table as plain text, 100 columns wide."""
    import io

    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=100).print(as_table(report))
    return buffer.getvalue().rstrip()


def _cell(system: SystemReport, metric: str) -> str:
    """0.864* over its interval."""
    estimate = system.metrics[metric]
    if estimate.value != estimate.value:
        return "-"
    against = system.against.get(metric)
    star = "*" if against and against.p < SIGNIFICANT else " "
    interval = f"[dim]{_short(estimate.low)}-{_short(estimate.high)}[/dim]" if estimate.low == estimate.low else ""
    return f"{estimate.value:.3f}{star}\n{interval}"


def _short(share: float) -> str:
    """A number in 0..1 without its leading zero, so that five metrics fit on 80 columns."""
    return f"{share:.2f}".removeprefix("0")


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.0f}%"


def footnotes(report: Report) -> list[str]:
    """What the table cannot show: gains, tests, what was left out."""
    gains = ", ".join(f"{label}={gain:g}" for label, gain in zip(report.scale.labels, report.scale.gains, strict=True))
    lines = [
        f"gains: {gains}; positive: {', '.join(sorted(report.scale.positive))}. 95% bootstrap intervals over queries.",
    ]
    if len(report.systems) > 1:
        first = report.systems[0].name
        lines.append(f"* p < {SIGNIFICANT} against {first}, paired randomisation; not corrected for many tests.")
    if report.single_grade:
        lines.append(f"{report.single_grade} queries have one grade only: no order of the judged items changes them.")
    undefined = [count for count in (_undefined(report, metric) for metric in report.metrics) if count]
    if undefined:
        lines.append(f"queries where a metric is undefined and left out of its mean: {'; '.join(undefined)}.")
    for system in report.systems:
        if system.missing:
            lines.append(f"{system.name}: {system.missing} queries without a result; they count 0.")
        lines += [f"{system.name}: {note}." for note in system.notes]
    return lines


def _undefined(report: Report, metric: str) -> str:
    """'mrr@10 17', by system where they differ, nothing where it is defined everywhere."""
    counts = {system.name: system.undefined[metric] for system in report.systems}
    if len(set(counts.values())) == 1:
        count = counts[report.systems[0].name]
        return f"{metric} {count}" if count else ""
    return f"{metric} " + ", ".join(f"{name} {count}" for name, count in counts.items())
