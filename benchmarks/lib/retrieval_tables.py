"""Tables of results that hold, per query, what was ranked: relevance, paired differences, costs of training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from goodrate.evaluation.significance import Interval, bootstrap_interval
from lib.queue import ByArm, Results
from lib.statistics import paired_mean
from lib.tables import shown

WHOLE = slice(None)
RELEVANCE = (("hitrate@100", False), ("hitrate@100", True), ("goodrate@10", False), ("goodrate@100", False))


def values(results: Results, name: str) -> np.ndarray:
    """A metric (Q,) of every query, mean over seeds; NaN = unknown."""
    return np.mean([np.asarray(result["by_query"][name].split(), dtype=float) for result in results], axis=0)


def tail(results: Results) -> np.ndarray:
    """Whether a query is of the long tail, (Q,) bool."""
    return np.asarray([mark == "1" for mark in results[0]["tail"]])


def gain(arm: Results, other: Results, name: str, part: slice | np.ndarray = WHOLE) -> Interval | None:
    """The paired difference of a metric over the seeds that both have, None without one and of an arm to itself."""
    return None if arm is other else paired_mean(arm, other, lambda results: values(results, name)[part])


def gap(arm: Results, other: Results, name: str, part: slice | np.ndarray = WHOLE) -> str:
    """The same as text."""
    return shown(gain(arm, other, name, part), "+.3f")


def relevance_rows(groups: ByArm) -> list[list[str]]:
    """Hit rate, general and long tail, and Goodrate, each with what it gains over SFT."""
    rows = [["arm", "seeds", "Hitrate@100", "minus SFT", "long tail", "minus SFT", "Goodrate@10", "minus SFT",
             "Goodrate@100", "minus SFT"]]  # fmt: skip
    for arm, results in groups.items():
        cells = [arm, str(len(results))]
        for name, rare in RELEVANCE:
            part = tail(results) if rare else WHOLE
            level = bootstrap_interval(values(results, name)[part])
            cells += [shown(level), gap(results, groups.get("sft", []), name, part)]
        rows.append(cells)
    return rows


def versus(groups: ByArm, base: str, arms: Iterable[str]) -> list[list[str]]:
    """What arms gain over the one that they differ from."""
    rows, first = [[f"arm minus {base}", "Hitrate@100", "long tail", "Goodrate@10", "Goodrate@100"]], groups.get(base)
    for arm in [arm for arm in arms if first and arm in groups]:
        own = groups[arm]
        rows.append([arm, *(gap(own, first or [], name, tail(own) if rare else WHOLE) for name, rare in RELEVANCE)])
    return rows


def others(groups: ByArm) -> list[list[str]]:
    """Hit rate at other depths, what lexical search finds too, quality."""
    names = ["hitrate@50", "hitrate@200", "overlap@100", "exclusive_recall@100", "quality@10"]
    rows = [["arm", *(part for name in names for part in (name, "minus SFT"))]]
    for arm, results in groups.items():
        first = groups.get("sft", [])
        cells = [(f"{np.nanmean(values(results, name)):.3f}", gap(results, first, name)) for name in names]
        rows.append([arm, *(text for pair in cells for text in pair)])
    return rows


def costs(groups: ByArm) -> list[list[str]]:
    """What training took and what it saw, mean over seeds; seconds are those of the quietest seed.

    The judge's seconds are of an arm alone: its different pairs at the seconds per pair of the quietest long run.
    """
    read = [r["cost"] for results in groups.values() for r in results if r["cost"].get("judged", 0) > 20_000]
    pair = min((c["seconds_grading"] / c["judged"] for c in read), default=0.0)
    rows = [["arm", "updates", "pairs asked", "different", "seconds without judge", "refresh", "judge alone",
             "judge's share", "with spread", "reward first, last 20", "KL", "staleness"]]  # fmt: skip
    for arm, results in groups.items():
        spent = [result["cost"] for result in results]
        if not spent[0].get("seconds"):
            continue
        quiet = min(spent, key=lambda one: one["seconds"] - one.get("seconds_grading", 0.0))
        own = quiet["seconds"] - quiet.get("seconds_grading", 0.0)
        alone = mean_cost(spent, "distinct") * pair
        rows.append([
            arm, f"{mean_cost(spent, 'updates'):.0f}", f"{mean_cost(spent, 'asked'):,.0f}",
            f"{mean_cost(spent, 'distinct'):,.0f}",
            f"{own:.0f}", f"{quiet.get('seconds_refresh', 0.0) / own:.0%}", f"{alone:.0f} s",
            f"{alone / (own + alone):.0%}",
            logged(spent, "share_kept_last", ".2f"), f"{logged(spent, 'reward_first')}, {logged(spent, 'reward_last')}",
            logged(spent, "kl_last"), logged(spent, "matrix_age_last", ".1f"),
        ])  # fmt: skip
    return rows


def mean_cost(spent: list[dict[str, Any]], name: str) -> float:
    """The mean over seeds of a cost; one that an arm does not have is 0."""
    return float(np.mean([one.get(name, 0.0) for one in spent]))


def logged(spent: list[dict[str, Any]], name: str, form: str = ".3f") -> str:
    """The mean over seeds as text, "-" where it was not measured."""
    return f"{mean_cost(spent, name):{form}}" if name in spent[0] else "-"


def trained_rows(groups: ByArm) -> list[list[str]]:
    """The same measures on training queries: what is learned, beside what carries over to other queries."""
    names = ["hitrate@100", "goodrate@10"]
    rows = [["arm, seed 0", *(f"{name}, {where}" for name in names for where in ("training queries", "test queries"))]]
    for arm, results in groups.items():
        for result in [r for r in results if r["seed"] == 0 and "training" in r][:1]:
            pairs = [(result["training"][name], result["means"][name]) for name in names]
            rows.append([arm, *(f"{value:.3f}" for pair in pairs for value in pair)])
    return rows
