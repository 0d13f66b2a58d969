"""/image/{id}: the pictures of the served index's items, as thumbnails of a few sizes."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from io import BytesIO
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse

from goodrate.catalog.images import KEPT, PictureError, is_address, open_picture
from goodrate.retrieval.pictures import pictures_of
from goodrate.serving.candidates import unavailable
from goodrate.serving.parts import Current
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import UnknownItem

log = logging.getLogger(__name__)
SIZES = (96, 192, 384, 768)  # pixels of the longer side at most; a request gets the next one up
USUAL = 384
MOST_KEPT = 32_000_000  # bytes of thumbnails in memory
AT_ONCE = 2  # pictures decoded side by side: each may take 160 MB
QUALITY = 85


def add_images(app: FastAPI, current: Current) -> None:
    """Give an application its route for pictures. An item whose picture is elsewhere on the web has none here."""
    thumbnails = Thumbnails()

    @app.get("/image/{item_id:path}", response_class=Response)
    def image(request: Request, item_id: str, size: Annotated[int, Query(ge=1, le=SIZES[-1])] = USUAL) -> Response:
        """An item's picture with a longer side of at most `size`, rounded up to 96, 192, 384 or 768."""
        content = _content(current(), item_id)
        if isinstance(content, str):
            return RedirectResponse(content, 307)
        side = next(known for known in SIZES if known >= size)
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}-{side}"'
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"etag": tag})
        try:
            kind, small = thumbnails.of(tag, content, side)
        except PictureError as error:
            raise _not_shown(item_id, error) from None
        return Response(small, media_type=kind, headers={"etag": tag})


def _content(pipeline: SearchPipeline, item_id: str) -> bytes | str:
    """The bytes of an item's picture; where the index was told of no folder, the path itself as one of this server,
    where a proxy may answer. Raises UnknownItem when there is no such item, or no picture of it here.
    """
    store: Any = pipeline.store
    if not hasattr(store, "manifest"):  # items of another engine name pictures on the web alone
        raise UnknownItem(f"no picture of {item_id!r} is here")
    with unavailable():
        known = store.known_items([item_id])
        pictures = pictures_of(store)
    if known.is_empty():
        raise UnknownItem(f"the index has no item {item_id!r}")
    image = known["image"][0]
    if image and not is_address(image) and store.manifest.images is None and not image.startswith(KEPT):
        return quote(image if image.startswith("/") else f"../{image}", safe="/?=&%")  # a backslash leads nowhere else
    try:
        content = None if is_address(image) else pictures.content(image)
    except PictureError as error:
        raise _not_shown(item_id, error) from None
    if content is None:
        raise UnknownItem(f"no picture of {item_id!r} is here")
    return content


def _not_shown(item_id: str, error: PictureError) -> UnknownItem:
    """The error of a picture that cannot be used; the reason, which may name a folder, goes to the log alone."""
    log.warning("the picture of %r cannot be shown: expected %s", item_id, error)
    return UnknownItem(f"the picture of {item_id!r} cannot be shown; the server's log says why")


class Thumbnails:
    """Small pictures, the last ones used kept in memory. Safe to call from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._size, self._lock, self._turns = 0, threading.Lock(), threading.Semaphore(AT_ONCE)

    def of(self, name: str, content: bytes, side: int) -> tuple[str, bytes]:
        """Content type and bytes. name: of this content at this side. Raises PictureError."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        with self._turns:
            made = thumbnail(content, side)
        with self._lock:
            if name not in self._kept:
                self._kept[name] = made
                self._size += len(made[1])
            while self._size > MOST_KEPT:
                self._size -= len(self._kept.popitem(last=False)[1][1])
        return made


def thumbnail(content: bytes, side: int) -> tuple[str, bytes]:
    """A picture whose longer side is at most so many pixels: content type and bytes, without the original's metadata.

    Turned as a camera noted; PNG where parts are transparent, JPEG otherwise. A small picture is not enlarged. Raises
    PictureError.
    """
    from PIL import ImageOps

    image = open_picture(content, draft=side)
    image = ImageOps.exif_transpose(image)
    clear = image.has_transparency_data
    image = image.convert("RGBA" if clear else "RGB")
    image.thumbnail((side, side))
    buffer = BytesIO()
    if clear:
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.save(buffer, "JPEG", quality=QUALITY)
    return "image/jpeg", buffer.getvalue()
