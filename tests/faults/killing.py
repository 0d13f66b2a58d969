"""Work in a forked process, killed (-9) after so many seconds of its own CPU time; and what it said, left and cost.

A fork has all imports of this process, so that a trial costs what the work costs. This process itself must start no
threads (of torch, polars or the store): all work, preparing and checking too, is done in forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANG = 900.0  # seconds after which a process counts as hanging


@dataclass(frozen=True)
class Ended:
    """code: the exit code, -9 when it was killed, None when it hung. value: what the work gave. said: its output."""

    code: int | None
    value: Any
    said: str
    seconds: float


def forked(work: Callable[[], Any], said: Path, kill_after: float | None = None) -> Ended:
    """Do the work in a fork. kill_after: CPU seconds. said: the file of its output."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(work, write, said)
    os.close(write)
    code, seconds = _watched(pid, kill_after)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    value = json.loads(told) if told else None
    return Ended(code, value, said.read_text(errors="replace") if said.is_file() else "", seconds)


def _child(work: Callable[[], Any], write: int, said: Path) -> None:
    """Never comes back: ends the process."""
    code = 1
    try:
        os.setsid()
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(output, 1), os.dup2(output, 2)
        value = work()
        os.write(write, json.dumps(value).encode())
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    finally:
        with suppress(BaseException):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _watched(pid: int, kill_after: float | None) -> tuple[int | None, float]:
    """Exit code and CPU seconds of a process, killed when its time has come."""
    begun, used, killed = time.monotonic(), 0.0, False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used
        used = max(used, cpu_seconds(pid))
        if not killed and kill_after is not None and used >= kill_after:
            os.kill(pid, signal.SIGKILL)
            killed = True
        elif not killed and time.monotonic() - begun > HANG:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None, used
        near = kill_after is not None and used > 0.8 * kill_after
        time.sleep(0.002 if near else 0.02)  # looking costs CPU time, too


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process."""
    total = 0
    with suppress(OSError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with suppress(OSError):
                total += int(Path(task.path, "schedstat").read_text().split()[0])
    return total / 1e9


def imported() -> None:
    """Import here what the work imports, but for the store, whose import starts threads: a fork then costs its work."""
    import importlib

    import polars  # noqa: F401
    import torch
    from transformers import BertModel, Qwen3ForCausalLM  # noqa: F401

    from goodrate.recipes.registry import RECIPES, get_recipe

    torch.set_num_threads(1)
    for verb in ("train", "judge", "index", "label", "fit_judge"):
        importlib.import_module(f"goodrate.cli.{verb}")
    for recipe in RECIPES:
        get_recipe(recipe)
    assert "lancedb" not in sys.modules


def command(*arguments: object) -> None:
    """goodrate with these arguments, in this process. Raises SystemExit."""
    from goodrate.cli import main

    sys.argv = ["goodrate", *map(str, arguments)]
    main()
