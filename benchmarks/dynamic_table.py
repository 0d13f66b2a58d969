"""Dynamic tables: speed beside static ones, memory per live id, re-sharding, scaling over ranks.

python benchmarks/dynamic_table.py speed [--peer PYTHON] [--device cuda] | memory | reshard | scaling | table
speed: a training step of 26 features x 2,048 ids, arms in turn in one process, medians; PYTHON has torchrec's fbgemm.
All write their part of results/dynamic_table.json; table writes results/dynamic_table.md from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS
from lib.sparse_arms import BATCH, FEATURES, Setting, arms, dynamic
from lib.sparse_memory import memory, plateaus
from lib.sparse_ranks import reshard, scaling
from lib.sparse_tables import page
from lib.timing import machine

FILE = RESULTS / "dynamic_table.json"
SETTINGS = [
    Setting(16, "uniform", 40_000), Setting(16, "1.05", 40_000), Setting(16, "1.2", 40_000),
    Setting(8, "uniform", 40_000), Setting(8, "1.05", 40_000),
    Setting(64, "uniform", 10_000), Setting(64, "1.05", 10_000),
]  # fmt: skip
PEER = Path(__file__).parent / "lib" / "fbgemm_peer.py"
ROUNDS, STEPS, COLD_STEPS = 5, 4, 8
Timed = Callable[[Sequence[torch.Tensor]], float]


class Peer:
    """FBGEMM in another environment, waiting between turns. -P: lib/queue.py would hide Python's own queue."""

    def __init__(self, python: str, rule: str, setting: Setting) -> None:
        self._process = subprocess.Popen([python, "-P", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask({"make": rule, "dim": setting.dim, "ids": setting.ids})

    def _ask(self, question: Mapping[str, Any]) -> dict[str, float]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, float] = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise RuntimeError(f"the peer ended with {self._process.wait()}")

    def __call__(self, batches: Sequence[torch.Tensor]) -> float:
        """CPU seconds of the batches' steps."""
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file, torch.stack(list(batches)).numpy())
            file.flush()
            return self._ask({"steps": file.name})["cpu"]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def timed(step: Callable[[torch.Tensor], None], device: str = "cpu") -> Timed:
    """Seconds of some steps: of the processor, or on a GPU by the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter

    def run(batches: Sequence[torch.Tensor]) -> float:
        moved = [batch.to(device) for batch in batches]
        if device != "cpu":
            torch.cuda.synchronize()
        start = clock()
        for batch in moved:
            step(batch)
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - start

    return run


def measured(runs: Mapping[str, Timed], setting: Setting) -> dict[str, list[float]]:
    """Seconds a step of every arm, one number a round, arms in turn on the same batches; the first round is warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):
        batches = list(setting.batches(STEPS, seed=turn))
        for name, run in runs.items():
            part = batches[:1] if "dense Adam" in name else batches
            seconds[name].append(run(part) / len(part))
    return {name: values[1:] for name, values in seconds.items()}


def cold(setting: Setting, index: str, rule: str) -> list[float]:
    """Seconds a step from an empty table on, nearly every id being new."""
    found = []
    for turn in range(ROUNDS):
        rng = np.random.default_rng(turn)
        batches = [torch.from_numpy(rng.integers(-(2**62), 2**62, (FEATURES, BATCH))) for _ in range(COLD_STEPS)]
        found.append(timed(dynamic(setting, index, rule, warm=False))(batches) / COLD_STEPS)
    return found


def entry(setting: Setting, arm: str, seconds: Sequence[float], start: str) -> dict[str, Any]:
    rate = FEATURES * BATCH / median(seconds)
    rounded = [round(1e3 * value, 3) for value in seconds]
    return {"setting": setting.name, "arm": arm, "start": start, "ms": rounded, "ids_per_second": round(rate)}


def speed(peer: str | None, device: str, settings: Sequence[Setting]) -> Iterator[dict[str, Any]]:
    """One record a setting and arm."""
    for setting in settings:
        runs: dict[str, Timed] = {name: timed(step, device) for name, step in arms(setting, device).items()}
        peers = {
            f"FBGEMM, {rule}": Peer(peer, rule, setting) for rule in ("row-wise Adagrad", "Adagrad", "SGD") if peer
        }
        for name, seconds in measured({**runs, **peers}, setting).items():
            yield entry(setting, name, seconds, "warm")
        for one in peers.values():
            one.close()
        if device == "cpu" and setting.draw == "uniform":
            del runs
            for index in ("numba", "torch"):
                for rule in ("adam", "row-wise Adagrad"):
                    yield entry(setting, f"ours, {index}, {rule}", cold(setting, index, rule), "cold")


def write(part: str, records: Sequence[Mapping[str, Any]], minutes: float, load: float) -> None:
    """Put a part into the file beside the others."""
    document = json.loads(FILE.read_text()) if FILE.is_file() else {}
    document[part] = {
        **code_versions(), "machine": machine(torch.get_num_threads()), "load_at_start": round(load, 1),
        "minutes": round(minutes, 1), "records": list(records),
    }  # fmt: skip
    write_atomic(FILE, json.dumps(document, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["speed", "memory", "reshard", "scaling", "table"])
    parser.add_argument("--peer", help="a Python with torchrec 1.8.0 and fbgemm-gpu-cpu 1.8.0 (speed)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (speed)")
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="only the first so many (speed)")
    parser.add_argument("--most", type=int, default=10**7, help="the most live ids (memory)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, load = time.time(), os.getloadavg()[0]
    if options.verb == "table":
        write_atomic(RESULTS / "dynamic_table.md", page(json.loads(FILE.read_text())))
        return
    records: list[dict[str, Any]] = []
    if options.verb == "speed":
        for record in speed(options.peer, options.device, SETTINGS[: options.settings]):
            print(record, file=sys.stderr, flush=True)
            records.append(record)
    elif options.verb == "memory":
        records = [*memory(options.most), *plateaus(options.most)]
    else:
        records = list({"reshard": reshard, "scaling": scaling}[options.verb]())
    part = options.verb if options.device == "cpu" else f"{options.verb} on {options.device}"
    write(part, records, (time.time() - start) / 60, load)


if __name__ == "__main__":
    main()
