"""The reports of `make faults` as one page: python benchmarks/faults.py table --write   benchmarks/results/faults.md"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from lib.queue import RESULTS
from lib.tables import add_table, markdown

NAME = "faults"
app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def verbs() -> None:
    """The reports of `make faults`."""


def reports(folder: str) -> dict[str, dict[str, Any]]:
    """The reports of a kind by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / NAME / folder).glob("*.json"))}


def one(name: str) -> dict[str, Any]:
    """A report that is one file; empty where it is not made yet."""
    path = Path(RESULTS / NAME / f"{name}.json")
    return json.loads(path.read_text()) if path.is_file() else {}


def render() -> str:
    """Kills, disks, files, the API."""
    kills, disks, files, api = reports("kills"), reports("disk"), one("fuzz"), one("api")
    total = sum(told["kills"] for told in kills.values())
    rows = [["what was killed", "kills", "trials", "CPU seconds of a whole run", "faults"]]
    for name, told in kills.items():
        seconds = f"{told.get('cpu_seconds_of_a_run', 0):g}"
        rows.append([name, str(told["kills"]), str(told["trials"]), seconds, str(len(told["faults"]))])
    parts = [f"### Kills: {total:,}", markdown(rows)]
    if disks:
        names = list(dict.fromkeys(label for told in disks.values() for label in told.get("codes", ())))
        table = [["what ran", *names, "faults"]]
        table += [[name, *(str(told.get("codes", {}).get(label, "-")) for label in names), str(len(told["faults"]))]
                  for name, told in disks.items()]  # fmt: skip
        parts += ["### Exit codes on disks that are full or read-only", markdown(table)]
    inputs, found = sum(told["inputs"] for told in files.values()), sum(len(told["faults"]) for told in files.values())
    parts += [f"### Broken files: {inputs:,} of {len(files)} kinds, {found} kinds of faults"]
    if api:
        parts += [f"### HTTP API: {api['cases']:,} cases of schemathesis, {len(api['failures'])} kinds of failures"]
    return "\n\n".join(parts)


add_table(app, NAME, render, "The page of all reports.")

if __name__ == "__main__":
    app()
