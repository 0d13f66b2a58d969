"""Commands on a disk that is full or read-only: a file system in memory, mounted in a namespace of the process's own.

python tests/faults/disk.py --out FOLDER [--only index_fresh,judge] [--user nobody]

Each scenario of scenarios.py runs on a disk that is full after a few kilobytes, then after more, and on one that is
read-only. Every run that fails must say so in one line without a traceback, keep what was there before, and the same
command must give the same state once there is room. --user: as an ordinary user, in a user namespace.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from killing import forked, imported  # noqa: E402
from scenarios import SCENARIOS, make_inputs  # noqa: E402

NEW_NAMESPACE, NEW_USER = 0x20000, 0x10000000
WRITERS = ("index_fresh", "judge", "judge_sft", "judge_encoder", "fit_judge", "retriever_contrastive")
SPARE = (0, 8, 64, 512, 4096)  # kilobytes that are left
LINES = 6  # that a refusal may have


def own_disk(folder: Path, user: str | None) -> None:
    """Mount a file system in memory on the folder, seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if user:
        readable_python(folder.parent / "python")
        told = pwd.getpwnam(user)
        os.setgroups([]), os.setgid(told.pw_gid), os.setuid(told.pw_uid)
        libc.prctl(4, 1)  # dumpable again, which changing the user took: else its own /proc is not its own
    if libc.unshare(NEW_NAMESPACE | (NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {told.pw_uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {told.pw_gid} 1")
    mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder))


def readable_python(beside: Path) -> None:
    """Let others read a Python that lies in a folder of root's, in a namespace of mounts of this process's own."""
    top = Path("/", Path(sys.base_prefix).parts[1])
    if top.stat().st_mode & 0o001:
        return
    ctypes.CDLL(None).unshare(NEW_NAMESPACE)
    beside.mkdir()
    mount("--bind", sys.base_prefix, str(beside))
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(top))
    Path(sys.base_prefix).mkdir(parents=True)
    mount("--bind", str(beside), sys.base_prefix)
    os.environ["HOME"] = str(beside.parent)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def filled(folder: Path, spare: int) -> None:
    """Leave so many kilobytes."""
    free = shutil.disk_usage(folder).free - 1024 * spare
    with open(folder / "filling", "wb") as file:
        file.write(b"\0" * max(0, free))


def small(folder: Path) -> None:
    """Make the disk as large as what it holds and 64 MB, so that filling it costs no memory."""
    used = shutil.disk_usage(folder).used
    mount("-t", "tmpfs", "-o", f"remount,size={used + (64 << 20)}", "tmpfs", str(folder))


def problem(ended: Any) -> str | None:
    """What is wrong with how a command ended on a full disk."""
    lines = [line for line in ended.said.splitlines() if line.strip()]
    if ended.code not in (0, 1, 2):
        return f"exit code {ended.code}: {ended.said[-800:]}"
    if "Traceback" in ended.said:
        return f"a traceback: {ended.said[-800:]}"
    if ended.code and not any(word in ended.said for word in ("space", "ead-only", "ermission", "opened for writing")):
        return f"no reason: {lines[-LINES:]}"
    return None


def on_one_disk(name: str, inputs: Path, mounted: Path) -> dict[str, Any]:
    """All trials of a scenario; runs in a process with a disk of its own at `mounted`."""
    scenario, folder, said = SCENARIOS[name], mounted / "trial", mounted.parent / f"{name}.txt"
    faults: list[str] = []

    def fork(work: Callable[[Path], Any]) -> Any:
        return forked(lambda: work(folder), said)

    def fresh() -> None:
        mount("-t", "tmpfs", "-o", "remount,rw,size=1g", "tmpfs", str(mounted))
        (mounted / "filling").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(inputs, folder)
        if scenario.before:
            fork(scenario.before)

    fresh()
    whole = fork(scenario.act)
    expected = fork(scenario.state).value
    if whole.code or expected is None:
        return {"trials": 0, "faults": [f"the whole run failed: {whole.said[-800:]}"]}
    codes: dict[str, int | None] = {}
    for spare in (*SPARE, -1):
        fresh()
        small(mounted)
        if spare < 0:
            mount("-t", "tmpfs", "-o", "remount,ro", "tmpfs", str(mounted))
        else:
            filled(mounted, spare)
        ended = fork(scenario.act)
        wrong = problem(ended)
        mount("-t", "tmpfs", "-o", "remount,rw,size=1g", "tmpfs", str(mounted))
        (mounted / "filling").unlink(missing_ok=True)
        again = fork(scenario.act)
        if wrong is None and (again.code or fork(scenario.state).value != expected):
            wrong = f"not the same with room: exit code {again.code}: {again.said[-800:]}"
        label = "read-only" if spare < 0 else f"{spare} KB left"
        codes[label] = ended.code
        faults += [f"{label}: {wrong}"] if wrong else []
    return {"trials": len(codes), "codes": codes, "faults": faults}


def main() -> None:
    """Each scenario on a disk of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(WRITERS))
    parser.add_argument("--user", default="")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    imported()
    bad = False
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o777)
        inputs, mounted = Path(work, "inputs"), Path(work, "disk")
        inputs.mkdir(), mounted.mkdir()
        os.chmod(mounted, 0o777)
        forked(lambda: make_inputs(inputs), Path(work, "inputs.txt"))
        subprocess.run(["chmod", "-R", "a+rX", str(inputs)], check=True)
        for name in given.only.split(","):

            def trials(name: str = name) -> dict[str, Any]:
                own_disk(mounted, given.user or None)
                return on_one_disk(name, inputs, mounted)

            told = forked(trials, Path(work, "trials.txt"))
            result = told.value or {"trials": 0, "faults": [told.said[-2000:]]}
            path = given.out / f"{name}{'-' + given.user if given.user else ''}.json"
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(f"{path.stem}: {result['trials']} trials, {len(result['faults'])} faults", flush=True)
            bad = bad or bool(result["faults"])
    sys.exit(bad)


if __name__ == "__main__":
    main()
