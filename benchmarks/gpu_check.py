"""Does goodrate work on this GPU, and how fast: one command, under eight minutes, one JSON.

    python benchmarks/gpu_check.py                       # writes runs/gpu_check.json
    python benchmarks/gpu_check.py --out FILE --minutes 5
    python benchmarks/gpu_check.py --cpu                 # the same checks in small, without a GPU
    python benchmarks/gpu_check.py --only judge_grpo,judging

Correctness: every recipe for a few updates on the embedded shop, in fp32 and in the device's own precision. The loss is
finite, the KL to the start is 0 at the first update, and in fp32 loss and gradient of the first update are those of the
CPU, which a second process computes from the same judges. Speed: an update of GRPO beside TRL's, judging, encoding, the
log-probability kernel, sampling by vLLM; judging and encoding on the CPU too. What is not installed (trl, peft, vllm)
is skipped and said.
The exit code is 1 when a recipe or a timing failed. Sections that would begin after --minutes are left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))  # run as a file from anywhere

import gpu_recipes  # noqa: E402
import gpu_speed  # noqa: E402
import gpu_vllm  # noqa: E402
from goodrate.run_folder import code_versions, write_atomic  # noqa: E402

LOSS_GAP, GRADIENT_GAP = 2e-3, 0.02  # of fp32 on two devices: absolute, and of the gradient's norm
CPU_THREADS, CPU_PATIENCE = 8, 40  # seconds after the GPU has done the same
Result = dict[str, Any]


class Report:
    """The JSON, written anew after every section, so that a run that is cut off leaves what it has."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self._start, self._minutes = path, time.monotonic(), minutes
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
        self.facts: Result = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device,
            "cpus": os.cpu_count(), **code_versions(), "recipes": {}, "speed": {}, "left_out": [], "minutes": 0.0,
        }  # fmt: skip

    def add(self, section: str, name: str, result: Result) -> None:
        """A result of the sections "recipes" or "speed"."""
        self.facts[section][name] = result
        self.facts["minutes"] = round((time.monotonic() - self._start) / 60, 2)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(self.facts, indent=1, default=str) + "\n")
        print(f"{self.facts['minutes']:5.2f} min  {name}: {json.dumps(result, default=str)[:400]}", flush=True)

    def late(self, name: str) -> bool:
        """Whether there is no time left for a section, which is then named as left out."""
        late = (time.monotonic() - self._start) / 60 > self._minutes
        if late:
            self.facts["left_out"].append(name)
        return late


def recipes(names: list[str], world: gpu_recipes.World, work: Path, starts: Path, report: Report, both: bool) -> None:
    """All recipes in fp32, and with `both` in the device's own precision."""
    for precision in ("fp32", "auto") if both else ("fp32",):
        for name in names:
            if not report.late(f"{name} {precision}"):
                result = gpu_recipes.run_case(name, world, work, starts, precision)
                report.add("recipes", f"{name} {precision}", result)


def compare(report: Report, reference: Path) -> None:
    """Put the CPU's first update beside the device's; a gap beyond rounding is a failure."""
    for name, cpu in json.loads(reference.read_text(encoding="utf-8"))["recipes"].items():
        ours = report.facts["recipes"].get(name)
        if not ours or ours["status"] != "ok" or cpu["status"] != "ok":
            continue
        first, other = ours["first"], cpu["first"]
        loss = abs(first["loss"] - other["loss"])
        norm = abs(first["gradient_norm"] - other["gradient_norm"]) / max(other["gradient_norm"], 1e-6)
        ours |= {"cpu": other, "cpu_seconds": cpu["seconds"], "loss_gap": loss, "gradient_norm_gap": norm}
        if abs(first.get("length", 0) - other.get("length", 0)) > 1e-6:
            ours["note"] = "a token was sampled otherwise, which rounding can do: nothing to compare"
        elif loss > LOSS_GAP * max(1.0, abs(other["loss"])) or norm > GRADIENT_GAP:
            ours |= {"status": "failed", "why": f"loss {loss:.2g} and gradient {norm:.2%} off the CPU's"}
        report.add("recipes", name, ours)


SECTIONS = ("policy 0.6B", "logprobs", "judging", "encoding", "vllm")


