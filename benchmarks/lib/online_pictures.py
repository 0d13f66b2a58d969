"""Pictures and tables of online weights: toy problems, and the shop day by day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.ranking.online.blocked import USUAL
from lib.click_shop import ARMS, BREAK, REPAIR, SCENARIOS, WEEK
from lib.drift import HORIZON, HORIZONS, INTERVALS, JUMPS, LEARNERS, THIN, slope
from lib.tables import markdown

COLOURS = ("#1b6ca8", "#c8553d", "#2e8b57", "#8d6a9f", "#b8860b", "#444444", "#d62728", "#aaaaaa", "#17becf")
MANY = (*COLOURS[:6], "#aaaaaa")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point of t for so many seeds
DRAWN = (
    "as it is", "reciprocal ranks", "tuned once", "tuned weekly", "projected descent", "dynamic", "adaptive",
    "adaptive, by category",
)  # fmt: skip
LINE = {"adaptive": 2.2}  # what is served
COMPARED = ("as it is", "tuned weekly", "projected descent", "adaptive")
Results = Sequence[dict[str, Any]]


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns).ravel()


def by_learner(results: Results, part: str) -> dict[str, np.ndarray]:
    """Learner -> (seeds, values) of a mapping of the results."""
    return {
        name: np.array([list(one["learners"][name][part].values()) for one in results], dtype=float)
        for name in LEARNERS
    }  # fmt: skip


def draw_drift(results: Results, path: Path) -> None:
    """Curves, regret by path and horizon, worst intervals, calls."""
    figure, axes = _figure(2, 3, (14, 7.5))
    rounds = np.arange(THIN, HORIZON + 1, THIN)
    for kind, axis in zip(("abrupt", "gradual"), axes[:2], strict=True):
        for name, colour in zip(LEARNERS, MANY, strict=False):
            curves = np.array([one["learners"][name]["curves"][kind] for one in results])
            axis.plot(rounds, curves.mean(axis=0), color=colour, label=name)
        axis.set(title=f"cumulative loss, 9 targets, {kind}", xlabel="round")
    axes[0].legend(fontsize=8)
    ticks = {"by horizon": HORIZONS, "intervals": INTERVALS[::2]}
    paths = np.array([list(one["paths"].values()) for one in results]).mean(axis=0)
    panels = [
        (axes[2], paths, "by jumps", "regret by length of the path", "path length P"),
        (axes[3], np.array(HORIZONS), "by horizon", "regret by horizon, 9 targets", "rounds T"),
        (axes[4], np.array(INTERVALS), "intervals", "most lost in an interval without a jump", "its length"),
    ]
    for axis, x, part, title, label in panels:
        for (name, values), colour in zip(by_learner(results, part).items(), MANY, strict=False):
            axis.loglog(x, values.mean(axis=0), "o-", ms=3, color=colour, label=name)
        power = 0.25 if part == "by jumps" else 0.75
        middle = by_learner(results, part)["dynamic"].mean()
        guide = middle * 0.6 * (x / np.exp(np.log(x).mean())) ** power
        dashed = axis.loglog(x, guide, "k--", lw=1, label=f"slope of the bound, {power:g}")
        axis.legend(handles=dashed, fontsize=8, loc="lower right")
        axis.set(title=title, xlabel=label)
        if part in ticks:
            axis.set_xticks(ticks[part], [f"{tick:,}" for tick in ticks[part]])
            axis.minorticks_off()
    for name, colour in zip(LEARNERS, MANY, strict=False):
        axes[5].semilogx(JUMPS, by_learner(results, "calls")[name].mean(axis=0), "o-", ms=3, color=colour)
    axes[5].set(title="linear minima a round", xlabel="jumps")
    for axis in axes:
        axis.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def days_of(results: Results, scenario: str, arm: str, part: str = "ndcg") -> np.ndarray:
    """(seeds, days, ...)."""
    return np.array([one["scenarios"][scenario][arm][part] for one in results])


def draw_shop(results: Results, path: Path) -> None:
    """nDCG of true utility by day in each scenario, and the weights where words break."""
    figure, axes = _figure(2, 3, (15, 8))
    for scenario, axis in zip(SCENARIOS, axes, strict=False):
        for name, colour in zip(DRAWN, COLOURS, strict=False):
            axis.plot(
                days_of(results, scenario.name, name).mean(axis=0), color=colour, lw=LINE.get(name, 1.2), label=name
            )
        for mark in scenario.marks:
            axis.axvline(mark, color="k", lw=1, ls=":")
        axis.set(title=f"{scenario.name}: nDCG@10 of true utility", xlabel="day", ylim=(0, None))
    axes[0].legend(fontsize=8, loc="lower right")
    weights = days_of(results, "words break", "adaptive", "weights").mean(axis=0)
    for name, column, colour in zip(results[0]["channels"], weights.T, COLOURS, strict=False):
        axes[-1].plot(column, color=colour, label=name)
    for mark in (BREAK, REPAIR):
        axes[-1].axvline(mark, color="k", lw=1, ls=":")
    axes[-1].set(title="words break: weights of adaptive", xlabel="day", ylim=(0, 1))
    axes[-1].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def interval(values: np.ndarray, form: str = ".3f") -> str:
    """The mean over seeds with its 95 % interval by Student's t."""
    mean = values.mean()
    if len(values) < 2:
        return f"{mean:{form}}"
    half = STUDENT[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:{form}} ({mean - half:{form}} to {mean + half:{form}})"


