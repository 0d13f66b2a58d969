"""Lines at the end of a log: whole ones, whatever killed the writer before or filled the disk."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


def opened_for_lines(path: Path) -> int:
    """The descriptor of a file, made where it is missing, for `append_lines`. OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)


def append_lines(handle: int, lines: bytes, alone: bool = False) -> None:
    """Write lines, the last newline included, with one call. What a writer left of a line is ended first, so that it
    alone is unreadable.

    alone: no other process writes here. Then the lines are on the disk when this returns, and nothing of them is left
    where they cannot be written. Raises OSError when they cannot.
    """
    before = os.fstat(handle).st_size
    if before and os.pread(handle, 1, before - 1) != b"\n":
        lines = b"\n" + lines
    try:
        if os.write(handle, lines) < len(lines):
            raise OSError(errno.ENOSPC, "no space left on device")
        if alone:
            os.fsync(handle)
    except OSError:
        if alone:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, before)
        raise
