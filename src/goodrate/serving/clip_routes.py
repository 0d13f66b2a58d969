"""/clip/{id}: the animated pictures that the catalogue's column clip names, from one folder."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response

from goodrate.serving.candidates import unavailable
from goodrate.serving.parts import Current
from goodrate.serving.records import UnknownItem

log = logging.getLogger(__name__)
MOST_BYTES = 20_000_000
KINDS = {b"RIFF": "image/webp", b"GIF8": "image/gif"}  # by what a file begins with


def add_clips(app: FastAPI, current: Current, folder: Path | None) -> None:
    """GET /clip/{id}. folder: the one that clips lie in; None = this server has none, whatever the items say."""

    @app.get("/clip/{item_id:path}", response_class=Response)
    def clip(request: Request, item_id: str) -> Response:
        """An item's clip: an animated WebP or GIF."""
        named = _named(current(), item_id)
        content = None if folder is None or not named else _content(folder, named)
        kind = KINDS.get((content or b"")[:4])
        if content is None or kind is None:
            raise UnknownItem(f"no clip of {item_id!r} is here")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"etag": tag})
        return Response(content, media_type=kind, headers={"etag": tag})


def _named(pipeline: object, item_id: str) -> str:
    """What the item says of its clip. Raises UnknownItem when there is no such item."""
    store: Any = getattr(pipeline, "store", None)
    if not hasattr(store, "known_items"):  # items of another engine
        raise UnknownItem(f"no clip of {item_id!r} is here")
    with unavailable():
        known = store.known_items([item_id])
    if known.is_empty():
        raise UnknownItem(f"the index has no item {item_id!r}")
    return known["clip"][0] or ""


def _content(folder: Path, named: str) -> bytes | None:
    """The bytes of a clip; None, and a line in the log, for a path that leads out of the folder or to no such file."""
    home = folder.resolve()
    try:
        place = (home / named).resolve()
        if not place.is_relative_to(home):
            raise OSError("outside of the folder of clips")
        with place.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES // 1_000_000} MB")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        log.warning("the clip %r cannot be shown: %s", named[:80], error)
        return None
    return content
