"""One writer at a time of an index on S3, whichever machine it is on.

The turn is a row of a small table beside the items. Taking it is one update of that row where it is free, which the
engine commits by a conditional put of S3: of two writers that try at once, one finds it taken. A writer that is killed
keeps its turn until LEASE_S seconds after its last commit; then the next one takes it over. What this does not promise:
a writer that stood still for longer than that, and goes on, may commit beside the next one. Each commit is whole even
so, and an item that both added has two rows until the next writer's turn begins, which mends that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goodrate.folder_lock import FolderBusy
from goodrate.retrieval import remote

TABLE = "writer"
LEASE_S = 600.0
RENEW_S = 30.0  # between two signs of life
LOOK_S = 0.5  # between two tries to get the turn


@dataclass
class _Turn:
    """A turn that this process has. depth: how often its thread has entered it; until: when it ends, unix seconds."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    depth: int = 0
    until: float = 0.0


_turns: dict[Path, _Turn] = {}


@contextlib.contextmanager
def remote_turn(folder: Path, wait_s: float, told: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the index at the address of a mirror for writing, with its small files as they are there, until the end.

    The thread may enter again, which renews the turn; the caller lets no other thread in. Raises FolderBusy when
    another writer is still there after wait_s seconds, or has taken the turn over.
    """
    turn = _turns.setdefault(folder, _Turn())
    table = _table(folder)
    if turn.depth:
        _renew(folder, table, turn)
    else:
        _take(folder, table, turn, wait_s, told)
    turn.depth += 1
    try:
        if turn.depth > 1:
            yield
        else:
            yield from _with_files(folder)
    finally:
        turn.depth -= 1
        if not turn.depth:
            table.update(where=f"holder = '{turn.name}'", values={"holder": "", "until": 0.0})
            del _turns[folder]


def _with_files(folder: Path) -> Iterator[None]:
    """The mirror's small files fetched, and put back."""
    remote.pull(folder)
    before = remote.hashes(folder)
    remote.writing.add(folder)
    try:
        yield
    finally:
        remote.push(folder, before)
        remote.writing.discard(folder)


def _take(
    folder: Path, table: Any, turn: _Turn, wait_s: float, told: Callable[[str], None] | None
) -> None:  # fmt: skip
    deadline = time.monotonic() + wait_s
    while not _got(table, turn, f"(holder = '' OR until < {time.time()})"):
        holder = _holder(folder, table)
        if told is not None and wait_s > 0:
            told(f"waiting up to {wait_s:g} s: {holder}")
            told = None
        if time.monotonic() >= deadline:
            raise FolderBusy(f"{holder}; wait until that ends")
        time.sleep(LOOK_S)


def _renew(folder: Path, table: Any, turn: _Turn) -> None:
    if time.time() > turn.until - LEASE_S + RENEW_S and not _got(table, turn, f"holder = '{turn.name}'"):
        raise FolderBusy(f"{_holder(folder, table)}: this writer stood still for too long and lost its turn")


def _got(table: Any, turn: _Turn, where: str) -> bool:
    """Whether the turn is ours after one conditional update."""
    until, since = time.time() + LEASE_S, datetime.now(UTC).isoformat(timespec="seconds")
    said = f"process {os.getpid()} on {socket.gethostname()} since {since}"
    table.checkout_latest()
    done = table.update(where=where, values={"holder": turn.name, "until": until, "said": said})
    turn.until = until if done.rows_updated else turn.until
    return bool(done.rows_updated)


def _holder(folder: Path, table: Any) -> str:
    table.checkout_latest()
    said = table.to_arrow()["said"].to_pylist()[0]
    return f"{remote.address(folder)} is being written by {said}"


def _table(folder: Path) -> Any:
    """The table with the one row; made where there is none, by one of those who try."""
    import lancedb
    import pyarrow as pa

    database = lancedb.connect(str(remote.address(folder)), storage_options=remote.storage_options())
    with contextlib.suppress(ValueError):
        return database.open_table(TABLE)
    row = pa.table({"holder": [""], "until": [0.0], "said": ["nobody"]})
    with contextlib.suppress(ValueError, RuntimeError, OSError):
        database.create_table(TABLE, row, mode="create")
    return database.open_table(TABLE)
