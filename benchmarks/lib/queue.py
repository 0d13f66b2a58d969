"""Experiments as a resumable queue: one JSON per (arm, seed), named by the hash of all that decides its numbers.

A result that is there is not computed again; a run that was cut off is begun anew, its trainings go on from their run
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

import typer
from pydantic import BaseModel

from goodrate.run_folder import code_versions, write_atomic

ROOT = Path(__file__).parents[2]
RESULTS, WORK = ROOT / "benchmarks" / "results", ROOT / "runs"
Results = list[dict[str, Any]]  # of one arm, one per seed
ByArm = dict[str, Results]


def settings_key(settings: BaseModel) -> str:
    """12 hex digits of all settings but null ones: a setting that is added later, null by default, changes nothing."""
    text = json.dumps(settings.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """One arm with one seed; settings: all that decides its numbers beside the seed; file_name: if not the usual."""

    arm: str
    seed: int
    settings: BaseModel
    file_name: str | None = None

    @property
    def name(self) -> str:
        """What its result and its work folder are called."""
        usual = f"{self.arm.replace('/', '-')}-seed{self.seed}-{settings_key(self.settings)}"
        return self.file_name or usual


Arms = Sequence[str] | Mapping[str, Mapping[str, Any]]
Measure = Callable[[Job], Mapping[str, Any]]


class Queue:
    """The results of one experiment: benchmarks/results/<name>, work folders in runs/<name>."""

    def __init__(self, name: str, results: Path = RESULTS, work: Path = WORK) -> None:
        self.folder, self.work = results / name, work / name

    def path(self, job: Job) -> Path:
        """Where the result of a job lies."""
        return self.folder / f"{job.name}.json"

    def work_folder(self, job: Job) -> Path:
        """Where the work of a job lies."""
        return self.work / job.name

    def run(self, jobs: Sequence[Job], measure: Callable[[Job], Mapping[str, Any]]) -> None:
        """Compute the results that are not there, in the given order; jobs of other processes are passed over."""
        for job in jobs:
            if self.path(job).is_file():
                continue
            with self.locked(job.name, wait=False) as is_mine:
                if is_mine and not self.path(job).is_file():
                    start = time.perf_counter()
                    self.write(job, measure(job), time.perf_counter() - start)

    def write(self, job: Job, measures: Mapping[str, Any], seconds: float) -> None:
        """Write a result with what it takes to compute it again."""
        origin = {
            "arm": job.arm, "seed": job.seed, "settings": job.settings.model_dump(mode="json"), **code_versions(),
            "hardware": hardware(), "minutes": round(seconds / 60, 2),
        }  # fmt: skip
        write_atomic(self.path(job), json.dumps({**origin, **measures}, indent=1) + "\n")

    def results(self) -> Results:
        """All results that are there."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"))]

    def by_arm(self) -> ByArm:
        """Results by arm, whatever their settings."""
        groups: ByArm = {}
        for result in self.results():
            groups.setdefault(result["arm"], []).append(result)
        return groups

    def by_settings(self, settings_type: type[BaseModel]) -> dict[str, ByArm]:
        """Results by the hash of their settings and by arm, without trainings that collapsed."""
        groups: dict[str, ByArm] = {}
        for result in self.results():
            if "collapsed" not in result:
                key = settings_key(settings_type.model_validate(result["settings"]))
                groups.setdefault(key, {}).setdefault(result["arm"], []).append(result)
        return groups

    def collapses(self, settings_type: type[BaseModel]) -> list[str]:
        """The runs that the collapse detector stopped: arm, seed, settings, its message; Markdown."""
        lines = [
            f"- {one['arm']}, seed {one['seed']}, {changes(settings_type.model_validate(one['settings']))}: "
            f'"{one["collapsed"].partition(". ")[0]}"'
            for one in self.results()
            if "collapsed" in one
        ]
        return ["Stopped by the collapse detector:", "\n".join(lines)] if lines else []

    def shared(self, name: str, build: Callable[[Path], Path]) -> Path:
        """What several jobs use: built by the first that needs it while the others wait. build: work folder -> path."""
        with self.locked(name, wait=True):
            return build(self.work / name)

    @contextmanager
    def locked(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Whether this process is the only one at work on that: a job, or what several jobs share and one must build.

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


def experiment(text: str | None, queue: Queue, settings_type: type[BaseModel], arms: Arms, measure: Measure) -> Any:
    """The command line of an experiment with its verb `run`. text: of its help."""
    app = typer.Typer(add_completion=False, help=text)
    run = run_verb(queue, settings_type, arms, measure)
    app.command("run", help="Compute the results that are not there yet.")(run)
    return app


def run_verb(queue: Queue, settings_type: type[BaseModel], arms: Arms, measure: Measure) -> Callable[..., None]:
    """The command that works on a queue. arms: their names, or the settings that each of them changes."""

    def run(
        seeds: str = typer.Option("0", help="0,1,2"),
        arms_: str = typer.Option(",".join(arms), "--arms", help=f"Of {', '.join(arms)}."),
        change: list[str] | None = typer.Option(None, "--set", help="A setting to change: labels=3000."),  # noqa: B008
        threads: int = typer.Option(2, help="Of torch."),
    ) -> None:
        import torch

        from goodrate.settings import load

        torch.set_num_threads(threads)
        chosen = arms_.split(",")
        unknown = [arm for arm in chosen if arm not in arms]
        if unknown:
            raise typer.BadParameter(f"unknown arm {unknown[0]!r}; known: {', '.join(arms)}")
        base = load(settings_type, None, change or [])
        own = {arm: base.model_copy(update=arms[arm]) if isinstance(arms, Mapping) else base for arm in chosen}
        queue.run([Job(arm, int(seed), own[arm]) for seed in seeds.split(",") for arm in chosen], measure)

    return run


def changes(settings: BaseModel, plain: BaseModel | None = None) -> str:
    """The settings that differ from `plain`, the defaults unless given, as the command line takes them."""
    before, after = (_flat(s.model_dump(mode="json")) for s in (plain or type(settings)(), settings))
    return " ".join(f"--set {name}={value}" for name, value in after.items() if value != before[name]) or "default"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    inner = [_flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v} for k, v in values.items()]
    return {name: value for part in inner for name, value in part.items()}


def hardware() -> dict[str, Any]:
    """What the numbers were computed on."""
    cores = len(os.sched_getaffinity(0))
    return {"cpus": os.cpu_count(), "cores_used": cores, "machine": platform.machine()}
