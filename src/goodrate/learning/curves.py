"""What a run logged, as small multiples: one panel per figure, runs over one another."""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.extras import MissingExtra, require
from goodrate.run_folder import RunFolder, write_atomic

log = logging.getLogger(__name__)
Records = Sequence[Mapping[str, Any]]
FILE, PICTURES = "curves.png", (".png", ".svg", ".pdf")
INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLORS = ("#0b6e99", "#d9730d", "#3a7d44", "#8e44ad", "#c0392b", "#7b8794", "#b7950b", "#16a085")
STYLES = ("-", "--", ":", "-.")
COLUMNS, PANEL = 4, (3.1, 2.15)  # panels in a row; inches
DRAWABLE = 1e100  # numbers are drawn below this: a picture of larger ones cannot be scaled
MAX_PANELS = 200
DENSE = 40  # a noisy line with more points than this gets a running mean over it


@dataclass(frozen=True)
class Panel:
    """A title and the logged names drawn under it, with what the legend calls them."""

    title: str
    names: Mapping[str, str]


PANELS = (
    Panel("loss", {"loss": "loss"}),
    Panel("reward", {"reward": "reward"}),
    Panel("accuracy of samples", {"accuracy": "accuracy"}),
    Panel(
        "groups",
        {
            "share_kept": "mixed, kept",
            "share_all_right": "all right",
            "share_all_wrong": "all wrong",
            "share_screened": "screened",
        },
    ),
    Panel(
        "mixed groups by percent right", {f"groups_at/{part}": part for part in ("0-25", "25-50", "50-75", "75-100")}
    ),
    Panel("pairs preferred", {"preferred": "preferred"}),
    Panel("moved since the start (nats)", {"chosen_moved": "chosen", "rejected_moved": "rejected"}),
    Panel("label margin (nats)", {"label_margin": "margin"}),
    Panel("entropy per token (nats)", {"entropy": "text", "first_token_entropy": "label"}),
    Panel("KL to the start (nats)", {"kl": "kl"}),
    Panel("share of tokens clipped", {"clipped": "clipped"}),
    Panel("failed completions", {"failed": "failed", "cut_off": "cut off"}),
    Panel("own steps", {"inconsistent": "contradicted by the label", "unreadable_steps": "unreadable"}),
    Panel("different reasonings of a group", {"paths": "reasonings"}),
    Panel("spread of labels given (0..1)", {"label_spread": "spread"}),
    Panel("gold labels of an update (share)", {f"labels/{label}": str(label) for label in range(1, 6)}),
    Panel("gold labels of an update (cv)", {"label_cv": "cv"}),
    Panel("completion length (tokens)", {"length": "length"}),
    Panel("gap sampler to trainer (nats)", {"sampler_gap": "gap"}),
    Panel("gradient norm", {"gradient_norm": "norm"}),
    Panel("tokens per second", {"sampled_tokens_per_second": "sampled", "trained_tokens_per_second": "trained"}),
    Panel("learning rate", {"learning_rate": "rate"}),
)
# Summands of the loss and numbers that another panel shows already.
LEFT_OUT = {
    "update", "seconds", "groups", "cross_entropy", "dpo", "info_nce", "policy", "kl_loss", "nll", "reward/label",
    "share_outside_band", "share_unscored", "groups_at/0", "groups_at/100", "sampled_groups", "trained_tokens",
}  # fmt: skip


