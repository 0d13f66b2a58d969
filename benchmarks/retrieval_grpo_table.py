"""The tables and the picture of benchmarks/retrieval_grpo.py from its results.

python benchmarks/retrieval_grpo_table.py            print the tables
python benchmarks/retrieval_grpo_table.py --write    put them and the picture into docs/retrieval_grpo.md

Means over seeds and queries; intervals over queries, 95 %; differences are paired by query over the seeds both have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiment import markdown, with_interval, write_between
from goodrate.evaluation.significance import Interval, bootstrap_interval, paired_bootstrap_difference
from retrieval_grpo import ARMS, QUEUE, SEPARATE, Settings

PAGE = Path(__file__).parents[1] / "docs" / "retrieval_grpo.md"
PICTURE = PAGE.parent / "pictures" / "retrieval_seesaw.png"
BEGIN, END = "<!-- python benchmarks/retrieval_grpo_table.py --write -->", "<!-- end of the tables -->"
Results = list[dict[str, Any]]


def values(results: Results, name: str) -> np.ndarray:
    """A metric (Q,) of every query, mean over seeds; NaN = unknown."""
    return np.mean([np.asarray(found["by_query"][name].split(), dtype=float) for found in results], axis=0)


def tail(results: Results) -> np.ndarray:
    """Whether a query is of the long tail, (Q,) bool."""
    return np.asarray([mark == "1" for mark in results[0]["tail"]])


def grouped() -> dict[str, Results]:
    """Results on the test queries by arm, in the arms' order."""
    groups: dict[str, Results] = defaultdict(list)
    for found in QUEUE.found():
        if found["settings"]["split"] == "test":
            groups[found["arm"]].append(found)
    order = [arm.replace(" ", "_") for arm in ARMS]
    return {arm: groups[arm] for arm in sorted(groups, key=order.index)}


def gap(arm: Results, other: Results, name: str, part: slice | np.ndarray = slice(None)) -> str:
    """The paired difference of a metric over the seeds that both have."""
    found = None if arm is other else gain(arm, other, name, part)
    return with_interval(found, "+.3f") if found else "-"


def gain(arm: Results, other: Results, name: str, part: slice | np.ndarray = slice(None)) -> Interval | None:
    """The paired difference of a metric over the seeds that both have, None without one."""
    seeds = {found["seed"] for found in arm} & {found["seed"] for found in other}
    if not seeds:
        return None
    ours, theirs = ([found for found in results if found["seed"] in seeds] for results in (arm, other))
    return paired_bootstrap_difference(values(ours, name)[part], values(theirs, name)[part])


def level(results: Results, name: str, part: slice | np.ndarray = slice(None)) -> str:
    """A metric with its interval over queries."""
    found = bootstrap_interval(values(results, name)[part])
    return with_interval(found)


def relevance(groups: dict[str, Results]) -> list[list[str]]:
    """Hit rate, general and long tail, and Goodrate, each with what it gains over SFT."""
    rows = [["arm", "seeds", "Hitrate@100", "minus SFT", "long tail", "minus SFT", "Goodrate@10", "minus SFT",
             "Goodrate@100", "minus SFT"]]  # fmt: skip
    for arm, results in groups.items():
        first, rare = groups.get("sft", []), tail(results)
        cells = []
        for name, part in (
            ("hitrate@100", slice(None)), ("hitrate@100", rare), ("goodrate@10", slice(None)),
            ("goodrate@100", slice(None)),
        ):  # fmt: skip
            cells += [level(results, name, part), gap(results, first, name, part)]
        rows.append([arm, str(len(results)), *cells])
    return rows


ABLATIONS = {
    *(arm.replace(" ", "_") for arm in ARMS if arm.startswith(("truth ", "fused", "ungated", "separate"))),
} - {"truth_positives", "truth_rl_only"}  # fmt: skip
RIVALS = ("listwise", "ranknet", "dpo", "lambda", "expected", "grpo_K=32", "listwise_K=32", "weak_judge", "continued",
          "restarted")  # fmt: skip


def versus(groups: dict[str, Results], base: str, arms: Iterable[str]) -> list[list[str]]:
    """What arms gain over the one that they differ from."""
    rows = [[f"arm minus {base}", "Hitrate@100", "long tail", "Goodrate@10", "Goodrate@100"]]
    first = groups.get(base, [])
    for arm in arms:
        if first and arm in groups:
            results, rare = groups[arm], tail(groups[arm])
            cells = [gap(results, first, "hitrate@100"), gap(results, first, "hitrate@100", rare)]
            rows.append([arm, *cells, *(gap(results, first, name) for name in ("goodrate@10", "goodrate@100"))])
    return rows


def others(groups: dict[str, Results]) -> list[list[str]]:
    """Hit rate at other depths, what lexical search finds too, quality."""
    names = ["hitrate@50", "hitrate@200", "overlap@100", "exclusive_recall@100", "quality@10"]
    rows = [["arm", *(part for name in names for part in (name, "minus SFT"))]]
    for arm, results in groups.items():
        first = groups.get("sft", [])
        cells = [(f"{np.nanmean(values(results, name)):.3f}", gap(results, first, name)) for name in names]
        rows.append([arm, *(text for pair in cells for text in pair)])
    return rows


