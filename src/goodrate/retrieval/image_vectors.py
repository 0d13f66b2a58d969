"""Vectors of the items' pictures beside the index: the same thing is found in another picture of it.

One file, image_vectors.npz, compared with a picture one by one: a million items of 1280 floats are 2.6 GB and a second.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from goodrate.catalog.images import PictureError, Pictures, is_address
from goodrate.retrieval.manifest import way_out
from goodrate.run_folder import write_atomic

if TYPE_CHECKING:
    from goodrate.retrieval.store import Store

FILE = "image_vectors.npz"
PART = 256  # pictures encoded between two reports
KEPT_EVERY = 20  # parts: what an interruption can lose


class PictureEncoder(Protocol):
    """What a picture index needs of an encoder; models.vision.vectors.PictureVectors is one."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    def encode(self, pictures: Sequence[bytes]) -> np.ndarray: ...


@dataclass(frozen=True)
class ImageVectors:
    """N pictures. fingerprint: of their encoder; ids (N,) of their items, rising; keys (N,) of their bytes; vectors
    (N, D) float16 of length 1."""

    fingerprint: str
    ids: tuple[str, ...]
    keys: tuple[str, ...]
    vectors: np.ndarray

    def ranking(self, vector: np.ndarray) -> Iterator[tuple[str, float]]:
        """(id, cosine) of all items, the nearest first, equal ones by id. vector: (D,) float32 of length 1."""
        cosines = np.concatenate([self.vectors[start : start + 65_536].astype(np.float32) @ vector
                                  for start in range(0, max(len(self.ids), 1), 65_536)])  # fmt: skip
        order = np.argsort(-cosines, kind="stable")
        return ((self.ids[place], float(cosines[place])) for place in order)

    def write(self, folder: Path) -> None:
        """Into an index."""
        buffer = io.BytesIO()
        np.savez(
            buffer, fingerprint=np.asarray(self.fingerprint), ids=np.asarray(self.ids, dtype=str),
            keys=np.asarray(self.keys, dtype=str), vectors=self.vectors,
        )  # fmt: skip
        write_atomic(folder / FILE, buffer.getvalue())

    @classmethod
    def read(cls, folder: Path) -> ImageVectors | None:
        """Those of an index, None where it has none. Raises ValueError for a file that is cut or another."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as held:
                ids, keys = (tuple(held[name].tolist()) for name in ("ids", "keys"))
                made = cls(str(held["fingerprint"]), ids, keys, held["vectors"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged: {error}; remove it, and index with --image-encoder again") from error
        if not len(made.ids) == len(made.keys) == len(made.vectors):
            raise ValueError(f"{path} is damaged: its columns differ in length; {way_out(folder)}")
        return made


@dataclass(frozen=True)
class PictureReport:
    """What was done, in items: encoded now, unchanged since, without a picture here, and with one that is unusable."""

    encoded: int
    unchanged: int
    without: int
    unusable: tuple[str, ...] = ()


def encode_pictures(
    store: Store, pictures: Pictures, encoder: PictureEncoder, progress: Callable[[int, int], None] | None = None
) -> PictureReport:
    """Bring the picture vectors of an index up to date: only new and changed pictures are encoded.

    progress: called with (done, total) items looked at. Items that are gone lose theirs; another encoder makes all
    anew. A picture that cannot be used is told and left out. An interrupted run goes on from there. Call it in the
    index's turn.
    """
    old = ImageVectors.read(store.path)
    held = dict(zip(old.ids, old.keys, strict=True)) if old and old.fingerprint == encoder.fingerprint else {}
    row_of = {item: row for row, item in enumerate(old.ids)} if old and held else {}
    images = dict(store.all_items().frame.select("id", "image").rows())
    made = _Making(encoder, old.vectors if old and held else np.empty((0, encoder.dimension), np.float16))
    for part, start in enumerate(range(0, len(images), PART), start=1):
        for item in list(images)[start : start + PART]:
            made.look(item, images[item], pictures, held.get(item), row_of.get(item))
        made.encode()
        if progress:
            progress(min(start + PART, len(images)), len(images))
        if part % KEPT_EVERY == 0:
            made.kept(old, set(images)).write(store.path)
    made.kept(None, set()).write(store.path)
    return PictureReport(made.encoded, made.unchanged, made.without, tuple(made.unusable))


class _Making:
    """The vectors of a run so far. old: those of the run before."""

    def __init__(self, encoder: PictureEncoder, old: np.ndarray) -> None:
        self._encoder, self._old = encoder, old
        self._rows: dict[str, tuple[str, np.ndarray]] = {}
        self._waiting: dict[str, tuple[str, bytes]] = {}
        self.encoded = self.unchanged = self.without = 0
        self.unusable: list[str] = []

    def look(self, item: str, image: str, pictures: Pictures, key: str | None, row: int | None) -> None:
        """Take the vector over that a picture has, or note the picture as one to encode."""
        try:
            content = None if not image or is_address(image) else pictures.content(image)
        except PictureError as error:
            self.unusable.append(f"{item}: expected {error}")
            return
        if content is None:
            self.without += 1
            return
        own = hashlib.sha256(content).hexdigest()[:20]
        if own == key and row is not None:
            self._rows[item] = (own, self._old[row])
            self.unchanged += 1
        else:
            self._waiting[item] = (own, content)

    def encode(self) -> None:
        """Encode what waits; a picture that the encoder cannot read is told."""
        waiting, self._waiting = self._waiting, {}
        try:
            vectors = self._encoder.encode([content for _, content in waiting.values()])
        except ValueError:
            if len(waiting) == 1:
                self.unusable.append(f"{next(iter(waiting))}: no picture that can be read")
                return
            for item, one in waiting.items():  # find the one
                self._waiting = {item: one}
                self.encode()
            return
        self.encoded += len(waiting)
        for (item, (key, _)), vector in zip(waiting.items(), vectors, strict=True):
            self._rows[item] = (key, vector.astype(np.float16))

    def kept(self, old: ImageVectors | None, there: set[str]) -> ImageVectors:
        """What there is so far, and of items not looked at yet what the run before had."""
        rows = self._rows
        if old is not None and old.fingerprint == self._encoder.fingerprint:
            later = {i: (k, v) for i, k, v in zip(old.ids, old.keys, old.vectors, strict=True) if i in there}
            rows = {**later, **rows}
        ids = tuple(sorted(rows))
        vectors = np.stack([rows[item][1] for item in ids]) if ids else np.empty((0, self._encoder.dimension))
        keys = tuple(rows[item][0] for item in ids)
        return ImageVectors(self._encoder.fingerprint, ids, keys, vectors.astype(np.float16))