def read_metrics(folder: Path) -> Records:
    """The records of a run folder. ValueError that names the runs inside the folder where it is not one itself."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run folder")
    records = [record for record in RunFolder(folder).metrics() if "update" in record]
    wrong = [record["update"] for record in records if not _is_update(record["update"])]
    if wrong:
        raise ValueError(f"{folder / 'metrics.jsonl'}: update {wrong[0]!r}: expected a whole number from 0")
    if not records:
        inside = sorted(str(file.parent) for file in folder.glob("*/metrics.jsonl"))
        hint = f"; runs inside it: {', '.join(inside)}" if inside else "; expected what goodrate train writes"
        raise ValueError(f"{folder}: no metrics.jsonl with records{hint}")
    panels = len(drawn_panels({folder.name: records}))
    if not 0 < panels <= MAX_PANELS:
        raise ValueError(f"{folder / 'metrics.jsonl'}: {panels:,} numbers to draw; expected 1 to {MAX_PANELS}")
    return records


def write_curves(run: RunFolder) -> None:
    """curves.png into a run folder; nothing where it logged less than two records, which make no line.

    Where nothing can be drawn, a trained model must not be lost for it: a warning says what is missing.
    """
    records = run.metrics()
    if len(records) < 2:
        return
    try:
        draw_curves({run.path.name: records}, run.path / FILE)
    except (MissingExtra, ValueError) as error:
        log.warning("no %s in %s: %s", FILE, run.path, error)


def draw_curves(runs: Mapping[str, Records], path: Path) -> None:
    """Write a picture of the runs by name, one over the other; its kind is the suffix, one of PICTURES."""
    require("plots", "a picture of curves")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = drawn_panels(runs)
    rows = math.ceil(len(panels) / COLUMNS)
    columns = min(COLUMNS, len(panels))
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1] + 0.35), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, runs)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if len(runs) > 1:
        _name_runs(figure, list(runs))
    figure.supxlabel("update", fontsize=9, color=MUTED)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lstrip(".").lower(), dpi=110)
    write_atomic(path, picture.getvalue())


def drawn_panels(runs: Mapping[str, Records]) -> list[Panel]:
    """The panels that some run has a number for; a logged name of no panel gets its own at the end."""
    logged = {name for records in runs.values() for record in records for name in record if _known(record, name)}
    listed = {name for panel in PANELS for name in panel.names}
    shown = [Panel(p.title, {name: text for name, text in p.names.items() if name in logged}) for p in PANELS]
    others = [Panel(name, {name: name}) for name in sorted(logged - listed - LEFT_OUT)]
    return [panel for panel in shown if panel.names] + others


def series(records: Records, name: str) -> tuple[list[int], list[float]]:
    """The updates that logged a number under the name, and the numbers; NaN and missing ones are left out."""
    points = [(int(record["update"]), float(record[name])) for record in records if _known(record, name)]
    return [update for update, _ in points], [value for _, value in points]


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and up to `reach` neighbours on either side.

    >>> running_mean([0, 3, 6, 9], 1)
    [1.5, 3.0, 6.0, 7.5]
    """
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def noisy(values: Sequence[float]) -> bool:
    """Whether a line goes up and down much more than it gets anywhere.

    >>> noisy([0, 1, 2, 3]), noisy([0, 3, 0, 3, 0, 3])
    (False, True)
    """
    travelled = sum(abs(b - a) for a, b in itertools.pairwise(values))
    return travelled > 3 * (max(values) - min(values))


def _is_update(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _known(record: Mapping[str, Any], name: str) -> bool:
    """Whether there is a number that can be drawn."""
    value = record.get(name)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < DRAWABLE


def _draw(axis: Any, panel: Panel, runs: Mapping[str, Records]) -> None:
    """Several runs: a colour per run and a dash per name. One run: a colour per name."""
    for number, records in enumerate(runs.values()):
        for place, name in enumerate(panel.names):
            color = COLORS[(number if len(runs) > 1 else place) % len(COLORS)]
            _line(axis, *series(records, name), color, STYLES[place % len(STYLES)] if len(runs) > 1 else "-")
    axis.set_title(panel.title, fontsize=9.5, color=INK, loc="left")
    if len(panel.names) > 1:
        _name_lines(axis, panel, dashed=len(runs) > 1)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.margins(x=0.02, y=0.12)
    axis.locator_params(axis="both", nbins=4)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.set_major_formatter(lambda value, place: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")
    axis.tick_params(length=0, labelsize=8, colors=INK)
    _set_heights(axis, legend=len(panel.names) > 1)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#cbd2d9")


def _set_heights(axis: Any, legend: bool) -> None:
    """At least two per cent of the values' size, so that rounding is not drawn as a slope; room for a legend on top.

    What is never negative is not drawn as if it could be.
    """
    values = [float(value) for line in axis.lines for value in line.get_ydata()]
    least = 0.01 * max(map(abs, values))
    bottom, top = axis.get_ylim()
    bottom, top = min(bottom, min(values) - least), max(top, max(values) + least)
    if min(values) >= 0 > bottom:
        bottom = -0.03 * top
    axis.set_ylim(bottom, top + (0.3 * (top - bottom) if legend else 0))


def _line(axis: Any, updates: list[int], values: list[float], color: str, style: str) -> None:
    dense = len(values) > DENSE and noisy(values)
    marker = "o" if len(values) <= 3 else None
    axis.plot(
        updates, values, style, color=color, linewidth=0.8 if dense else 1.4, alpha=0.35 if dense else 1, marker=marker,
        markersize=3,
    )  # fmt: skip
    if dense:
        axis.plot(updates, running_mean(values, len(values) // 40 + 1), style, color=color, linewidth=1.6)


def _name_lines(axis: Any, panel: Panel, dashed: bool) -> None:
    from matplotlib.lines import Line2D

    looks: list[tuple[str, Any]] = [
        (MUTED, STYLES[i % len(STYLES)]) if dashed else (COLORS[i % len(COLORS)], "-") for i in range(8)
    ]
    lines = [Line2D([], [], color=color, linestyle=style, linewidth=1.4) for color, style in looks[: len(panel.names)]]
    box = axis.legend(
        lines, panel.names.values(), fontsize=7, labelcolor=INK, loc="upper left", handlelength=1.8, columnspacing=1.0,
        ncols=len(lines) // 3 + 1, framealpha=0.85, edgecolor="none", borderpad=0.2,
    )  # fmt: skip
    box.set_zorder(3)


def _name_runs(figure: Any, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLORS[i % len(COLORS)], linewidth=2) for i in range(len(names))]
    figure.legend(lines, names, loc="outside upper left", ncols=min(4, len(names)), fontsize=9, frameon=False)
