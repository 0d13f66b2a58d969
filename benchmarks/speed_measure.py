"""Timing for the speed benchmarks: arms in turn, wall and processor seconds, spread, and what machine it was."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.run_folder import code_versions, write_atomic

RESULTS = Path(__file__).parent / "results" / "speed"
WORK = Path(__file__).parents[1] / "runs" / "speed"
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
NOT_PASSED_ON = ("PYTHONDONTWRITEBYTECODE",)  # a user's second run finds compiled files; so must ours


@dataclass(frozen=True)
class Sample:
    """One run: wall seconds, and processor seconds of all its threads."""

    wall: float
    cpu: float


Arm = Callable[[], Sample]


def call_sample(call: Callable[[], object]) -> Sample:
    """One call inside this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def command_sample(command: Sequence[str]) -> Sample:
    """One run of a command as a process. Raises RuntimeError with the end of its stderr when it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command} exited {child.returncode}: {errors.read()[-500:].decode(errors='replace')}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def interleave(arms: Mapping[str, Arm], rounds: int, warmup: int = 1) -> dict[str, list[Sample]]:
    """Samples per arm: every round runs each arm once, starting one arm later than the round before.

    A machine that gets slower half-way then slows all arms. Warm-up rounds are not kept.
    """
    names = list(arms)
    taken: dict[str, list[Sample]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            sample = arms[name]()
            if turn >= 0:
                taken[name].append(sample)
    return taken


def spread(values: Sequence[float], digits: int = 5) -> dict[str, float]:
    """Median, quartiles and ends of some numbers, rounded to significant digits.

    >>> spread([1.0, 2.0, 3.0, 10.0])
    {'median': 2.5, 'q1': 1.75, 'q3': 4.75, 'min': 1.0, 'max': 10.0, 'n': 4}
    """
    points = np.percentile(values, [50, 25, 75, 0, 100])
    named = zip(("median", "q1", "q3", "min", "max"), points, strict=True)
    return {**{name: significant(float(value), digits) for name, value in named}, "n": len(values)}


def significant(value: float, digits: int = 5) -> float:
    """A number rounded to significant digits."""
    return (
        value
        if value == 0 or not math.isfinite(value)
        else round(value, digits - 1 - math.floor(math.log10(abs(value))))
    )


def summaries(samples: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, dict[str, float]]]:
    """Per arm the spread of wall seconds and of processor seconds."""
    return {
        name: {"wall": spread([run.wall for run in runs]), "cpu": spread([run.cpu for run in runs])}
        for name, runs in samples.items()
    }


def ratio(samples: Mapping[str, Sequence[Sample]], over: str, under: str) -> dict[str, dict[str, float]]:
    """How many times as long arm `over` took as arm `under`, pair by pair within the rounds."""
    pairs = list(zip(samples[over], samples[under], strict=True))
    return {
        "wall": spread([a.wall / b.wall for a, b in pairs]),
        "cpu": spread([a.cpu / b.cpu for a, b in pairs]),
    }


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent b of value ~ size^b: the least-squares slope on log-log axes. 1 = linear. Two sizes or more.

    >>> round(growth([10, 100, 1000], [3, 30, 300]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def machine(threads: int | None = None) -> dict[str, Any]:
    """Processor, its relevant flags, cores, niceness, and the threads that torch was given."""
    return {
        "cpu": _cpu_field("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in _cpu_field("flags").split()],
        "threads": threads,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo, empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


class Measurement:
    """One result file: opened before the timing starts, so that it knows the load and the minutes."""

    def __init__(self, name: str, command: str, threads: int | None = None) -> None:
        self.name = name
        self._start = time.perf_counter()
        self._facts = {
            "name": name,
            "command": command,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **code_versions(),
            "machine": machine(threads),
        }
        self._load = os.getloadavg()

    def keep(self, **found: Any) -> Path:
        """Write the result beside its fellows, with the load average (1, 5, 15 minutes) before and after."""
        load = {"before": [round(x, 2) for x in self._load], "after": [round(x, 2) for x in os.getloadavg()]}
        minutes = round((time.perf_counter() - self._start) / 60, 2)
        path = RESULTS / f"{self.name}.json"
        write_atomic(path, json.dumps({**self._facts, "load": load, "minutes": minutes, **found}, indent=1) + "\n")
        return path
