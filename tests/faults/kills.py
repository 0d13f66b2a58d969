"""Kill commands and trainings at random moments, run them again, and compare with a run that was not killed.

python tests/faults/kills.py --kills 4 --out FOLDER [--only index_fresh,judge] [--seed 0]

FOLDER gets a file for each scenario; one that has its kills without a fault is not run again. The moments are drawn
(seed) between 5 % and 98 % of the CPU seconds that a whole run took; every second trial is killed twice. Exit code 1
when anything was lost, differs, hung, or showed a traceback.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from killing import Ended, forked, imported  # noqa: E402
from methods import METHODS, POLICIES, make_policies  # noqa: E402
from scenarios import SCENARIOS, Scenario, make_inputs  # noqa: E402
from servers import SERVERS  # noqa: E402

from chat_server import chat_server  # noqa: E402

ALL = {**SCENARIOS, **METHODS, **SERVERS}


class Trials:
    """Trials of one scenario in one folder. inputs: what is copied into it each time."""

    def __init__(self, name: str, scenario: Scenario, inputs: Path, work: Path) -> None:
        self.name, self.scenario, self.inputs = name, scenario, inputs
        self.folder, self.said = work / "trial", work / "said.txt"

    def _fork(self, work: Any, kill_after: float | None = None) -> Ended:
        return forked(lambda: work(self.folder), self.said, kill_after)

    def _fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.inputs, self.folder)
        if self.scenario.before:
            self._must(self._fork(self.scenario.before))

    def _must(self, ended: Ended) -> Any:
        if ended.code != 0:
            raise RuntimeError(f"{self.name}: exit code {ended.code}\n{ended.said[-3000:]}")
        return ended.value

    def whole(self) -> None:
        """The run that is not killed."""
        self._fresh()
        ended = self._fork(self.scenario.act)
        self._must(ended)
        self.seconds = ended.seconds
        self.expected = self._must(self._fork(self.scenario.state))

    def trial(self, rng: random.Random, twice: bool) -> dict[str, Any]:
        """One trial: killed once or twice, then run to its end."""
        self._fresh()
        told: dict[str, Any] = {"killed": 0, "moments": []}
        for _ in range(1 + twice):
            moment = self.seconds * rng.uniform(0.05, 0.98)
            ended = self._fork(self.scenario.act, moment)
            told["killed"] += ended.code == -9
            told["moments"].append(round(moment, 3))
            if ended.code not in (-9, 0):
                return {**told, "fault": f"exit code {ended.code} when run again: {ended.said[-1500:]}"}
        ended = self._fork(self.scenario.act)
        if ended.code != 0 or "Traceback" in ended.said:
            return {**told, "fault": f"exit code {ended.code} at the end: {ended.said[-1500:]}"}
        read = self._fork(self.scenario.state)
        if read.code != 0:
            return {**told, "fault": f"cannot be read: {read.said[-1500:]}"}
        if read.value != self.expected:
            return {**told, "fault": f"another state: {_difference(self.expected, read.value)}"}
        return told


def _difference(expected: Any, found: Any) -> str:
    """The first places that differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        return "; ".join(
            f"{name}: {str(expected.get(name))[:200]} -> {str(found.get(name))[:200]}" for name in names[:3]
        )
    return f"{str(expected)[:300]} -> {str(found)[:300]}"


def run(name: str, kills: int, seed: int, inputs: Path, work: Path) -> dict[str, Any]:
    """At least `kills` kills of a scenario."""
    begun = time.monotonic()
    trials = Trials(name, ALL[name], inputs, work)
    trials.whole()
    rng, faults, killed, done = random.Random(f"{seed} {name}"), [], 0, 0
    while killed < kills and done < 3 * kills:
        told = trials.trial(rng, twice=bool(done % 2))
        killed, done = killed + told["killed"], done + 1
        if "fault" in told:
            faults.append(told)
    result = {"kills": killed, "trials": done, "cpu_seconds_of_a_run": round(trials.seconds, 2), "faults": faults}
    print(
        f"{name}: {killed} kills in {done} trials, {len(faults)} faults, {time.monotonic() - begun:.0f} s", flush=True
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in given.only.split(",") if not done(given.out / f"{name}.json", given.kills)]
    imported()
    with tempfile.TemporaryDirectory() as work, chat_server(lambda body, n: '{"label": "related"}') as teacher:
        inputs = Path(work, "inputs")
        inputs.mkdir()
        (inputs / "teacher.url").write_text(teacher.url)
        forked(lambda: make_inputs(inputs), Path(work, "inputs.txt"))
        if set(names) & POLICIES:
            made = forked(lambda: make_policies(inputs), Path(work, "policies.txt"))
            assert made.code == 0, made.said
        faults = 0
        for name in names:
            try:
                result = run(name, given.kills, given.seed, inputs, Path(work))
            except RuntimeError as error:  # a run that was not killed fails: nothing to compare with
                result = {"kills": 0, "trials": 0, "faults": [str(error)]}
                print(f"{name}: {error}", flush=True)
            (given.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            faults += len(result["faults"])
    sys.exit(faults > 0)


def done(path: Path, kills: int) -> bool:
    """Whether a report has so many kills and no fault."""
    told = json.loads(path.read_text()) if path.is_file() else {}
    return bool(told) and told["kills"] >= kills and not told["faults"]


if __name__ == "__main__":
    main()