def drift_tables(results: Results) -> list[str]:
    """Regret of the toy problems."""
    if not results:
        return []
    rows = [["learner", "jumps 1", "8", "64", "gradual", "slope in path", "slope in T", "slope of worst interval",
             "calls a round"]]  # fmt: skip
    jumps, horizons, worst, calls = (
        by_learner(results, part) for part in ("by jumps", "by horizon", "intervals", "calls")
    )  # fmt: skip
    paths = np.array([list(one["paths"].values()) for one in results])
    for name in LEARNERS:
        of_jumps = [interval(jumps[name][:, JUMPS.index(count)], ".0f") for count in (1, 8, 64)]
        gradual = interval(np.array([one["learners"][name]["gradual"] for one in results]), ".0f")
        slopes = np.array([slope(list(p), list(v)) for p, v in zip(paths, jumps[name], strict=True)])
        in_time = np.array([slope(list(HORIZONS), list(v)) for v in horizons[name]])
        of_worst = np.array([slope(list(INTERVALS), list(v)) for v in worst[name]])
        rows.append([name, *of_jumps, gradual, *(interval(v, ".2f") for v in (slopes, in_time, of_worst)),
                     f"{calls[name].mean():.2f}"])  # fmt: skip
    used = f"c_K {USUAL.block:g}, c_eta {USUAL.step:g}, c_eps {USUAL.tolerance:g}"
    head = f"### Toy problems\n\n{len(results)} seeds, T = {HORIZON:,}, {used}; mean and 95 % interval over seeds."
    return [head, markdown(rows)]


def summary(results: Results) -> list[list[str]]:
    """Means over seeds: of all days, and of the week after a break."""
    week = slice(BREAK, BREAK + WEEK)
    columns = [(scenario.name, scenario.name, slice(None)) for scenario in SCENARIOS]
    columns += [(f"{one.name}, days {BREAK} to {BREAK + WEEK - 1}", one.name, week) for one in SCENARIOS if one.breaks]
    rows = [["nDCG@10 of true utility", *(head for head, _, _ in columns)]]
    for name in ARMS:
        rows.append([name, *(f"{days_of(results, of, name)[:, days].mean():.3f}" for _, of, days in columns)])
    return rows


def by_day(results: Results) -> list[list[str]]:
    """Means over seeds, from the last day before a break to the second after it."""
    days = range(BREAK - 1, BREAK + 3)
    rows = [["nDCG@10 of true utility", *(f"day {day}" for day in days)]]
    for scenario in (one for one in SCENARIOS if one.breaks):
        for name in ("tuned once", *COMPARED):
            values = days_of(results, scenario.name, name).mean(axis=0)
            rows.append([f"{scenario.name}: {name}", *(f"{values[day]:.3f}" for day in days)])
    return rows


def shop_tables(results: Results) -> list[str]:
    """nDCG over all days, over the week after the break, and the differences that matter."""
    if not results:
        return []
    tables = [f"### The shop\n\n{len(results)} seeds; mean and 95 % interval over seeds, differences paired."]
    tables += [markdown(summary(results)), markdown(by_day(results))]
    for scenario in SCENARIOS:
        rows = [["arm", "all days", *(f"minus {other}" for other in COMPARED)]]
        broken = [["arm", f"days {BREAK} to {BREAK + WEEK - 1}", *(f"minus {other}" for other in COMPARED)]]
        for name in ARMS:
            for part, days in ((rows, slice(None)), (broken, slice(BREAK, BREAK + WEEK))):
                values = days_of(results, scenario.name, name)[:, days].mean(axis=1)
                others = [days_of(results, scenario.name, other)[:, days].mean(axis=1) for other in COMPARED]
                part.append([name, interval(values), *(interval(values - other, "+.3f") for other in others)])
        tables += [f"#### {scenario.name}", markdown(rows), *([markdown(broken)] if scenario.marks else [])]
    return tables
