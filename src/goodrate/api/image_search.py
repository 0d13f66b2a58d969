"""Search by a picture: the items of an index that look like it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goodrate.api.index import Index
    from goodrate.retrieval.image_vectors import PictureEncoder, PictureReport

LOOKED_AT = 500  # items checked against a filter at a time


@dataclass(frozen=True)
class ImageHit:
    """One result. cosine: of its picture with the one that was asked for; item: its columns, the id among them."""

    rank: int
    cosine: float
    item: dict[str, Any]


def index_pictures(
    index: Index, encoder: str | Path | PictureEncoder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PictureReport:  # fmt: skip
    """Encode the pictures of an index's items, those that are new or changed, so that search_image finds them.

    encoder: the folder of a vision model (models.vision.encoder.open_vision), or what encodes; None: the one that the
    index remembers. Raises ValueError where it remembers none.
    """
    from goodrate.retrieval.image_vectors import encode_pictures
    from goodrate.retrieval.manifest import remembered_place
    from goodrate.retrieval.pictures import pictures_of
    from goodrate.retrieval.turns import writing_turn

    store, opened = index.store, picture_encoder(index, encoder)
    with writing_turn(store.path):
        report = encode_pictures(store, pictures_of(store), opened, progress)
        place = remembered_place(store.path, encoder)
        if place is not None and place != store.manifest.image_encoder:
            store.manifest.model_copy(update={"image_encoder": place}).write(store.path)
            store.reload()
    return report


def search_image(
    index: Index, picture: str | Path | bytes | Any, k: int = 10, where: str | None = None,
    encoder: str | Path | PictureEncoder | None = None,
) -> list[ImageHit]:  # fmt: skip
    """The k items whose pictures are most like this one, the nearest first.

    picture: a file, its bytes, or pixels uint8 (H, W, 3). where: a filter as of a search. encoder: the one that
    encoded the index's pictures; None: as the index remembers. Raises FileNotFoundError, and ValueError for what is no
    picture, for an index without picture vectors and for another encoder.
    """
    from goodrate.catalog.images import PictureError, open_picture
    from goodrate.retrieval.image_vectors import ImageVectors

    held = ImageVectors.read(index.store.path)
    if held is None:
        raise ValueError(f"{index.store.path} has no vectors of pictures; {_make(index)}")
    named = "the picture"
    if isinstance(picture, str | Path):
        named = str(picture)
        picture = Path(picture).read_bytes()
    try:
        if isinstance(picture, bytes):
            open_picture(picture)
    except PictureError as error:
        raise ValueError(f"{named}: expected {error}") from None
    opened = picture_encoder(index, encoder)
    if opened.fingerprint != held.fingerprint:
        raise ValueError(
            f"the pictures of {index.store.path} were encoded by {held.fingerprint}, not by {opened.fingerprint}; "
            "search with the same, or index with --image-encoder again"
        )
    found = _first(index, held.ranking(opened.encode([picture])[0]), k, where)
    rows = {row["id"]: row for row in index.store.known_items([item for item, _ in found]).to_dicts()}
    return [ImageHit(rank, cosine, rows[item]) for rank, (item, cosine) in enumerate(found, start=1)]


def _first(index: Index, ranking: Any, k: int, where: str | None) -> list[tuple[str, float]]:
    """The first k of a ranking that the index still holds and the filter lets through."""
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    found: list[tuple[str, float]] = []
    while len(found) < k and (some := list(itertools.islice(ranking, LOOKED_AT))):
        there = index.store.matching([item for item, _ in some], where)
        found += [one for one in some if one[0] in there]
    return found[:k]


def remembered_images(path: Path) -> Path | None:
    """The folder of pictures that the index in a folder remembers; None for none, and for no index.

    Raises FileNotFoundError where it is gone, ValueError for a damaged index.
    """
    from goodrate.retrieval.manifest import is_index, read_manifest
    from goodrate.retrieval.pictures import remembered_folder

    place = read_manifest(path).images if is_index(path) else None
    if place is None:
        return None
    folder = remembered_folder(path, place)
    if not folder.exists():
        told = "--images DIR names another folder"
        raise FileNotFoundError(f"there is no {folder}, where {path} has its pictures; {told}")
    return folder


def picture_encoder(index: Index, encoder: str | Path | PictureEncoder | None = None) -> PictureEncoder:
    """What encodes pictures: as given, of a folder, or as the index remembers. Raises ValueError where it does not."""
    from goodrate.retrieval.manifest import encoder_place

    if encoder is not None and not isinstance(encoder, str | Path):
        return encoder
    remembered = index.store.manifest.image_encoder
    if encoder is None and remembered is None:
        raise ValueError(f"{index.store.path} remembers no encoder of pictures; {_make(index)}")
    from goodrate.models.vision.encoder import open_vision
    from goodrate.models.vision.vectors import PictureVectors

    place = encoder if encoder is not None else encoder_place(index.store.path, str(remembered))
    return PictureVectors(open_vision(place))


def _make(index: Index) -> str:
    return f"encode them: goodrate index CATALOG --out {index.store.path} --images DIR --image-encoder DIR"
