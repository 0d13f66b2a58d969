"""The HTTP API under schemathesis with every check and phase: the long half of test_http_faults.py.

python tests/faults/api.py --examples 100 --out report.json [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(app: list[str], more: list[str], examples: int, seed: int) -> tuple[int, int, list[str], str]:
    """Serve an application and ask it: exit code, cases, kinds of failures, and what schemathesis said. app: arguments
    of api_server.py; more: of schemathesis.
    """
    port = free_port()
    server = subprocess.Popen([sys.executable, str(HERE / "api_server.py"), str(port), *app])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
                break
            except OSError:
                time.sleep(0.2)
        command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(HERE / "schemathesis.toml")]
        command += ["run", f"http://127.0.0.1:{port}/openapi.json", "--checks", "all", "--continue-on-failure", *more]
        command += ["--max-examples", str(examples), "--seed", str(seed), "--workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_PROXY": "127.0.0.1"})
    finally:
        server.terminate()
        server.wait()
    cases = re.search(r"([\d,]+) generated", done.stdout)
    failures = re.findall(r"[^\n]*(ST\d+ [^\n]*: \d+)", done.stdout)
    return done.returncode, int(cases[1].replace(",", "")) if cases else 0, failures, done.stdout[-6000:]


def main() -> None:
    """Serve, ask, write what came of it; exit code 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    apps: list[tuple[list[str], list[str]]] = [([], []), (["entities"], ["--include-path-regex", "^/overrides"])]
    each = [asked(app, more, given.examples, given.seed) for app, more in apps]
    worst, cases = max(code for code, *_ in each), sum(one[1] for one in each)
    report = {"examples": given.examples, "seed": given.seed, "exit_code": worst, "cases": cases,
              "failures": [kind for one in each for kind in one[2]]}  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(said for code, _, _, said in each if code) or f"{cases:,} cases, no failure")
    sys.exit(worst)


if __name__ == "__main__":
    main()
