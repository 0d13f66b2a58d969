"""Writers of an index take turns, on S3 too: one at a time, the others wait. Readers never wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from goodrate.folder_lock import FolderBusy, one_writer
from goodrate.retrieval.remote import address, located

__all__ = ["WAIT_S", "located", "writing_turn"]
WAIT_S = 600.0  # two nightly jobs that overlap both get in; one behind a writer that hangs ends with an error


@contextlib.contextmanager
def writing_turn(
    folder: str | Path, wait_s: float = WAIT_S, told: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold an index folder for writing until the block ends; the same thread may enter again.

    wait_s: how long to wait for another writer, in seconds. told: called once, with who writes there, before waiting.
    Raises FolderBusy when that writer is still there after the wait.
    """
    with contextlib.ExitStack() as turn:
        try:
            turn.enter_context(one_writer(folder))
        except FolderBusy as busy:
            if wait_s <= 0:
                raise
            if told is not None:
                told(f"waiting up to {wait_s:g} s: {str(busy).split('; ')[0]}")
            turn.enter_context(one_writer(folder, wait_s))
        if address(folder) is not None:
            from goodrate.retrieval.remote_turn import remote_turn

            turn.enter_context(remote_turn(Path(folder), wait_s, told))
        yield
