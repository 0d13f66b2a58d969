"""The completion log-probability (head, softmax, entropy; forward and backward) beside all logits at once.

    python benchmarks/speed_logprobs.py --rows 512,2048 --rounds 5
    git show COMMIT:src/goodrate/models/token_logprobs.py > /tmp/before.py
    python benchmarks/speed_logprobs.py --before /tmp/before.py      # an older kernel as a third arm

Arms, in turn in every round: `naive` (logits, log_softmax, gather), `ours`, and `before`. Peak memory is that of a
fresh process per arm on a CPU, and the allocator's on a GPU, over what lies there before (head and states).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from goodrate.models.precision import autocast
from goodrate.models.token_logprobs import token_logprobs
from lib.timing import Measurement, Sample, call_sample, interleave, peak_mib, ratio, significant, summaries

Arm = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A head over `words`, `wide` states, `rows` of them. precision: fp32, or bf16 autocast over fp32 weights."""

    words: int
    wide: int
    rows: int
    precision: str
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What its result is called."""
        return f"V{self.words} D{self.wide} rows {self.rows} {self.precision}"


class Head(nn.Module):
    """What token_logprobs asks of a network."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(case.wide, case.words, bias=False, device=case.device)
        self.config = SimpleNamespace()

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.head


def arms(case: Case, before: Path | None) -> dict[str, Arm]:
    """Forward and backward of the same tokens."""
    network = Head(case)
    states = torch.randn(case.rows, case.wide, device=case.device).requires_grad_()
    ids = torch.randint(case.words, (case.rows,), device=case.device)
    weights = torch.randn(case.rows, device=case.device)

    def naive() -> tuple[torch.Tensor, torch.Tensor]:
        logits = network.head(states).float()
        every = torch.log_softmax(logits, -1)
        return every.gather(1, ids[:, None])[:, 0], -(every.exp() * every).sum(-1).detach()

    def run(forward: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        with autocast(case.precision, case.device):
            values, _ = forward()
        (values * weights).sum().backward()
        network.zero_grad(set_to_none=True)
        states.grad = None
        if case.device == "cuda":
            torch.cuda.synchronize()

    forwards = {"naive": naive, "ours": lambda: token_logprobs(network, states, ids, 1.0)}
    if before:
        forwards["before"] = lambda: _module(before).token_logprobs(network, states, ids, 1.0)
    return {name: partial(run, forward) for name, forward in forwards.items()}


def _module(path: Path) -> Any:
    """An older kernel, with the head of its time."""
    if "before" not in sys.modules:
        from goodrate.models import head

        head.plain_head = lambda network: (network.head.weight, network.head.bias)  # type: ignore[attr-defined]
        spec = importlib.util.spec_from_file_location("before", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["before"] = module
    return sys.modules["before"]


def measured(case: Case, rounds: int, before: Path | None = None) -> dict[str, Any]:
    """Seconds of each arm, how many times as long as `ours` the others take, and peak MiB."""
    calls = arms(case, before)
    samples: dict[str, list[Sample]] = interleave({n: partial(call_sample, call) for n, call in calls.items()}, rounds)
    peaks = {name: _device_peak(call) for name, call in calls.items()} if case.device == "cuda" else {
        name: _process_peak(case, name, before) for name in calls
    }  # fmt: skip
    return {
        "case": asdict(case), "wall": {n: s["wall"] for n, s in summaries(samples).items()},
        "over_ours": {n: ratio(samples, n, "ours")["wall"] for n in calls if n != "ours"}, "peak_mib": peaks,
    }  # fmt: skip


def _device_peak(call: Arm) -> float:
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    call()
    return significant((torch.cuda.max_memory_allocated() - start) / 2**20, 4)


def _process_peak(case: Case, arm: str, before: Path | None) -> float:
    """Of a fresh process over its peak before the first call."""
    given = json.dumps({**asdict(case), "arm": arm, "before": str(before) if before else None})
    child = subprocess.run([sys.executable, __file__, "--child", given], capture_output=True, text=True, check=True)
    return float(child.stdout.strip().splitlines()[-1])


def _child(given: str) -> None:
    case = json.loads(given)
    arm, before = case.pop("arm"), case.pop("before")
    call = arms(Case(**case), Path(before) if before else None)[arm]
    start = peak_mib()
    call()
    print(significant(peak_mib() - start, 4))


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", default="8192,151936,262144")
    parser.add_argument("--wide", default="640,1024")
    parser.add_argument("--rows", default="512,2048")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.child:
        _child(given.child)
        return
    name = f"logprobs-{given.device}-{given.threads}{'-before' if given.before else ''}"
    result = Measurement(name, " ".join(["python", *sys.argv]), given.threads)
    cases: dict[str, Any] = {}
    words, wide, rows = ([int(n) for n in getattr(given, name).split(",")] for name in ("words", "wide", "rows"))
    for sizes in product(words, wide, rows, given.precisions.split(",")):
        case = Case(*sizes, given.device)
        cases[case.name] = measured(case, given.rounds, given.before)
        over = {n: s["median"] for n, s in cases[case.name]["over_ours"].items()}
        print(case.name, over, cases[case.name]["peak_mib"], result.write(cases=cases), flush=True)


if __name__ == "__main__":
    main()
