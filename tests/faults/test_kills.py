"""The quick half of kills.py: a log and a command, killed at random moments; `make faults` does all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_what_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "kills.py"), "--kills", "1", "--only", "grades,judge", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("grades", "judge"):
        told = json.loads((tmp_path / f"{name}.json").read_text())
        assert told["kills"] >= 1 and told["faults"] == []


def test_a_kill_is_a_kill_and_a_hang_is_seen(tmp_path: Path) -> None:
    code = (
        "import json, sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import killing\n"
        "said = Path(sys.argv[2])\n"
        "def busy():\n"
        "    print('begun', flush=True)\n"
        "    while True: pass\n"
        "killed = killing.forked(busy, said, 0.2); killing.HANG = 0.5\n"
        "hung = killing.forked(lambda: time.sleep(60), said); whole = killing.forked(lambda: [1], said)\n"
        "broken = killing.forked(lambda: 1 / 0, said)\n"
        "print(json.dumps([killed.code, killed.said, hung.code, whole.code, whole.value, broken.code, broken.said]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(HERE), str(tmp_path / "said")], capture_output=True, text=True
    )
    killed, said, hung, whole, value, broken, traceback = json.loads(done.stdout)
    assert (killed, said, hung, whole, value, broken) == (-9, "begun\n", None, 0, [1], 70)
    assert "ZeroDivisionError" in traceback
