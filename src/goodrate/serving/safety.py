"""What every answer carries, errors of every kind included: safety headers; and what an unforeseen error shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders

from goodrate.serving.bodies import error_answer
from goodrate.serving.pictures import with_pictures

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
# The page loads nothing from elsewhere but pictures of the catalogue (pictures.py) and runs no inline script; the
# browser is told to hold it to that.
SAFETY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a browser asks whether its copy is the current one, so it never mixes two versions
}


class Safety:
    """The outermost part: no answer leaves without the headers, and no error with anything of the inside."""

    def __init__(self, app: ASGIApp, pictures: Mapping[str, Callable[[], str]]) -> None:
        """pictures: by the path of a page that shows some, what says where they may come from (img-src)."""
        self._app, self._pictures = app, pictures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def safe_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(await self._headers(scope["path"]))
            await send(message)

        try:
            await self._app(scope, receive, safe_send)
        except Exception as error:
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            if started:  # the answer ends in the middle, which the client sees
                raise
            await error_answer(500, "internal error; the server's log says more")(scope, receive, safe_send)

    async def _headers(self, path: str) -> dict[str, str]:
        """The headers of an answer. By path: an answer "not modified" renews the headers that a browser keeps."""
        if path not in self._pictures:
            return SAFETY_HEADERS
        sources = await run_in_threadpool(self._pictures[path])
        return {
            **SAFETY_HEADERS,
            "Content-Security-Policy": with_pictures(SAFETY_HEADERS["Content-Security-Policy"], sources),
        }
