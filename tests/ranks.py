"""Calls of a test module in several gloo processes on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

WORKER = """
import sys
sys.path[:0] = [{here!r}]
import {module}
{module}.{call}
"""


def launch(module: str, call: str, world: int = 2) -> None:
    """A call of a module of the tests in so many processes; each must end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = WORKER.format(here=str(Path(__file__).parent), module=module, call=call)
    common = {
        **os.environ, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], env={**common, "RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(world)
    ]
    assert [rank.wait(timeout=600) for rank in ranks] == [0] * world
