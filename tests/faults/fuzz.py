"""Thousands of broken files of every kind for every reader, drawn with a seed; the long half of test_readers.py.

python tests/faults/fuzz.py --inputs 5000 --out report.json [--only csv,toml] [--seed 0]

A fault is an exception that is no plain ValueError or OSError, one that does not name the file, or more than 10 CPU
seconds for one file of a few kilobytes. The report has counts, and of each kind of fault the first input (base64).
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from readers import PIECES, READERS, broken, fault_of  # noqa: E402

from goodrate.run_folder import write_atomic  # noqa: E402

SECONDS, ROUND = 10, 200


class Hang(BaseException):
    """One file took too long."""


def _alarm(*_: Any) -> None:
    raise Hang


def drawn(rng: random.Random, data: bytes) -> bytes:
    """A broken file: a few edits, now and then noise alone, a cut, or the file many times over."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(200))
    if kind < 0.12:
        return data[: rng.randrange(len(data) + 1)]
    if kind < 0.15:
        return data * rng.randrange(2, 40)
    edits = [
        (rng.random(), rng.choice((0, 0, 1, 2, 5, 40)), rng.choice(PIECES) if rng.random() < 0.7 else rng.randbytes(4))
        for _ in range(rng.randrange(1, 7))
    ]
    return broken(data, edits)


def fuzz(name: str, number: int, seed: int, known: dict[str, Any]) -> dict[str, Any]:
    """Try one round of inputs on one reader. known: what earlier rounds found."""
    rng, data = random.Random(f"{seed} {name} {number}"), READERS[name][1]()
    faults: dict[str, dict[str, Any]] = dict(known["faults"])
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(ROUND):
            tried = drawn(rng, data)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                fault = fault_of(name, Path(folder), tried)
            except Hang:
                fault = "hang"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            if fault is not None:
                kind = fault.split(": ")[0]
                one = faults.setdefault(kind, {"count": 0, "said": fault, "input": base64.b64encode(tried).decode()})
                one["count"] += 1
    return {"inputs": known["inputs"] + ROUND, "rounds": number + 1, "seed": seed, "faults": faults}


def main() -> None:
    """Go on where the report stands, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=4400, help="of each reader, in rounds of 200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(READERS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGPROF, _alarm)
    report = json.loads(given.out.read_text()) if given.out.is_file() else {}
    names = given.only.split(",")
    for number in range(-(-given.inputs // ROUND)):
        for name in names:
            known = report.get(name, {"inputs": 0, "rounds": 0, "faults": {}})
            if known["rounds"] <= number:
                report[name] = fuzz(name, number, given.seed, known)
                write_atomic(given.out, json.dumps(report, indent=1) + "\n")
        total = sum(one["inputs"] for one in report.values())
        print(f"{total:,} inputs", {n: one["faults"] for n, one in report.items() if one["faults"]}, flush=True)
    sys.exit(any(report[name]["faults"] for name in names))


if __name__ == "__main__":
    main()
