"""A server of the command line in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

GOODRATE = [sys.executable, "-c", "from goodrate.cli import main; main()"]


def started(*arguments: object) -> tuple[str, subprocess.Popen[str]]:
    """The address of a server on a free port, and its process."""
    command = [*GOODRATE, *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
        line = process.stderr.readline()
        assert line, f"the server ended: {said}"
        said += line
    return found.group(), process
