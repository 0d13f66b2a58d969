"""Experiments as a resumable queue: one JSON per (arm, seed), named by the hash of all that decides its numbers.

A result that is there is not made again; a run that was cut off is begun anew, its trainings go on from their run
folders. Several processes may work on one queue: each job is claimed by a lock file that dies with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from goodrate.evaluation.significance import Interval
from goodrate.run_folder import code_versions, write_atomic

RESULTS = Path(__file__).parent / "results"
WORK = Path(__file__).parents[1] / "runs"


def settings_key(settings: BaseModel) -> str:
    """12 hex digits of all settings but null ones: a setting that is added later, null by default, changes nothing."""
    text = json.dumps(settings.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """One arm with one seed; settings: all that decides its numbers beside the seed."""

    arm: str
    seed: int
    settings: BaseModel

    @property
    def name(self) -> str:
        """What its result and its work folder are called."""
        return f"{self.arm.replace('/', '-')}-seed{self.seed}-{settings_key(self.settings)}"


class Queue:
    """The results of one experiment: benchmarks/results/<name>, work folders in runs/<name>."""

    def __init__(self, name: str, results: Path = RESULTS, work: Path = WORK) -> None:
        self.results, self.work = results / name, work / name

    def path(self, job: Job) -> Path:
        """Where the result of a job lies."""
        return self.results / f"{job.name}.json"

    def folder(self, job: Job) -> Path:
        """Where the work of a job lies."""
        return self.work / job.name

    def run(self, jobs: Sequence[Job], make: Callable[[Job], Mapping[str, Any]]) -> None:
        """Make the results that are not there, in the given order; one that another process works on is passed over."""
        for job in jobs:
            if self.path(job).is_file():
                continue
            with self.locked(job.name, wait=False) as mine:
                if mine and not self.path(job).is_file():
                    start = time.perf_counter()
                    self.keep(job, make(job), time.perf_counter() - start)

    def keep(self, job: Job, found: Mapping[str, Any], seconds: float) -> None:
        """Write a result with what it takes to make it again."""
        about = {
            "arm": job.arm, "seed": job.seed, "settings": job.settings.model_dump(mode="json"), **code_versions(),
            "hardware": hardware(), "minutes": round(seconds / 60, 2),
        }  # fmt: skip
        write_atomic(self.path(job), json.dumps({**about, **found}, indent=1) + "\n")

    def found(self) -> list[dict[str, Any]]:
        """All results that are there."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.results.glob("*.json"))]

    def grouped(self, settings_type: type[BaseModel]) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Results by the hash of their settings and by arm, without trainings that collapsed."""
        groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for found in self.found():
            if "collapsed" not in found:
                key = settings_key(settings_type.model_validate(found["settings"]))
                groups.setdefault(key, {}).setdefault(found["arm"], []).append(found)
        return groups

    @contextmanager
    def locked(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Whether this process is the only one at work on that: a job, or what several jobs share and one must make.

        wait: until the other process is done or dead, instead of passing it over.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True


def add_run(
    app: Any,
    queue: Queue,
    settings_type: type[BaseModel],
    arms: Sequence[str],
    make: Callable[[Job], Mapping[str, Any]],
    job: Callable[[str, int, Any], Job] = Job,
) -> None:
    """The command `run` of an experiment. job: makes the job of an arm, a seed and the settings."""
    import typer

    from goodrate.settings import load

    @app.command(help="Make the results that are not there yet.")  # type: ignore[untyped-decorator]
    def run(
        seeds: str = typer.Option("0", help="0,1,2"),
        arms_: str = typer.Option(",".join(arms), "--arms", help=f"Of {', '.join(arms)}."),
        change: list[str] | None = typer.Option(None, "--set", help="A setting to change: labels=3000."),  # noqa: B008
        threads: int = typer.Option(2, help="Of torch."),
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        settings, chosen = load(settings_type, None, change or []), arms_.split(",")
        unknown = [arm for arm in chosen if arm not in arms]
        if unknown:
            raise typer.BadParameter(f"unknown arm {unknown[0]!r}; known: {', '.join(arms)}")
        queue.run([job(arm, int(seed), settings) for seed in seeds.split(",") for arm in chosen], make)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put generated text between two marks of a page. AssertionError where it lacks them."""
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    assert first and last, f"{page} lacks {begin!r} or {end!r}"
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def with_interval(found: Interval, form: str = ".3f") -> str:
    """A value with its interval, as tables show it: 0.500 (0.400 to 0.600)."""
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def hardware() -> dict[str, Any]:
    """What the numbers were made on."""
    cores = len(os.sched_getaffinity(0))
    return {"cpus": os.cpu_count(), "cores_used": cores, "machine": platform.machine()}
