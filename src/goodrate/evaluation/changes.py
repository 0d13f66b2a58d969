"""The queries that changed most between two systems, as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.html_report import rendered
from goodrate.evaluation.report import Report, SystemReport, numbers
from goodrate.evaluation.side_by_side import side_by_side
from goodrate.evaluation.significance import paired_bootstrap_difference, paired_randomisation
from goodrate.evaluation.systems import SystemRuns, Task, best_first
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale

TEMPLATE = Path(__file__).parent / "changes.html"
TONES = 4  # colours of labels, worst to best
OPEN = 3  # queries whose lists are shown at once


@dataclass(frozen=True)
class ShownItem:
    """One result. label: None = unjudged; tone: 0 worst .. 3 best, None likewise; was: its place in the other list."""

    place: int
    item_id: str
    title: str
    label: str | None
    tone: int | None
    was: int | None


@dataclass(frozen=True)
class ChangedQuery:
    """One query under both systems, with the metric of each; the lists are the first k results."""

    query: str
    old: float
    new: float
    old_items: list[ShownItem]
    new_items: list[ShownItem]

    @property
    def change(self) -> float:
        """new - old."""
        return self.new - self.old


def write_changes(
    path: Path, report: Report, runs: Sequence[SystemRuns], task: Task, names: tuple[str, str], k: int,
    titles: Callable[[set[str]], Mapping[str, str]], limit: int = 50,
) -> None:  # fmt: skip
    """Write the page of two systems, old and new. titles: item ids -> the titles of those that are known.

    Queries are ordered by the absolute difference of nDCG at k, then by text; those with none are counted, not shown.
    Raises ValueError for a name that was not measured, for random orders, and when nDCG at k was not measured.
    """
    old, new = (_measured(report, runs, name) for name in names)
    metric = f"ndcg@{k}"
    if metric not in report.metrics:
        raise ValueError(f"the page orders queries by {metric}, which was not measured: {', '.join(report.metrics)}")
    left, right = numbers(old[0].values, metric), numbers(new[0].values, metric)
    change = np.nan_to_num(np.abs(right - left))
    texts = list(task.queries.items())
    order = sorted(np.flatnonzero(change > 1e-12), key=lambda row: (-change[row], texts[row][1]))
    chosen = order[:limit]
    lists = [
        [best_first(one[1].runs[0].get(texts[row][0], ())) for row in chosen] for one in (old, new)
    ]  # each query's whole list, so that places are known beyond k
    known = titles({item for ranked in lists for items in ranked for item in items[:k]})
    changed = [
        ChangedQuery(
            texts[row][1], float(left[row]), float(right[row]),
            _shown(lists[0][n], lists[1][n], task.qrels[texts[row][0]], report.scale, known, k),
            _shown(lists[1][n], lists[0][n], task.qrels[texts[row][0]], report.scale, known, k),
        )
        for n, row in enumerate(chosen)
    ]  # fmt: skip
    page = _page(changed, left, right, metric, names, report, len(order))
    write_atomic(path, page)


def _measured(report: Report, runs: Sequence[SystemRuns], name: str) -> tuple[SystemReport, SystemRuns]:
    """The numbers and the run of a system."""
    by_name = {one.name: (told, one) for told, one in zip(report.systems, runs, strict=True)}
    if name not in by_name:
        raise ValueError(f"no system {name!r} was measured; measured: {', '.join(by_name)}")
    if len(by_name[name][1].runs) > 1:
        raise ValueError(f"{name!r} is a mean of {len(by_name[name][1].runs)} orders and has no one list to show")
    return by_name[name]


def _shown(
    items: Sequence[str], others: Sequence[str], judged: Mapping[str, int], scale: RelevanceScale,
    titles: Mapping[str, str], k: int,
) -> list[ShownItem]:  # fmt: skip
    """The first k items with titles, labels and their places in the other list."""
    place_of = {item: place for place, item in enumerate(others, start=1)}
    return [
        ShownItem(
            place, item, titles.get(item, ""), scale.labels[judged[item]] if item in judged else None,
            round((TONES - 1) * judged[item] / (len(scale) - 1)) if item in judged else None, place_of.get(item),
        )
        for place, item in enumerate(items[:k], start=1)
    ]  # fmt: skip


def _page(
    changed: list[ChangedQuery], left: np.ndarray, right: np.ndarray, metric: str, names: tuple[str, str],
    report: Report, total: int,
) -> str:  # fmt: skip
    """The page as HTML."""
    sides = side_by_side(right, left)
    facts: dict[str, Any] = {
        "old": names[0], "new": names[1], "metric": metric.replace("ndcg", "nDCG"), "queries": len(left),
        "old_mean": np.nanmean(left), "new_mean": np.nanmean(right), "sides": sides,
        "difference": paired_bootstrap_difference(right, left, report.seed),
        "p": paired_randomisation(right, left, report.seed), "scale": report.scale.name,
        "judged_only": report.judged_only,
    }  # fmt: skip
    return rendered(TEMPLATE, changed=changed, total=total, open=OPEN, **facts)
