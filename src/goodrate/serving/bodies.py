"""Request bodies: how long they may be, how long they may take, and which JSON they may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from goodrate import strict_json
from goodrate.serving.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def error_answer(status: int, message: str, problems: list[dict[str, str]] | None = None) -> JSONResponse:
    """The one shape of an error: {"message": what is wrong, "errors": [{"field", "problem"}], "detail": the message}.

    "detail" is where clients of Jina, LlamaIndex and Haystack look for it.
    """
    return JSONResponse({"message": message, "errors": problems or [], "detail": message}, status_code=status)


class TooLong(Exception):
    """A body has more bytes than are read."""


class BodyLimit:
    """Reads a request's body before the application sees it: 413 when it is too long, 408 when it does not arrive."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            body = await asyncio.wait_for(self._body(scope, receive), self._limits.body_seconds)
        except TimeoutError:
            refused = error_answer(408, f"the body did not arrive within {self._limits.body_seconds:g} seconds")
        except TooLong:
            refused = error_answer(413, f"the body has more than {self._limits.body:,} bytes; --max-body takes more")
        else:
            return None if body is None else await self._app(scope, _replayed(body, receive), send)
        refused.headers["connection"] = "close"
        return await refused(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None when the client went away. What is too long is read to its end and forgotten, because
        most clients look for an answer only then; one that waits to be told to go on is told at once that it need not.
        """
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if b"expect" in headers and announced.isdigit() and int(announced) > self._limits.body:
            raise TooLong
        held, size, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            held += part
            if size > self._limits.body:
                held.clear()
        if size > self._limits.body:
            raise TooLong
        return bytes(held)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, as the application receives it; afterwards what the client does."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _require_json(content_type: str) -> None:
    """HTTPException 415 for a body that does not say that it is JSON: a browser sends one to any site unasked."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        found = f"{kind[:60]!r}" if kind else "none"
        raise HTTPException(415, f"expected a body with content-type application/json, found {found}")


class StrictRequest(Request):
    """A request whose body is what strict_json calls JSON."""

    async def json(self) -> Any:
        """The body's value. Raises HTTPException 400 that says what is wrong with it."""
        try:
            return strict_json.parse((await self.body()).decode("utf-8"), "the body")
        except ValueError as error:  # UnicodeDecodeError is one
            raise HTTPException(400, str(error)) from None


class StrictRoute(APIRoute):
    """A route whose requests are StrictRequests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the framework, given a StrictRequest."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if request.method == "POST":
                _require_json(request.headers.get("content-type", ""))
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
