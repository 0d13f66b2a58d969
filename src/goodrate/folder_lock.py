"""One writer at a time in a folder. Readers never ask for the lock, so they never wait."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from goodrate import strict_json

LOCK_FILE, HOLDER_FILE = ".writer.lock", ".writer.json"


class FolderBusy(ValueError):
    """Another process, or another thread, writes into the folder."""


@contextlib.contextmanager
def one_writer(folder: str | Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the folder, which is made where it is missing, for writing until the block ends.

    The operating system gives the lock back when its process ends, however it ends: a lock is never stale. Who holds it
    (pid, host, since when) stands in `.writer.json`. The same thread may enter again. wait_s: how long to wait for
    another writer, in seconds. Raises FolderBusy, which names that writer, when it is still there after that.
    """
    import filelock

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.resolve() / LOCK_FILE, is_singleton=True)
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout:
        holder = _holder(folder)
        raise FolderBusy(f"{folder} is being written {holder}; wait until that ends, or choose another") from None
    try:
        if lock.lock_counter == 1:
            _sign(folder)
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def is_lock_file(path: Path) -> bool:
    """Whether this file is of a lock: a folder that holds nothing else is empty."""
    return path.name.startswith((LOCK_FILE, HOLDER_FILE))


def _sign(folder: Path) -> None:
    """Write who holds the folder, for the message that others get."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    (folder / HOLDER_FILE).write_text(strict_json.dumps(holder) + "\n", encoding="utf-8")


def _holder(folder: Path) -> str:
    """Who writes there, in words; a writer that has only just begun, or could not say so, is another process."""
    try:
        holder = strict_json.read_object(folder / HOLDER_FILE)
        return f"by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"
