"""The real packages against a running server. Each is skipped where it is not installed: docs/clients.md says how to
make an environment that has them, which need not have goodrate: GOODRATE_PYTHON names an interpreter that has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from calls import CALLS, Call  # noqa: E402


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    python = os.environ.get("GOODRATE_PYTHON", sys.executable)
    command = [python, str(Path(__file__).parent / "serve_shop.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://"), "the server did not start"
    yield address
    process.kill()
    process.wait(timeout=60)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.client} {call.does}")
def test_a_client_reads_what_it_asked_for(url: str, call: Call) -> None:
    if call.version is None:
        pytest.skip(f"{call.client} is not installed")
    assert call.run(url)
