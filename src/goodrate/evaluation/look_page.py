"""The report of a monitored search as one HTML page that needs nothing else: rates over time, and what has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.evaluation.drift import Drift, QueryChange
from goodrate.evaluation.html_report import rendered
from goodrate.evaluation.monitored import TIERS, Look
from goodrate.run_folder import write_atomic

TEMPLATE = Path(__file__).parent / "look_page.html"
DRAWN = ("query_goodrate", "item_goodrate")
WORDS = {
    "query_goodrate": "Query Goodrate", "item_goodrate": "Item Goodrate", "confidence": "Judge's confidence",
    "judged_share": "Results with a label",
}  # fmt: skip
SHOWN_QUERIES, SHOWN_ITEMS, SHOWN_VANISHED = 50, 10, 50
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720.0, 240.0, 62.0, 16.0, 14.0, 34.0  # of the plot, in its own units
MOST_NAMES = 8  # runs whose number stands below the plot


@dataclass(frozen=True)
class Line:
    """A rate over time: places of its known values, joined where they are neighbours. band: of its intervals."""

    name: str
    words: str
    points: tuple[tuple[float, float, str], ...]
    path: str
    band: str


def plot_lines(runs: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The lines of DRAWN. runs: facts and numbers of each, the first first. A run without the value is a gap."""
    lines = []
    for name in DRAWN:
        values = [run["numbers"]["rates"][name] for run in runs]
        places = [_x(at, len(runs)) for at in range(len(runs))]
        points = [
            (x, _y(value["value"]), f"run {run['facts']['number']}, {_day(run)}: {value['value']:.3f}")
            for x, value, run in zip(places, values, runs, strict=True) if value["value"] is not None
        ]  # fmt: skip
        segments = _segments([None if value["value"] is None else value["value"] for value in values])
        path = " ".join(
            "M" + " L".join(f"{places[at]:.1f} {_y(values[at]['value']):.1f}" for at in segment) for segment in segments
        )
        lines.append(Line(name, WORDS[name], tuple(points), path, _band(values, places)))
    return lines


def _segments(values: Sequence[float | None]) -> list[list[int]]:
    """Runs of neighbouring places with a value.

    >>> _segments([0.1, 0.2, None, 0.4])
    [[0, 1], [3]]
    """
    segments: list[list[int]] = []
    for at, value in enumerate(values):
        if value is None:
            continue
        if segments and segments[-1][-1] == at - 1:
            segments[-1].append(at)
        else:
            segments.append([at])
    return segments


def _band(values: Sequence[Mapping[str, Any]], places: Sequence[float]) -> str:
    """The area between the ends of the intervals, one piece for neighbouring runs that have one."""
    pieces = []
    for segment in _segments([None if value["low"] is None else value["low"] for value in values]):
        up = [f"{places[at]:.1f} {_y(values[at]['high']):.1f}" for at in segment]
        down = [f"{places[at]:.1f} {_y(values[at]['low']):.1f}" for at in reversed(segment)]
        pieces.append("M" + " L".join([*up, *down]) + " Z")
    return " ".join(pieces)


def _x(at: int, count: int) -> float:
    return (LEFT + WIDTH - RIGHT) / 2 if count == 1 else LEFT + at * (WIDTH - LEFT - RIGHT) / (count - 1)


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _day(run: Mapping[str, Any]) -> str:
    return str(run["facts"]["time"])[:10]


def _named(runs: Sequence[Mapping[str, Any]]) -> list[tuple[float, str, str]]:
    """Place, number and day of the runs that are named below the plot: the last one and others evenly before it."""
    step = -(-len(runs) // MOST_NAMES)
    chosen = [at for at in range(len(runs)) if (len(runs) - 1 - at) % step == 0]
    return [(_x(at, len(runs)), str(runs[at]["facts"]["number"]), _day(runs[at])[5:]) for at in chosen]


def write_page(
    path: Path, runs: Sequence[Mapping[str, Any]], last: Look, changes: Drift | None, before: Look | None,
    failures: Sequence[str],
) -> None:  # fmt: skip
    """Write the page. runs: facts and numbers of the whole history, the last one that of `last`.

    changes: against which earlier run (before), None for none. failures: what was below a bound, in words. All texts
    are escaped, so that no title or query is read as HTML.
    """
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM}
    page = rendered(
        TEMPLATE, last=last, runs=runs, lines=plot_lines(runs), named=_named(runs),
        ticks=[(t / 4, _y(t / 4)) for t in range(5)],
        size=size, words=WORDS, tiers=TIERS, changes=changes, failures=failures,
        changed=_shown(changes, before, last), flows=_flow_table(changes), shown_vanished=SHOWN_VANISHED,
    )  # fmt: skip
    write_atomic(path, page)


def _shown(changes: Drift | None, before: Look | None, last: Look) -> list[dict[str, Any]]:
    """The queries that changed most, with both lists as they were shown."""
    if changes is None or before is None:
        return []
    lists = [_pages(look) for look in (before, last)]
    return [
        {"one": one, "old": lists[0].get(one.query, []), "new": lists[1].get(one.query, []), "way": _way(one)}
        for one in changes.queries[:SHOWN_QUERIES]
    ]


def _way(one: QueryChange) -> str:
    return "better" if one.change > 1e-12 else "worse" if one.change < -1e-12 else "other"


def _pages(look: Look) -> dict[str, list[dict[str, Any]]]:
    """query -> its first results as rows, in order."""
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in look.results.filter(look.results["rank"] <= SHOWN_ITEMS).sort("query", "rank").iter_rows(named=True):
        pages.setdefault(row["query"], []).append(row)
    return pages


def _flow_table(changes: Drift | None) -> list[tuple[str, list[int]]]:
    """One row a tier before, one number a tier after; empty where nothing is compared or no result is on both."""
    if changes is None or not changes.kept:
        return []
    return [(old, [changes.tiers.get((old, new), 0) for new in TIERS]) for old in TIERS]
