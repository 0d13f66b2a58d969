"""The report as a picture: one panel per metric, one dot with its interval per system."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from goodrate.evaluation.report import Report, SystemReport
from goodrate.extras import require
from goodrate.run_folder import write_atomic

INK, MUTED, ACCENT = "#1f2933", "#9aa5b1", "#0b6e99"
PANEL_WIDTH, ROW_HEIGHT = 2.2, 0.42  # inches
MOST_PANELS = 5  # more do not fit beside each other


def write_plot(report: Report, path: Path) -> None:
    """Write a PNG (or whatever the suffix says). The first system is drawn grey: it is what the others are held to."""
    require("plots", "a picture of a report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = report.metrics[:MOST_PANELS]
    rows = len(report.systems)
    figure = Figure(figsize=(1.4 + PANEL_WIDTH * len(metrics), 1.25 + ROW_HEIGHT * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        _draw(panel, report.systems, metric)
    panels[0].set_yticks(range(rows), [system.name for system in report.systems])
    panels[0].set_ylim(rows - 0.5, -0.5)
    way = "judged lists reordered" if report.judged_only else "whole index searched"
    caption = f"{report.queries} queries, {way}; mean and 95% bootstrap interval over queries"
    figure.supxlabel(caption, fontsize=8, color=MUTED)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lstrip(".").lower() or "png", dpi=160)
    write_atomic(path, picture.getvalue())


def _draw(panel: Any, systems: list[SystemReport], metric: str) -> None:
    """One metric: dots, intervals, numbers."""
    for row, system in enumerate(systems):
        estimate = system.metrics[metric]
        if estimate.value != estimate.value:
            continue
        color = MUTED if row == 0 else ACCENT
        if estimate.low == estimate.low:
            panel.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=2, solid_capstyle="round")
        panel.plot([estimate.value], [row], "o", color=color, markersize=6)
        panel.annotate(
            f"{estimate.value:.3f}", (estimate.value, row), (0, 6), textcoords="offset points", ha="center",
            fontsize=7.5, color=INK,
        )  # fmt: skip
    panel.set_title(metric, fontsize=10, color=INK, loc="left")
    panel.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.margins(x=0.12)
    panel.locator_params(axis="x", nbins=4)
    panel.tick_params(length=0, labelsize=8.5, colors=INK)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color("#cbd2d9")
