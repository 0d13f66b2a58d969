"""Pictures other than forest plots: one measure against another, and two shares beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.significance import Interval
from goodrate.learning.curves import COLORS, GRID, INK, MUTED

SIDES = {"quality@10": "mean quality of the top 10", "overlap@100": "overlap with lexical search, top 100"}
BARS = (("label", "right label", -0.2, "#9db8d9"), ("verdict", "right rule", 0.2, "#1f4e8c"))


def figure(width: float, height: float) -> Any:
    """An empty figure in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def draw_seesaw(lines: Mapping[str, Mapping[str, Sequence[Interval]]], out: Path) -> None:
    """Goodrate@10 against the SIDES, a line each; lines: title -> metric -> differences to SFT, point by point."""
    picture = figure(9, 3.9)
    for axis, (name, label) in zip(picture.subplots(1, 2), SIDES.items(), strict=True):
        for color, (title, points) in zip(COLORS, lines.items(), strict=False):
            y = points["goodrate@10"]
            reach = [[i.value - i.low for i in y], [i.high - i.value for i in y]]
            axis.errorbar(
                [i.value for i in points[name]], [i.value for i in y], reach, fmt="o-", color=color, linewidth=1.3,
                elinewidth=0.7, markersize=5, label=title,
            )  # fmt: skip
        axis.plot(0, 0, "s", color=MUTED, markersize=5, label="SFT")
        axis.set_xlabel(f"{label}, minus SFT", color=MUTED, fontsize=9)
        axis.set_ylabel("Goodrate@10 minus SFT", color=MUTED, fontsize=9)
        axis.grid(color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelsize=8, colors=INK)
        axis.spines[["top", "right", "left"]].set_visible(False)
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    picture.savefig(out, dpi=110)


def draw_bars(found: Mapping[str, Sequence[Mapping[str, float]]], out: Path) -> None:
    """Right labels beside right deciding rules, a bar each: means over the results of each arm."""
    picture = figure(7, 0.45 * len(found) + 1.2)
    axes, place = picture.add_subplot(), np.arange(len(found))
    for name, title, shift, color in BARS:
        shares = [float(np.mean([one[name] for one in results])) for results in found.values()]
        bars = axes.barh(place + shift, shares, height=0.38, label=title, color=color)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(yticks=place, yticklabels=[f"{arm} ({len(results)})" for arm, results in found.items()], xlim=(0, 1.08))
    axes.set_xlabel("share of test pairs; seeds in brackets")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / len(found)), ncols=2, frameon=False)
    picture.savefig(out, dpi=130)
