"""The history of a monitored search: a folder with one folder a run, each whole or not there, and a report page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from goodrate import strict_json
from goodrate.catalog.parquet_file import read_parquet
from goodrate.evaluation.monitored import QUERIES, RESULTS, Look
from goodrate.evaluation.unfinished_look import FILE as UNFINISHED
from goodrate.run_folder import new_folder, write_atomic

FORMAT = 1
RUN, RESULTS_FILE, QUERIES_FILE, DRIFT_FILE = "run.json", "results.parquet", "queries.parquet", "drift.json"
_NUMBER = re.compile(r"[0-9]{4,}")


def run_folders(history: Path) -> list[Path]:
    """The folders of the runs of a history, the first run first; none where there is no history."""
    if not history.is_dir():
        return []
    named = [path for path in history.iterdir() if _NUMBER.fullmatch(path.name) and (path / RUN).is_file()]
    return sorted(named, key=lambda path: int(path.name))


def next_number(history: Path) -> int:
    """The number of the run after the last one, 1 for the first."""
    return int(run_folders(history)[-1].name) + 1 if run_folders(history) else 1


def write_run(history: Path, look: Look, drift: dict[str, Any] | None) -> Path:
    """Put a run into a history under its number, whole or not at all. drift: what has changed, None: not compared."""
    folder = history / f"{look.facts['number']:04d}"
    if folder.exists():
        raise ValueError(f"{folder} is there already; a run of a history is never written over")
    with new_folder(folder) as beside:
        look.results.write_parquet(beside / RESULTS_FILE)
        look.queries.write_parquet(beside / QUERIES_FILE)
        if drift is not None:
            write_atomic(beside / DRIFT_FILE, strict_json.dumps(drift, indent=1) + "\n")
        content = {"format": FORMAT, "facts": look.facts, "numbers": look.numbers}
        write_atomic(beside / RUN, strict_json.dumps(content, indent=1) + "\n")
    return folder


def forget_unfinished(history: Path) -> None:
    """Remove what a run kept of itself while it went on: it is in the history."""
    (history / UNFINISHED).unlink(missing_ok=True)


def read_summary(folder: Path) -> dict[str, Any]:
    """facts and numbers of a run. Raises ValueError naming the file for one that is no run, or of a newer goodrate."""
    path = folder / RUN
    content = strict_json.read_object(path)
    if content.get("format") != FORMAT or not {"facts", "numbers"} <= set(content):
        raise ValueError(
            f"{path}: expected a run of goodrate monitor in format {FORMAT}, found {content.get('format')!r}"
        )
    return content


def read_run(folder: Path) -> Look:
    """A run of a history. Raises FileNotFoundError and ValueError naming the file."""
    if not (folder / RUN).is_file():
        raise FileNotFoundError(f"{folder} is no run of goodrate monitor: it has no {RUN}")
    content = read_summary(folder)
    return Look(
        _table(folder / RESULTS_FILE, RESULTS), _table(folder / QUERIES_FILE, QUERIES),
        content["numbers"], content["facts"],
    )  # fmt: skip


def _table(path: Path, columns: dict[str, Any]) -> pl.DataFrame:
    try:
        return read_parquet(path).select(pl.col(name).cast(kind) for name, kind in columns.items())
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        raise ValueError(f"{path}: expected a table with columns {', '.join(columns)}: {error}") from error


def found_run(path: Path) -> Path:
    """The folder of a run: the one that is named, or the last of the history that is named.

    Raises FileNotFoundError saying what was expected.
    """
    if (path / RUN).is_file():
        return path
    folders = run_folders(path)
    if not folders:
        raise FileNotFoundError(f"{path} holds no run of goodrate monitor: expected a history (--out) or a run in one")
    return folders[-1]