def timed(names: list[str], report: Report, small: bool) -> None:
    """The speed sections; one that cannot run says why and does not stop the others."""
    for name, call in sections(small).items():
        if name in names and not report.late(name):
            try:
                report.add("speed", name, call())
            except Exception as error:  # the numbers that are there must not be lost
                why = {"status": "failed", "why": f"{type(error).__name__}: {error}"[:1500]}
                report.add("speed", name, {**why, "trace": traceback.format_exc()[-2500:]})


def sections(small: bool) -> Mapping[str, Callable[[], Result]]:
    """Name -> measurement. small: sizes for a CPU."""
    if small:
        return {"judging": lambda: gpu_speed.judging(20, 1, False), "encoding": lambda: gpu_speed.encoding(64, 1)}
    return {
        "policy 0.6B": lambda: gpu_speed.policy("0.6B", 4, 64),
        "logprobs": gpu_speed.logprobs,
        "judging": lambda: gpu_speed.judging(800, 3, True),
        "encoding": lambda: gpu_speed.encoding(2048, 3),
        "vllm": gpu_vllm.sampling,
    }


def start_reference(arguments: argparse.Namespace, work: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """The CPU's process: the same recipes from the same judges, where no GPU can be seen."""
    path = work / "cpu.json"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(CPU_THREADS)}
    command = [sys.executable, __file__, "--reference", str(work), "--out", str(path), "--only", arguments.only,
               "--minutes", str(arguments.minutes)]  # fmt: skip
    with (work / "cpu.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log), path


def wait_for(child: subprocess.Popen[bytes], work: Path, patience: float) -> None:
    """Until the CPU's process has ended, or no longer; says how it ended where that is not well."""
    try:
        child.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        child.kill()
    if child.returncode not in (0, 1):
        print("the CPU's process:", child.returncode, (work / "cpu.log").read_text(errors="replace")[-1500:])


def checked(arguments: argparse.Namespace, work: Path, report: Report) -> None:
    """The whole check on a GPU, or in small on a CPU."""
    alone = arguments.cpu or arguments.reference is not None  # one process, one precision, short timings
    names = arguments.only.split(",") if arguments.only else [*gpu_recipes.CASES, *SECTIONS]
    cases = [name for name in gpu_recipes.CASES if name in names]
    size = gpu_recipes.SMALL if arguments.cpu else gpu_recipes.FULL
    world = gpu_recipes.World(replace(size, updates=1) if arguments.reference else size)
    child = reference = None
    if cases and arguments.reference is None:
        report.add("speed", "seconds to make the start", gpu_recipes.start_judges(world, work / "starts", cases))
        if not arguments.cpu:
            child, reference = start_reference(arguments, work)
    recipes(cases, world, work / ("cpu" if alone else "gpu"), work / "starts", report, both=not alone)
    if child and reference:
        wait_for(child, work, CPU_PATIENCE)
        if reference.is_file():  # what it has done by then
            compare(report, reference)
            report.facts["cpu_speed"] = json.loads(reference.read_text(encoding="utf-8"))["speed"]
    timed(names, report, alone)


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="in small, on the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_check.json"), help="the JSON to write")
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no section after so many")
    parser.add_argument("--only", default="", help="recipes and sections, separated by commas; all")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)  # the CPU's process; its folder
    arguments = parser.parse_args()
    if not arguments.cpu and arguments.reference is None and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --cpu runs the same checks in small")
    unknown = {*arguments.only.split(",")} - {"", *gpu_recipes.CASES, *SECTIONS}
    if unknown:
        parser.error(f"--only {', '.join(unknown)}: expected some of {', '.join([*gpu_recipes.CASES, *SECTIONS])}")
    report = Report(arguments.out, arguments.minutes)
    with tempfile.TemporaryDirectory() as fresh:
        checked(arguments, arguments.reference or Path(fresh), report)
    results = {**report.facts["recipes"], **report.facts["speed"]}
    failed, skipped = ([n for n, r in results.items() if r.get("status") == how] for how in ("failed", "skipped"))
    print(f"{len(report.facts['recipes'])} recipe checks; {len(failed)} failed {failed}, skipped {skipped}, "
          f"left out {report.facts['left_out']}; {arguments.out}")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
