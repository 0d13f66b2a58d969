"""Where an index has the pictures of its items: a folder that it remembers, and bytes that it keeps itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.catalog.images import KEPT, PictureError, Pictures, read_bounded
from goodrate.retrieval.manifest import remembered_place
from goodrate.retrieval.remote import address
from goodrate.run_folder import write_atomic

if TYPE_CHECKING:
    from goodrate.retrieval.store import Store

KEPT_FOLDER = "images"  # in the index: the bytes that came with a table


def keep_pictures(store: Store, pictures: Pictures) -> None:
    """Have an index remember the folder of its pictures and keep the bytes that came with the table.

    An index has one folder: the one that is told last. Call it in the index's turn. Raises ValueError for bytes that an
    index on S3 would have to keep.
    """
    if pictures.kept and address(store.path) is not None:
        raise ValueError(
            f"{address(store.path)}: pictures inside a table are not kept on S3; have them as files, with --images DIR"
        )
    for name, content in pictures.kept.items():
        place = store.path / KEPT_FOLDER / name
        if not place.is_file():
            place.parent.mkdir(exist_ok=True)
            write_atomic(place, content)
    folder = None if pictures.root is None else remembered_place(store.path, pictures.root)
    if folder is not None and folder != store.manifest.images:
        store.manifest.model_copy(update={"images": folder}).write(store.path)
        store.reload()


def pictures_of(store: Store) -> Pictures:
    """Where the pictures of an index's items lie. A folder that is gone has no pictures."""
    root = None if store.manifest.images is None else remembered_folder(store.path, store.manifest.images)
    return Pictures(root if root is not None and root.exists() else None, _KeptFiles(store.path / KEPT_FOLDER))


def remembered_folder(index: Path, remembered: str) -> Path:
    """The folder of pictures that a manifest remembers, a relative one seen from the index; it may be gone."""
    return (index.resolve() / remembered).resolve()


class _KeptFiles(Mapping[str, bytes]):
    """The kept bytes of an index by their name, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, name: object) -> bool:
        plain = isinstance(name, str) and name.startswith(KEPT) and name.removeprefix(KEPT).isalnum()
        return plain and (self._folder / str(name)).is_file()

    def __getitem__(self, name: str) -> bytes:
        if name not in self:
            raise KeyError(name)
        try:
            return read_bounded(self._folder / name)
        except PictureError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._folder.glob(f"{KEPT}*"))

    def __len__(self) -> int:
        return sum(1 for _ in self)
