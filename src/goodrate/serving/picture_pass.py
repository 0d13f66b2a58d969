"""A pass for pictures and clips: <img> sends no token, so the page of a shop puts a pass into the address instead."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import FastAPI

if TYPE_CHECKING:
    from starlette.types import Scope

    from goodrate.serving.access import Access

NAME = "pass"
SECONDS = 3600  # that a pass holds at least; twice as long at most
FORM = re.compile(r"[0-9a-f]{1,12}-[0-9a-f]{64}")
PICTURES = ("/image/", "/clip/")


class PicturePass:
    """Makes passes and knows them again: until when, and an HMAC-SHA256 of that under a key of the server's tokens.

    Servers with the same tokens know each other's passes; when a token is changed, all passes are over.
    """

    def __init__(self, digests: Sequence[bytes], now: Callable[[], float] = time.time) -> None:
        """digests: sha256 of each token."""
        self._key = hashlib.sha256(b"goodrate pictures" + b"".join(sorted(digests))).digest()
        self._now = now

    def made(self) -> tuple[str, int]:
        """A pass, and the second (since 1970) at which it is over; the same for a whole hour, so that pictures stay in
        a browser's cache."""
        until = (int(self._now()) // SECONDS + 2) * SECONDS
        return f"{until:x}-{self._signed(until)}", until

    def holds(self, sent: str) -> bool:
        """Whether this is a pass that is not over."""
        told, _, signature = sent.partition("-")
        if not FORM.fullmatch(sent):
            return False
        return hmac.compare_digest(signature, self._signed(int(told, 16))) and self._now() < int(told, 16)

    def lets(self, scope: Scope) -> bool:
        """Whether a request is for a picture or clip and has a pass."""
        if scope["method"] not in ("GET", "HEAD") or not scope["path"].startswith(PICTURES):
            return False
        try:
            sent = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=10).get(NAME, [""])
        except ValueError:
            return False
        return len(sent) == 1 and self.holds(sent[0])

    def _signed(self, until: int) -> str:
        return hmac.new(self._key, b"%x" % until, hashlib.sha256).hexdigest()


def add_picture_pass(app: FastAPI, access: Access | None) -> None:
    """GET /picture-pass. access: null is answered where no tokens are asked for."""
    passes = access.picture_pass if access is not None else None

    @app.get("/picture-pass")
    def picture_pass() -> dict[str, Any]:
        """What opens /image/ID?pass=... and /clip/ID?pass=... to a page whose <img> sends no token, for an hour or two;
        null where none is needed."""
        if passes is None:
            return {"pass": None, "until": None}
        made, until = passes.made()
        return {"pass": made, "until": datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")}
