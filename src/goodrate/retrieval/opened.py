"""An index that is open while others write to it, clean it, or make it anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from goodrate.retrieval.manifest import MANIFEST, Manifest, read_manifest
from goodrate.retrieval.remote import address, follow, located
from goodrate.retrieval.table import IndexDamaged, damage_named, open_table
from goodrate.retrieval.turns import writing_turn
from goodrate.run_folder import file_stamp

READS = 3  # one read is enough, unless another process deletes old versions just then
T = TypeVar("T")


class IndexReplaced(ValueError):
    """The folder of an open index holds another one, of another encoder."""


class _State(NamedTuple):
    """What is open, replaced as a whole. stamp: which store.json that was."""

    stamp: tuple[int, ...] | None
    manifest: Manifest
    table: Any


class OpenedIndex:
    """The manifest and the table of a folder, as they are there now. version: an older state, for reading only."""

    def __init__(self, path: Path, version: int | None = None) -> None:
        """Raises what read_manifest and open_table do."""
        path = located(path)
        self.path, self.version = path, version
        stamp, manifest = _stamp(path), read_manifest(path)
        self._state = _State(stamp, manifest, open_table(path, manifest.dimension, version))

    @property
    def manifest(self) -> Manifest:
        """What made the index."""
        return self._state.manifest

    def changed(self) -> bool:
        """Whether the folder holds another index than the open one; False while it holds none."""
        follow(self.path)
        stamp = _stamp(self.path)
        if stamp is None or stamp == self._state.stamp:
            return False
        return _identity(read_manifest(self.path)) != _identity(self.manifest)

    def reload(self) -> None:
        """Open what is in the folder now; see Store.reload."""
        if self.version is not None:
            raise ValueError(f"version {self.version} of {self.path} is gone: the index was made anew or cleaned up")
        stamp, manifest = _stamp(self.path), read_manifest(self.path)
        own = self.manifest
        if (manifest.fingerprint, manifest.dimension) != (own.fingerprint, own.dimension):
            raise IndexReplaced(f"{self.path} holds another index, made with another encoder; open it anew")
        self._state = _State(stamp, manifest, open_table(self.path, manifest.dimension))

    def read(self, read: Callable[[Any], T]) -> T:
        """What `read` gives for the table; again when files went away while it read."""
        for _ in range(READS - 1):
            try:
                with damage_named(self.path):
                    return read(self._table())
            except IndexDamaged:
                self.reload()
        with damage_named(self.path):
            return read(self._table())

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """The table, held for writing until the block ends."""
        if self.version is not None:
            raise ValueError(f"{self.path} was opened at version {self.version}, which is for reading only")
        read_manifest(self.path)  # taking the turn would make a folder that is gone
        with writing_turn(self.path), damage_named(self.path):
            table = self._table()
            if address(self.path) is not None:
                table.checkout_latest()  # reads look less often, and what is merged into an old state doubles its ids
            yield table

    def _table(self) -> Any:
        """The table of the index that is in the folder now."""
        follow(self.path)
        if _stamp(self.path) != self._state.stamp:
            self.reload()
        return self._state.table


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Which store.json a folder has; None for none."""
    return file_stamp(path / MANIFEST)


def _identity(manifest: Manifest) -> str:
    """Which making of an index this is; older ones have no id."""
    return manifest.id or f"{manifest.created} {manifest.fingerprint}"
