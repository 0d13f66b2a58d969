"""Timing for the speed benchmarks: arms in turn, wall and processor seconds, spread, what machine it was, cells."""

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
from lib import queue

RESULTS, WORK = queue.RESULTS / "speed", queue.WORK / "speed"
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
NOT_PASSED_ON = ("PYTHONDONTWRITEBYTECODE",)  # a user's second run finds compiled files; so must ours
Document = dict[str, Any]
Spread = dict[str, float]


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

    A machine that gets slower half-way then slows all arms. Warm-up rounds are left out.
    """
    names = list(arms)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            sample = arms[name]()
            if turn >= 0:
                samples[name].append(sample)
    return samples


def spread(values: Sequence[float], digits: int = 5) -> Spread:
    """Median, quartiles and ends of some numbers, rounded to significant digits.

    >>> spread([1.0, 2.0, 3.0, 10.0])
    {'median': 2.5, 'q1': 1.75, 'q3': 4.75, 'min': 1.0, 'max': 10.0, 'n': 4}
    """
    points = zip(("median", "q1", "q3", "min", "max"), np.percentile(values, [50, 25, 75, 0, 100]), strict=True)
    return {**{name: significant(float(value), digits) for name, value in points}, "n": len(values)}


def significant(value: float, digits: int = 5) -> float:
    """A number rounded to significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def summaries(samples: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, Spread]]:
    """Per arm the spread of wall seconds and of processor seconds."""
    return {n: {"wall": spread([r.wall for r in runs]), "cpu": spread([r.cpu for r in runs])}
            for n, runs in samples.items()}  # fmt: skip


def ratio(samples: Mapping[str, Sequence[Sample]], over: str, under: str) -> dict[str, Spread]:
    """How many times as long arm `over` took as arm `under`, pair by pair within the rounds."""
    pairs = list(zip(samples[over], samples[under], strict=True))
    return {"wall": spread([a.wall / b.wall for a, b in pairs]), "cpu": spread([a.cpu / b.cpu for a, b in pairs])}


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent b of value ~ size^b: the least-squares slope on log-log axes. 1 = linear. Two sizes or more.

    >>> round(growth([10, 100, 1000], [3, 30, 300]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def machine(threads: int | None = None) -> dict[str, Any]:
    """Processor, its relevant flags, cores, niceness, and the threads that torch was given."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    return {
        "cpu": fields.get("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in fields.get("flags", "").split()],
        "threads": threads,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def peak_mib() -> float:
    """The most memory that this program has held so far. Linux; ru_maxrss would count the parent it was forked from."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


class Measurement:
    """One result file: opened before the timing starts, so that it knows the load and the minutes."""

    def __init__(self, name: str, command: str, threads: int | None = None) -> None:
        self.name, self._start, self._load = name, time.perf_counter(), os.getloadavg()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._facts = {"name": name, "command": command, "started": started, **code_versions()}
        self._facts["machine"] = machine(threads)

    def write(self, **measures: Any) -> Path:
        """Write the result beside its fellows, with the load average (1, 5, 15 minutes) before and after."""
        load = {"before": [round(x, 2) for x in self._load], "after": [round(x, 2) for x in os.getloadavg()]}
        minutes = round((time.perf_counter() - self._start) / 60, 2)
        path = RESULTS / f"{self.name}.json"
        write_atomic(path, json.dumps({**self._facts, "load": load, "minutes": minutes, **measures}, indent=1) + "\n")
        return path


def number(value: float) -> str:
    """Three digits or the whole number.

    >>> number(0.01234), number(3.14159), number(31.4159), number(3141.59)
    ('0.0123', '3.14', '31.4', '3,142')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(values: Spread) -> str:
    """Median with the ends.

    >>> between({"median": 2.0, "min": 1.5, "max": 2.25})
    '2 (1.5 to 2.25)'
    """
    return f"{number(values['median'])} ({number(values['min'])} to {number(values['max'])})"


def conditions(documents: Sequence[Document], several: str = "") -> str:
    """One line: command, machine, load, commit. Of several documents the loads are a range and the commits a list."""
    first, where = documents[0], documents[0]["machine"]
    flags = ", ".join(where["flags"]) or "none of interest"
    loads = [load for d in documents for load in (d["load"]["before"][0], d["load"]["after"][0])]
    commits = ", ".join(sorted({str(d["commit"])[:7] for d in documents}))
    threads = f", torch threads {where['threads']}" if where["threads"] else ""
    amx = "amx" if any(flag.startswith("amx") for flag in where["flags"]) else "no amx"
    return (
        f"`{several or first['command']}` on {where['cores']} cores of {where['cpu']} ({flags}; {amx}){threads}, nice "
        f"{where['nice']}, load {min(loads):.1f} to {max(loads):.1f}, {first['started'][:10]}, commit {commits}."
    )
