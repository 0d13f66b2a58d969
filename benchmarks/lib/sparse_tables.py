"""The page of the dynamic table's benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.tables import markdown

Records = Sequence[Mapping[str, Any]]
REFERENCE = "26 EmbeddingBag(sparse) + SparseAdam"


def speed_table(records: Records) -> str:
    """Million ids a second by arm and setting; in brackets, times the reference's."""
    settings = list(dict.fromkeys(record["setting"] for record in records))
    arms = list(dict.fromkeys((record["arm"], record["start"]) for record in records))
    rates = {(r["arm"], r["start"], r["setting"]): r["ids_per_second"] for r in records}

    def cell(arm: str, start: str, setting: str) -> str:
        rate, reference = rates.get((arm, start, setting)), rates.get((REFERENCE, "warm", setting))
        return "-" if rate is None else f"{rate / 1e6:.2f}" + (f" ({rate / reference:.2f}x)" if reference else "")

    rows = [["arm", *settings]]
    for arm, start in arms:
        name = arm if start == "warm" else f"{arm}, all ids new"
        rows.append([name, *(cell(arm, start, setting) for setting in settings)])
    for rule in ("row-wise Adagrad", "Adagrad", "SGD"):
        pairs = [[rates.get((f"{arm}, {rule}", "warm", s)) for arm in ("FBGEMM", "ours, numba")] for s in settings]
        rows.append([f"FBGEMM over ours (numba), {rule}", *(f"{a / b:.2f}x" if a and b else "-" for a, b in pairs)])
    return markdown(rows)


def memory_table(records: Records) -> str:
    rows = [["rule", "live ids", "bytes an id: tensors", "of that the index", "resident memory", "predicted"]]
    for r in records:
        if "live" in r:
            # A few MB of rows lie in pages that the process held before.
            resident = r["rss_bytes_per_id"] if r["live"] >= 10**5 else None
            numbers = (r["bytes_per_id"], r["index_bytes_per_id"], resident, r["predicted"])
            rows.append([r["rule"], f"{r['live']:,}", *("-" if n is None else f"{n:,.0f}" for n in numbers)])
    return markdown(rows)


def plateau_table(records: Records) -> str:
    """A row an update that was looked at; live ids and memory of each stream."""
    curves = [record for record in records if "curve" in record]
    told = "new ids an update: live ids, MB of tensors, MB resident"
    rows = [["update", *(f"{one['fresh']:,} {told}" for one in curves)]]
    for points in zip(*(one["curve"] for one in curves), strict=True):
        cells = [f"{p['live']:,}, {p['bytes'] / 1e6:,.1f}, {p['rss'] / 1e6:,.0f}" for p in points]
        rows.append([str(points[0]["update"]), *cells])
    rows.append(["most that was resident, MB", *(f"{one['peak'] / 1e6:,.0f}" for one in curves)])
    return markdown(rows)


def plain_table(records: Records) -> str:
    """Keys as the head, numbers as they are."""
    heads = list(dict.fromkeys(key for record in records for key in record))
    shown = [[_shown(record.get(head)) for head in heads] for record in records]
    return markdown([[head.replace("_", " ") for head in heads], *shown])


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def conditions(part: Mapping[str, Any]) -> str:
    """What machine and how busy."""
    machine = part["machine"]
    busy = f"load {part['load_at_start']} at the start"
    made = f"commit {part['commit']}, {part['minutes']} minutes"
    return f"{machine['cpu']}, {machine['cores']} cores shared with other work, one thread, {busy}, {made}."


def page(document: Mapping[str, Any]) -> str:
    """results/dynamic_table.md"""
    lines = ["# Dynamic tables", "", "Written by `benchmarks/dynamic_table.py table` from `dynamic_table.json`.", ""]
    titles = {
        "speed": "Million ids a CPU-second, 26 features x 2,048 ids a step; in brackets over the first static arm",
        "speed on cuda": "Million ids a second on a GPU",
        "memory": "Memory of a live id, D 16",
        "reshard": "Tables saved by four ranks, loaded by others",
        "scaling": "Ranks over gloo on one machine, SparseAdam, Zipf 1.05, D 16, 26 x 2,048 ids a rank and step",
    }
    for name, title in titles.items():
        if name in document:
            records = document[name]["records"]
            tables = {"memory": memory_table, "reshard": plain_table, "scaling": plain_table}
            lines += [f"## {title}", "", tables.get(name, speed_table)(records), ""]
            if name == "memory":
                lines += ["Under `IdleSteps(20, every=5)`; from update 61 on the same ids in every update:", ""]
                lines += [plateau_table(records), ""]
            lines += [conditions(document[name]), ""]
    return "\n".join(lines)