def costs(groups: dict[str, Results]) -> list[list[str]]:
    """What training took and what it saw, mean over seeds; seconds are those of the quietest seed.

    The judge's seconds are of an arm alone: its different pairs at the seconds per pair of the quietest long run.
    """
    read = [f["cost"] for results in groups.values() for f in results if f["cost"].get("judged", 0) > 20_000]
    pair = min((c["seconds_grading"] / c["judged"] for c in read), default=0.0)
    rows = [["arm", "updates", "pairs asked", "different", "seconds without judge", "refresh", "judge alone",
             "judge's share", "with spread", "reward first, last 20", "KL", "staleness"]]  # fmt: skip
    for arm, results in groups.items():
        spent = [found["cost"] for found in results]
        if not spent[0].get("seconds"):
            continue
        quiet = min(spent, key=lambda one: one["seconds"] - one.get("seconds_grading", 0.0))
        own = quiet["seconds"] - quiet.get("seconds_grading", 0.0)
        alone = mean(spent, "distinct") * pair
        rows.append([
            arm, f"{mean(spent, 'updates'):.0f}", f"{mean(spent, 'asked'):,.0f}", f"{mean(spent, 'distinct'):,.0f}",
            f"{own:.0f}", f"{quiet.get('seconds_refresh', 0.0) / own:.0%}", f"{alone:.0f} s",
            f"{alone / (own + alone):.0%}",
            told(spent, "share_kept_last", ".2f"), f"{told(spent, 'reward_first')}, {told(spent, 'reward_last')}",
            told(spent, "kl_last"), told(spent, "matrix_age_last", ".1f"),
        ])  # fmt: skip
    return rows


def mean(spent: list[dict[str, Any]], name: str) -> float:
    """The mean over seeds of a cost; one that an arm does not have is 0."""
    return float(np.mean([one.get(name, 0.0) for one in spent]))


def told(spent: list[dict[str, Any]], name: str, form: str = ".3f") -> str:
    """The mean over seeds as text, "-" where it was not measured."""
    return f"{mean(spent, name):{form}}" if name in spent[0] else "-"


def screened() -> list[list[str]]:
    """What was tried on the dev queries: the settings that differ from the defaults, and what came out."""
    names = ["hitrate@50", "hitrate@100", "goodrate@10", "goodrate@100"]
    rows = [["change", *names, "reward first, last 20", "KL"]]
    plain = Settings().model_dump()
    for found in QUEUE.found():
        if found["settings"]["split"] == "dev":
            changed = {k: v for k, v in found["settings"].items() if k != "split" and v != plain.get(k)}
            told = ", ".join(f"{name} {value}" for name, value in changed.items()) or "default"
            spent = found["cost"]
            ends = f"{spent['reward_first']:.3f}, {spent['reward_last']:.3f}" if "reward_last" in spent else "-"
            kl = f"{spent['kl_last']:.3f}" if "kl_last" in spent else "-"
            rows.append([told, *(f"{found['means'][name]:.3f}" for name in names), ends, kl])
    return [rows[0], *sorted(rows[1:], key=lambda row: -float(row[2]))]


def trained(groups: dict[str, Results]) -> list[list[str]]:
    """The same measures on training queries: what is learned, beside what carries over to other queries."""
    names = ["hitrate@100", "goodrate@10"]
    rows = [["arm, seed 0", *(f"{name}, {where}" for name in names for where in ("training queries", "test queries"))]]
    for arm, results in groups.items():
        found = [f for f in results if f["seed"] == 0 and "training" in f]
        if found:
            pairs = [(found[0]["training"][name], found[0]["means"][name]) for name in names]
            rows.append([arm, *(f"{value:.3f}" for pair in pairs for value in pair)])
    return rows


def draw(groups: dict[str, Results]) -> None:
    """Relevance against quality and exclusivity: one fused reward or separate losses. All less SFT."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from goodrate.learning.curves import COLORS, GRID, INK, MUTED

    figure = Figure(figsize=(9, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, label) in zip(
        figure.subplots(1, 2),
        (("quality@10", "mean quality of the top 10"), ("overlap@100", "overlap with lexical search, top 100")),
        strict=True,
    ):
        for color, (title, arms) in zip(COLORS, SEPARATE.items(), strict=False):
            found = [groups[arm.replace(" ", "_")] for arm in arms if arm.replace(" ", "_") in groups]
            if not found:
                continue
            x = [i.value for results in found if (i := gain(results, groups["sft"], name))]
            y = [i for results in found if (i := gain(results, groups["sft"], "goodrate@10"))]
            reach = [[i.value - i.low for i in y], [i.high - i.value for i in y]]
            axis.errorbar(
                x, [i.value for i in y], reach, fmt="o-", color=color, linewidth=1.3, elinewidth=0.7, markersize=5,
                label=title,
            )  # fmt: skip
        axis.plot(0, 0, "s", color=MUTED, markersize=5, label="SFT")
        axis.set_xlabel(f"{label}, minus SFT", color=MUTED, fontsize=9)
        axis.set_ylabel("Goodrate@10 minus SFT", color=MUTED, fontsize=9)
        axis.grid(color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelsize=8, colors=INK)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def render() -> str:
    """Every table as Markdown."""
    groups = grouped()
    parts = [
        "**Relevance, by the shop's truth** (test queries; intervals over queries, 95 %)", markdown(relevance(groups)),
        "**Against GRPO**", markdown(versus(groups, "grpo", RIVALS)),
        "**Ablations against GRPO with the truth as reward**",
        markdown(versus(groups, "truth", [arm for arm in groups if arm in ABLATIONS])),
        "**Other depths, overlap, quality**", markdown(others(groups)),
        "**Cost and what training saw**", markdown(costs(groups)),
        "**Training queries beside test queries**", markdown(trained(groups)),
        "**Screening on the dev queries, one seed**", markdown(screened()),
    ]  # fmt: skip
    return "\n\n".join(parts)


def main(write: Annotated[bool, typer.Option("--write", help="Into docs/retrieval_grpo.md.")] = False) -> None:
    """Print every table, or write them and the picture."""
    if not write:
        print(render())
        return
    write_between(PAGE, BEGIN, END, render())
    draw(grouped())


if __name__ == "__main__":
    typer.run(main)
