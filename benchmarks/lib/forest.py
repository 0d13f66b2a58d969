"""Forest plots: one row per method, its paired difference to a named control with the 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from goodrate.evaluation.significance import Interval
from goodrate.learning.curves import GRID, INK, MUTED
from lib.tables import shown

GAIN, LOSS, OPEN = "#0b6e99", "#c0392b", MUTED  # the interval lies above 0, below 0, holds 0
ENOUGH = 3  # seeds; with fewer a row is screening and its marker is hollow
ROW, WIDTH, DPI = 0.235, 9.0, 100  # inches, inches, 900 px


@dataclass(frozen=True, eq=False)
class Row:
    """A method against its control; differences: metric -> interval, the first metric sorts the rows of a group."""

    group: str
    method: str
    control: str
    seeds: int
    differences: dict[str, Interval]


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Groups in the order given, the rows of each from the largest difference to the smallest."""
    groups = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: (groups.index(row.group), -next(iter(row.differences.values())).value))


def as_document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for JSON, in the order of the plot."""
    return [asdict(row) for row in ordered(rows)]


def as_rows(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as a table, in the order of the plot."""
    head = ["group", "method", "minus", "seeds", *rows[0].differences]
    cells = [[r.group, r.method, r.control, str(r.seeds), *(shown(d, "+.3f") for d in r.differences.values())]
             for r in ordered(rows)]  # fmt: skip
    return [head, *cells]


def draw_forest(rows: Sequence[Row], out: Path, limits: Mapping[str, tuple[float, float]]) -> None:
    """One panel per metric, the methods and controls at the left, numbers at the right. limits: metric -> x axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(rows[0].differences)
    heights, place = {}, 0.0
    for group, members in groupby(ordered(rows), key=lambda row: row.group):
        heights[group] = place
        heights |= {row: place + 1 + n for n, row in enumerate(members)}
        place = max(heights.values()) + 1.6
    picture = Figure(figsize=(WIDTH, ROW * place + 0.75), layout="constrained")
    FigureCanvasAgg(picture)
    for n, (axis, metric) in enumerate(zip(picture.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True)):
        for key, y in heights.items():
            if isinstance(key, Row):
                _draw_row(axis, key.differences[metric], y, key.seeds, limits[metric])
        axis.axvline(0, color=INK, linewidth=0.9, zorder=1)
        axis.set(xlim=limits[metric], ylim=(place - 0.9, -0.7), yticks=[])
        axis.set_title(f"{metric}, difference to the control", fontsize=9.5, color=INK)
        axis.grid(axis="x", color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelsize=8.5, colors=INK)
        axis.spines[["top", "right", "left"]].set_visible(False)
        if n == 0:
            _label(axis, heights)
    note = f"right of 0: better than its control; 95 % over queries, means over seeds; hollow: under {ENOUGH} seeds"
    picture.supxlabel(note, fontsize=8.5, color=MUTED)
    picture.savefig(out, dpi=DPI)


def _draw_row(axis: Any, gap: Interval, y: float, seeds: int, limits: tuple[float, float]) -> None:
    """Marker, interval and the number beside it."""
    color = GAIN if gap.low > 0 else LOSS if gap.high < 0 else OPEN
    axis.plot([gap.low, gap.high], [y, y], color=color, linewidth=1.6, solid_capstyle="round", zorder=2)
    face = color if seeds >= ENOUGH else "white"
    axis.plot(gap.value, y, "o", markersize=5.5, markeredgecolor=color, markerfacecolor=face, zorder=3)
    text = f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
    axis.text(1.01, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8, color=color)


def _label(axis: Any, heights: Mapping[Any, float]) -> None:
    """Group headings, methods and what they are compared with, as the axis's labels."""
    names = [f"{key.method}  −  {key.control}" if isinstance(key, Row) else key for key in heights]
    axis.set_yticks(list(heights.values()), names)
    for key, tick in zip(heights, axis.get_yticklabels(), strict=True):
        tick.set(fontsize=8.5, color=INK, fontweight="normal" if isinstance(key, Row) else "bold")
