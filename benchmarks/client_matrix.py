"""Which packages read what the server answers: each makes its call against a running server.

python benchmarks/client_matrix.py --python VENV/bin/python     writes benchmarks/results/client_matrix.md, and the
                                                                table in docs/clients.md anew

VENV has the clients (docs/clients.md); the server runs with the interpreter of this script. The calls themselves are in
tests/clients/calls.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "tests" / "clients"
RESULT = ROOT / "benchmarks" / "results" / "client_matrix.md"
PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- benchmarks/client_matrix.py -->", "<!-- end -->"


def rows(python: str) -> list[dict[str, Any]]:
    """What each call gave, in the order of calls.py."""
    serve = [sys.executable, str(CLIENTS / "serve_shop.py")]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert url.startswith("http://"), "the server did not start"
            quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "HAYSTACK_TELEMETRY_ENABLED": "False"}
            asked = [python, str(CLIENTS / "calls.py"), url]
            made = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
        finally:
            server.kill()
    return [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: client, version, call, what came."""
    lines = ["| package | version | call | reads |", "|---|---|---|---|"]
    lines += [f"| {row['client']} | {row['version'] or ''} | {row['call']} | {row['result']} |" for row in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make all calls and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment with the clients")
    made = table(rows(parser.parse_args().python))
    RESULT.write_text(made, encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
